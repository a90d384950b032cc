"""The table of single tomograms: rows kept and not repeated, figures by both conventions, detectors set apart."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deice.bench.rivals.figures import CLIPS, THRESHOLDS, judged, psnr_minmax, shells, stretched
from deice.bench.rivals.legs import Leg, run, tables
from deice.bench.rivals.methods import METHODS, ORDER, RIVAL_BUDGET
from deice.bench.rivals.page import PUBLISHED
from deice.bench.rivals.rows import Plan, Row, left
from deice.bench.rivals.scenes import Scene, Scenes, completed, known
from deice.bench.rivals.segmenters import SEGMENTER, held_out, learnt_part, read_answer, save_answer, segmented
from deice.bench.rivals.tables import against, with_membranes
from deice.bench.rivals.work import FILTERS, work
from deice.cli import main
from deice.errors import BatchFailure, RecipeFault
from deice.image import Geometry
from deice.metrics import correlation
from deice.ops.fourier import filter_radially, from_half_transform, half_transform
from deice.recipe import completed as completed_recipe
from deice.recipe import read_recipe, to_table

CPU = torch.device("cpu")
TINY = Plan(scenes=2, size=(32, 40, 40), levels=(0.2,), methods=("raw", "truth"), device="cpu", segmenter=0)
RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all rows of TINY."""
    out = tmp_path_factory.mktemp("tiny")
    run(out, TINY)
    return out


@pytest.fixture(scope="module")
def scene(tiny: Path) -> Scene:
    """One of its scenes."""
    return TINY.scenes_in(tiny).open(0, 0.2)


def test_rows_are_kept_and_not_computed_again(tiny: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (tiny / "rows").iterdir()}
    assert len(before) == 4
    lost = tiny / "rows" / "truth__scene_2__snr_0.2.json"
    lost.unlink()
    document = run(tiny, TINY)
    assert document["left"] == []
    after = {path: path.stat().st_mtime_ns for path in (tiny / "rows").iterdir()}
    assert {path for path in before if before[path] != after[path]} == {lost}


def test_tables_of_whatever_rows_there_are(tiny: Path) -> None:
    plan = replace(TINY, minutes=0.0, scenes=3, methods=("raw", "truth", "f2fd"))
    document = run(tiny, plan)
    assert "f2fd__scene_1__snr_0.2" in document["left"]
    assert "raw__scene_3__snr_0.2" in document["left"]
    assert document["tables"]["0.2"]["methods"]["raw"]["n"] == 2
    page = (tiny / "tomograms.md").read_text()
    assert "| raw |" in page
    assert "F2Fd, faithful | 0.10 / 6.98" in page
    assert (tiny / "tomograms.csv").read_text().count("\n") == 5
    assert (tiny / "tomograms.png").stat().st_size > 0


def test_rows_of_other_settings_do_not_count(tiny: Path, tmp_path: Path) -> None:
    row = Row("recorrupted", 0, 0.2)
    found = json.loads((tiny / "rows" / "raw__scene_1__snr_0.2.json").read_text())
    row.file(tmp_path).parent.mkdir()
    row.file(tmp_path).write_text(json.dumps(found | {"settings": {"scheme": {"name": "recorrupted", "strength": 9}}}))
    assert row.kept(tmp_path) is None


def test_another_size_is_refused(tiny: Path) -> None:
    with pytest.raises(RecipeFault, match=r"describes other scenes; expected"):
        run(tiny, replace(TINY, size=(32, 40, 48)))


def test_a_leg_begins_only_what_fits() -> None:
    plan = Plan(minutes=1.0, scenes=1, levels=(0.2,), methods=("raw", "recorrupted", "f2fd"), budget=30.0)
    leg = Leg(Path(), plan, plan.rows())
    assert leg.next_row() == Row("recorrupted", 0, 0.2)  # 30 s and what comes beside; f2fd would take 90 s
    assert leg.next_row() == Row("raw", 0, 0.2)
    assert leg.next_row() is None
    assert [row.method for row in leg.waiting] == ["f2fd"]


def test_a_row_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    plan = replace(TINY, scenes=1)
    scenes = plan.scenes_in(tmp_path)
    scenes.draw(0, 0.2)
    (tmp_path / "slices").write_text("in the way of a folder")
    with pytest.raises(BatchFailure) as caught:
        run(tmp_path, plan)
    assert [name for name, _ in caught.value.failures] == ["rows/raw__scene_1__snr_0.2", "rows/truth__scene_1__snr_0.2"]
    assert len(tables(tmp_path, plan)["left"]) == 2


def test_ours_learns_and_is_judged(scene: Scene) -> None:
    before, _ = work("raw", scene, 3.0, CPU, 0)
    after, answer = work("recorrupted", scene, 3.0, CPU, 0)
    assert answer.shape == scene.truth.shape
    assert after["training"]["stopped"] == "time"
    assert after["training"]["steps"] > 0
    assert after["figures"]["minutes"] > 2.0 / 60
    assert before["training"] == {}
    assert set(after["figures"]) == set(before["figures"])


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.table is not None])
def test_every_recipe_holds_on_a_volume(name: str) -> None:
    method = METHODS[name]
    recipe = completed_recipe(method.recipe(method.budget(20.0), (-60.0, 60.0), 1), 3)
    assert recipe.training.minutes == pytest.approx(20 / 60 * (1 if method.ours else RIVAL_BUDGET))
    assert (recipe.data.tilt_range is not None) == bool(getattr(recipe.scheme, "tilted", False))
    assert bool(recipe.training.patience) is not method.ours
    assert (recipe.scheme.views_needed == 1) or method.given == "halves"


@pytest.mark.parametrize(("name", "file"), [("f2fd", "tomogram_f2fd"), ("cryocare", "tomograms_cryocare"),
                                            ("self2self", "tomograms_self2self")])
def test_published_settings_are_those_of_the_recipes(name: str, file: str) -> None:
    ours = to_table(completed_recipe(METHODS[name].recipe(1.0, (-60.0, 60.0), 0), 3))
    published = to_table(completed_recipe(read_recipe(RECIPES / f"{file}.toml"), 3))
    assert ours["net"] == published["net"]
    assert ours["scheme"] == published["scheme"]
    assert ours["data"]["normaliser"] == published["data"]["normaliser"]
    for key in ("optimiser", "lr", "batch", "loss", "weight_decay"):
        assert ours["training"][key] == published["training"][key]


def test_every_method_has_its_place() -> None:
    assert sorted(ORDER) == sorted(METHODS)
    assert set(PUBLISHED) <= set(METHODS)
    assert set(FILTERS) == {name for name, method in METHODS.items() if method.table is None}


def test_min_max_convention() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(12, 13, 14, generator=generator) for _ in range(2))
    x, y = ((v - v.min()) / (v.max() - v.min()) for v in (a.double(), b.double()))
    assert psnr_minmax(a, b) == pytest.approx(-10 * math.log10(float(((x - y) ** 2).mean())))
    assert psnr_minmax(5 * a - 3, b) == pytest.approx(psnr_minmax(a, b))
    assert (float(stretched(a).min()), float(stretched(a).max())) == (0, 1)


def test_the_whole_scene_is_what_the_tilts_measured_and_the_rest_through_the_same_lens() -> None:
    density = torch.randn(24, 32, 32, generator=torch.Generator().manual_seed(1))
    whole = filter_radially(density, lambda f: torch.where(f <= 0.5, -torch.exp(-8 * f), 0.0), axes=3)
    measured = known(density.shape, (-60.0, 60.0))
    truth = from_half_transform(half_transform(whole, 3) * measured, density.shape)
    found = completed(truth, density, (-60.0, 60.0))
    kept = half_transform(found, 3)[measured.bool()]
    assert torch.allclose(kept, half_transform(truth, 3)[measured.bool()], atol=1e-3)
    assert float((found - whole).norm() / whole.norm()) < 0.05
    assert float((truth - whole).norm() / whole.norm()) > 0.3


def test_shells_inside_and_outside_the_wedge_are_told_apart() -> None:
    generator = torch.Generator().manual_seed(2)
    scene, other = (torch.randn(32, 48, 48, generator=generator) for _ in range(2))
    inside = 1 - known(scene.shape, (-60.0, 60.0))
    spectrum, foreign = half_transform(scene, 3), half_transform(other, 3)
    half_right = from_half_transform(spectrum * (1 - inside) + foreign * inside, scene.shape)
    deep = 1 - known(scene.shape, (-70.0, 70.0))
    assert float(shells(scene, scene, deep)[4:].min()) == pytest.approx(1)
    assert float(shells(half_right, scene, 1 - inside)[4:].mean()) > 0.8
    assert abs(float(shells(half_right, scene, deep)[4:].mean())) < 0.2


def test_figures_of_the_truth_itself(scene: Scene) -> None:
    found = judged(scene.truth, scene, CPU)
    assert found["figures"]["psnr"] is None
    assert found["figures"]["cc"] == pytest.approx(1)
    assert found["figures"]["fsc_measured"] == pytest.approx(1)
    assert found["figures"]["fsc_wedge"] < 0.5
    assert judged(scene.whole, scene, CPU)["figures"]["fsc_wedge"] == pytest.approx(1)


def test_membranes_by_every_setting(scene: Scene) -> None:
    labels = np.zeros(scene.truth.shape, np.int8)
    labels[:, 19:22] = 1
    sheet = -torch.from_numpy(labels).float()
    noise = torch.randn(sheet.shape, generator=torch.Generator().manual_seed(3))
    found = judged(sheet + noise, replace(scene, labels=labels), CPU)["membranes"]
    assert len(found) == len(CLIPS) * len(THRESHOLDS)
    assert max(one["surface_dice"] for one in found.values()) > 0.8
    assert judged(sheet, replace(scene, labels=0 * labels), CPU)["membranes"] == {}


def test_no_scene_chooses_its_own_detector() -> None:
    def row(scene: int, low: float, high: float) -> dict:
        return {"method": "raw", "level": 0.1, "scene": scene, "figures": {}, "membranes": {
            "0.4": {"dice": low, "surface_dice": low}, "0.6": {"dice": high, "surface_dice": high}}}

    rows = [row(0, 0.9, 0.1), row(1, 0.2, 0.5), row(2, 0.3, 0.4)]
    assert with_membranes(rows[0], rows)["figures"] == {"dice": 0.1, "surface_dice": 0.1}
    assert with_membranes(rows[1], rows)["detector"] == "0.4"
    assert with_membranes(rows[0], rows[:1])["figures"]["dice"] is None


def test_gains_are_taken_scene_by_scene() -> None:
    figures = [("recorrupted", 0, 0.9), ("recorrupted", 1, 0.7), ("f2fd", 0, 0.8), ("f2fd", 1, 0.5), ("f2fd", 2, 0.0)]
    names = ("psnr_minmax", "ssim_minmax", "psnr", "ssim", "cc_whole", "fsc_measured", "fsc_wedge", "dice",
             "surface_dice", "net_dice", "net_surface_dice")
    rows = [{"method": method, "scene": scene, "figures": dict.fromkeys(names) | {"cc": cc}}
            for method, scene, cc in figures]
    found = against("f2fd", rows)
    assert list(found) == ["cc"]
    assert found["cc"]["n"] == 2
    assert found["cc"]["mean"] == pytest.approx(0.15)
    assert found["cc"]["se"] == pytest.approx(0.05)
    assert found["cc"]["errors"] == pytest.approx(3)


def test_scenes_are_the_same_when_drawn_again(tmp_path: Path, scene: Scene) -> None:
    again = Scenes(tmp_path, (32, 40, 40), 1, (0.2,))
    again.draw(0, 0.2)
    assert correlation(again.open(0, 0.2).even, scene.even) > 0.9999
    assert correlation(again.open(0, 0.2).odd, scene.even) < 0.9
    assert again.missing() == []


def sheets(seed: int, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """A volume with dark sheets in noise, and their labels."""
    rng, labels = np.random.default_rng(seed), np.zeros((32, 48, 64), np.int8)
    for y in rng.choice(np.arange(6, 42, 8), 2, replace=False):
        labels[:, y : y + 4] = 1
    return (rng.normal(0, noise, labels.shape) - 2 * labels).astype(np.float32), labels


def test_a_net_learns_membranes_from_other_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SEGMENTER, "net", {"name": "unet", "size": 4, "depth": 1})
    monkeypatch.setitem(SEGMENTER, "data", {"window": [24], "axes": "zyx", "validation": 0.25})
    geometry = Geometry().with_pixel_size(10.0)
    found = segmented(sheets(0), [sheets(1), sheets(2)], geometry, 4.0, CPU, 0)
    assert found["figures"]["net_surface_dice"] > 0.7
    assert 0 < found["threshold"] < 1
    own, labels = sheets(0)
    bare = segmented((own, 0 * labels), [sheets(1)], geometry, 4.0, CPU, 0)
    assert bare["figures"] == {"net_dice": None, "net_surface_dice": None}


def test_what_is_held_out_is_not_learnt_from() -> None:
    volume = np.arange(3 * 4 * 50).reshape(3, 4, 50)
    assert np.array_equal(np.concatenate([learnt_part(volume), held_out(volume)], axis=2), volume)
    assert held_out(volume).shape == (3, 4, 12)


def test_segmentations_wait_for_the_answers_of_all_scenes(tiny: Path) -> None:
    plan = replace(TINY, segmenter=1.0)
    row = plan.segmentations()[0]
    assert len(plan.segmentations()) == len(plan.rows())
    assert [each.scene for each in row.answers(plan)] == [0, 1]
    leg = Leg(tiny, plan, [row, *plan.rows()])
    assert leg.next_row() == plan.rows()[0]  # the segmentation needs rows that wait
    assert Leg(tiny, plan, [row]).next_row() == row
    assert replace(plan, scenes=1).segmentations() == []


def test_an_answer_that_is_gone_is_made_again_for_a_segmentation(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "tiny")
    plan, lost = replace(TINY, segmenter=1.0), tmp_path / "tiny" / "answers" / "raw__scene_2__snr_0.2.npy"
    lost.unlink()
    assert left(tmp_path / "tiny", TINY) == []
    wanted = left(tmp_path / "tiny", plan)
    assert [row.name for row in wanted if row.of == "rows"] == ["raw__scene_2__snr_0.2"]
    document = run(tmp_path / "tiny", plan)
    assert document["left"] == []
    assert lost.exists()
    assert "Dice, net" in (tmp_path / "tiny" / "tomograms.md").read_text()


def test_answers_are_kept_in_standard_deviations(tmp_path: Path) -> None:
    answer = 1e-6 * torch.randn(8, 9, 10, generator=torch.Generator().manual_seed(4)) + 7
    save_answer(tmp_path / "answers" / "one.npy", answer.double())
    kept = read_answer(tmp_path / "answers" / "one.npy")
    assert kept.std() == pytest.approx(1, abs=0.01)
    assert [path.name for path in (tmp_path / "answers").iterdir()] == ["one.npy"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
def test_every_method_on_a_gpu(tmp_path: Path) -> None:
    plan = Plan(scenes=1, size=(64, 96, 96), levels=(0.15,), budget=2.0, parallel=5, device="cuda")
    document = run(tmp_path, plan)
    assert document["left"] == []
    assert document["took"]["gpus"] == torch.cuda.device_count()
    rows = document["tables"]["0.15"]["methods"]
    assert rows["raw"]["cc"] > 0.3
    for row in rows.values():
        assert -1 <= row["cc"] <= 1.001  # in two seconds some have learnt nothing
        assert row["gpu"] is not None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
def test_membranes_by_a_net_on_a_gpu() -> None:
    geometry, device = Geometry().with_pixel_size(10.0), torch.device("cuda", 0)
    found = segmented(sheets(0), [sheets(1), sheets(2)], geometry, 5.0, device, 0)
    assert found["figures"]["net_surface_dice"] > 0.9


@pytest.mark.parametrize(("words", "said"), [
    (["--methods", "raw,f2df"], "method 'f2df' is unknown"),
    (["--size", "8", "40", "40"], "expected three numbers of 32 or more"),
    (["--levels", "0.1,none"], "expected numbers"),
    (["--levels", "0"], "expected signal/noise ratios above 0"),
    (["--minutes", "-1"], "expected 0 or more"),
    (["--budget", "0"], "seconds above 0"),
    (["--segmenter", "-1"], "seconds of 0 or more"),
])
def test_faults_are_one_line(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "tomograms", "-o", str(tmp_path / "out"), *words])
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not (tmp_path / "out").exists()


def test_what_decides_comes_first_and_filters_fit_in_at_the_end() -> None:
    order = [row.method for row in Plan(scenes=2, levels=(0.2, 0.1)).rows()]
    assert len(order) == 4 * len(METHODS)
    assert set(order[:12]) == {"recorrupted", "noise2noise", "f2fd"}
    assert order.index("noise2void_z") > max(n for n, name in enumerate(order) if name == "isonet")
    assert set(order[-20:]) == set(FILTERS)
