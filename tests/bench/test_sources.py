"""The source documents' tables from end to end, at toy size: kept, resumed, cut off, several rows at a time."""

import json
import math
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deice.bench.sources import TABLES, Plan, run
from deice.bench.sources import work as work_module
from deice.bench.sources.__main__ import main
from deice.bench.sources.data import MOVIES, SCALES, Pictures, Scale, in_unit_range
from deice.bench.sources.legs import Leg, chosen, pictures_in, tables
from deice.bench.sources.rows import RECIPES, ROWS, Row, recipe_of
from deice.bench.sources.tables import foot, methods_of
from deice.bench.sources.work import of_halves, of_pair
from deice.cli import run as command
from deice.errors import BatchFailure, RecipeFault, UserError
from deice.recipe import read_recipe, to_table
from deice.worlds import World

ROOT = Path(__file__).resolve().parents[2]
TINY = Scale(3, 2, 128, World(pixel_size=4.0, coverage=0.3), 0.003, 2)
ON_CPU = Plan(only=("v28f", "n2n"), scale="small", device="cpu")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Pictures:
    drawn = Pictures(tmp_path_factory.mktemp("sources") / "data", TINY)
    drawn.build()
    return drawn


@pytest.fixture
def folder(pictures, tmp_path, monkeypatch) -> Path:
    """A folder whose pictures are drawn already, and U-Nets that a CPU trains at once."""
    monkeypatch.setitem(SCALES, "small", TINY)
    for name in ("movies_default", "levels"):
        monkeypatch.setitem(RECIPES, name, RECIPES[name] | {"net": {"name": "unet", "size": 4, "depth": 2}})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "data").symlink_to(pictures.folder)
    return tmp_path / "out"


def kept(folder: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_mtime_ns for path in (folder / "rows").glob("*.json")}


def test_rows_are_kept_and_the_tables_follow_them(folder):
    document = run(folder, ON_CPU)
    assert document["left"] == []
    assert set(kept(folder)) == {row.name for row in chosen(ON_CPU)}
    assert list(document["tables"]) == ["n2n", "v28f"]
    assert document == json.loads((folder / "sources.json").read_text())
    methods = document["tables"]["v28f"]["methods"]
    assert list(methods) == ["**theirs**: good", "**theirs**: excellent", "noisy", "pointwise", "gaussian", "wiener",
                             "U-Net 32/3"]
    assert methods["U-Net 32/3"]["n"] == 2
    assert methods["noisy"]["se"]["psnr"] > 0
    assert (folder / "tables" / "n2n.md").read_text() in (folder / "sources.md").read_text()
    assert len((folder / "sources.csv").read_text().splitlines()) == 1 + 7 + 8
    stamps = kept(folder)
    assert run(folder, ON_CPU)["tables"] == document["tables"]
    assert kept(folder) == stamps
    assert methods["gaussian"]["over_wiener"] < 0 == methods["wiener"]["over_wiener"]
    (folder / "rows" / "levels_unet.json").unlink()
    run(folder, ON_CPU)
    again = kept(folder)
    assert {name for name in stamps if again[name] != stamps[name]} == {"levels_unet"}


def test_a_row_of_another_recipe_is_computed_anew(folder, monkeypatch):
    plan = replace(ON_CPU, only=("v28f",))
    run(folder, plan)
    stamps = kept(folder)
    changed = {**RECIPES["levels"], "training": {**RECIPES["levels"]["training"], "lr": 5e-4}}
    monkeypatch.setitem(RECIPES, "levels", changed)
    assert tables(folder, plan)["left"] == ["levels_unet"]
    run(folder, plan)
    assert {name for name, stamp in kept(folder).items() if stamp != stamps[name]} == {"levels_unet"}


def test_a_leg_begins_no_row_that_would_not_fit(folder):
    plan = replace(ON_CPU, minutes=1e-3)
    assert run(folder, plan)["left"] == [row.name for row in chosen(plan)]
    assert kept(folder) == {}
    leg = Leg(folder, replace(ON_CPU, minutes=1.0, parallel=3), [])
    row = Row("filters", (), "clean")  # 30 s
    assert leg.expected(row) == 90
    leg.waiting = [row]
    assert leg.next_row() is None
    leg.finish(row, 30.0)
    assert leg.next_row() is row


def test_a_row_that_states_a_time_runs_alone(tmp_path):
    timed, other = (next(row for row in ROWS if row.alone is alone) for alone in (True, False))
    leg = Leg(tmp_path, replace(ON_CPU, parallel=4), [timed, other])
    leg.running["another"] = (other, None, 0.0)
    assert leg.next_row() is other
    leg.running = {timed.name: (timed, None, 0.0)}
    assert leg.next_row() is None


def test_rows_at_a_time_and_a_failure_that_is_named(tmp_path):
    """Each in a process; one whose pictures are gone fails, the other is kept, the tables are written."""
    plan = replace(ON_CPU, only=("v28f",), parallel=2)
    drawn = pictures_in(tmp_path, plan)
    drawn.build()
    (drawn.folder / "train" / "levels" / "input" / "scene_0002.mrc").unlink()
    with pytest.raises(BatchFailure) as failed:
        run(tmp_path, plan)
    ((name, why),) = failed.value.failures
    assert name == "levels_unet"
    assert "scene_0002" in why
    assert set(kept(tmp_path)) == {"filters_levels"}
    assert "wiener" in (tmp_path / "tables" / "v28f.md").read_text()


def test_the_seed_and_the_scale_decide_the_pictures(folder, pictures, tmp_path):
    with pytest.raises(RecipeFault, match="other pictures"):
        run(folder, replace(ON_CPU, scale="full"))
    with pytest.raises(RecipeFault, match="other pictures"):
        Pictures(pictures.folder, TINY, seed=1).build()
    again = Pictures(tmp_path / "again", replace(TINY, train=2, test=1))
    again.build()
    for kind in ("clean", "shot", "levels"):
        for one, other in zip(pictures.pair(kind, "scene_0001"), again.pair(kind, "scene_0001"), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_pictures_lie_between_0_and_1_and_their_noise_is_as_stated(pictures):
    for kind, sigma in (("clean", 0.25), ("shot", 0.262), ("levels", 0.1)):
        noisy, target = pictures.pair(kind, "scene_0001")
        assert 0 <= float(noisy.min()) < float(noisy.max()) <= 1
        inside = (target > 0.3) & (target < 0.7) if kind == "levels" else (target > 0.45) & (target < 0.55)
        assert float((noisy - target)[inside].std()) == pytest.approx(sigma, rel=0.25)
        assert float(target.max()) == 1
    noisy, target = pictures.pair("shot", "scene_0002")
    assert of_pair(noisy, noisy, target)["psnr"] == pytest.approx(12.81, abs=0.1)
    values = np.array([-3.0, 1, 2, 100], np.float32)
    np.testing.assert_allclose(in_unit_range(values), (values / np.percentile([1, 2, 100], 95)).clip(0, 1), atol=1e-6)


def test_halves_of_the_full_scale_correlate_as_theirs():
    from deice.bench.micrographs import Micrographs
    from deice.bench.suite import Extent

    counted = Micrographs().draw(Extent(1, 1, 512, 0, (MOVIES,)), "test", 0, (MOVIES,)).levels[MOVIES]
    assert np.corrcoef(counted.even.ravel(), counted.odd.ravel())[0, 1] == pytest.approx(0.067, abs=0.006)


def test_figures_of_pairs_and_halves_against_what_is_known():
    rng = np.random.default_rng(0)
    target = torch.from_numpy(rng.random((64, 64)).astype(np.float32))
    noise = torch.from_numpy(rng.normal(0, 0.25, (64, 64)).astype(np.float32))
    found = of_pair(target + noise / 2, target + noise, target)
    assert found["gain"] == pytest.approx(20 * math.log10(2))
    assert found["mse"] == pytest.approx(float((noise / 2).square().mean()), rel=1e-5)
    power = [np.log1p(np.abs(np.fft.fft2(x.double().numpy())) ** 2) for x in (target + noise / 2, target)]
    assert found["fourier"] == pytest.approx(np.mean((power[0] - power[1]) ** 2), rel=1e-6)

    truth = torch.from_numpy(rng.normal(0, 0.1, (64, 64)).astype(np.float32))
    halves = tuple(truth + torch.from_numpy(rng.normal(0, 1, (64, 64)).astype(np.float32)) for _ in range(2))
    perfect = of_halves((truth, truth), halves, truth)
    assert perfect["gain_other"] == pytest.approx(3.0, abs=0.2)  # the other half's own noise is the limit
    assert perfect["even_odd"] == pytest.approx(1)
    assert abs(perfect["removed_noise"]) < 0.05
    assert perfect["psnr"] > 100
    assert of_halves(halves, halves, truth)["removed_noise"] is None


def test_a_loss_that_is_not_finite_is_a_result(pictures, tmp_path, monkeypatch):
    def breaking_off(*arguments, **options):
        for step in train(*arguments, **options):
            yield step
            if step.validation is not None:
                raise UserError("the loss is nan at step 2")

    train = work_module.run
    monkeypatch.setattr(work_module, "run", breaking_off)
    row = Row("wild", ("v32_clean",), "clean", "depths", {"net": {"depth": 2}, "training": {"validate_every": 2}})
    found = work_module.work(row, pictures, tmp_path, torch.device("cpu"))
    assert found["training"]["diverged"] == "the loss is nan at step 2"
    assert found["training"]["steps"] == 2
    assert found["methods"]["wild"]["n"] == 2
    monkeypatch.setattr(work_module, "run", lambda *_, **__: (_ for _ in ()).throw(UserError("at once")))
    with pytest.raises(UserError, match="at once"):
        work_module.work(row, pictures, tmp_path, torch.device("cpu"))


def test_seeds_of_one_depth_stand_in_one_line():
    table = next(table for table in TABLES if table.name == "v32_clean")
    rows = {}
    for seed, gain in ((0, 4.0), (1, 4.5)):
        name = f"depth_3_clean_seed_{seed}"
        rows[name] = {"row": name, "alone": False, "training": {"spread": 0.1 + seed, "seconds": 1.0, "diverged": None},
                      "methods": {name: {"gain": gain, "n": 8, "se": {"gain": 0.1}}}}
    line = methods_of(table, rows)["3 layers"]
    assert (line["gain"], line["between_seeds"], line["spread"]) == (4.25, 0.5, 1.1)
    assert methods_of(table, {}) == {}


def test_the_better_of_two_mixes_is_named():
    table = next(table for table in TABLES if table.name == "v31")
    rows = {}
    for name, ssim in (("loss_ssim", 0.9), ("loss_mix_two", 0.5), ("loss_mix_three", 0.6)):
        rows[name] = {"row": name, "alone": False, "training": {"spread": 0.0, "seconds": 1.0, "diverged": None},
                      "methods": {name: {"gain": 1.0, "ssim": ssim, "se": {}}}}
    assert list(methods_of(table, rows)) == ["mse+0.1*ssim", "mse+0.1*ssim+gradient",
                                             "mse+0.05*fourier+0.1*ssim+gradient, the best mix"]


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_of_every_kind_of_row_stands_among_the_recipes(name):
    """All that a row sets; a file may say more of what rows leave open."""
    written = to_table(read_recipe(ROOT / "recipes" / f"sources_{name}.toml"))
    for section, wanted in to_table(recipe_of(name)).items():
        found = {key: value for key, value in written[section].items() if key in wanted and key != "inputs"}
        assert found == {key: value for key, value in wanted.items() if key != "inputs"}


def test_every_row_has_a_recipe_a_table_and_a_place_in_it():
    names = {table.name for table in TABLES}
    placed = {name for table in TABLES for several in table.lines.values() for name in several}
    placed |= {table.filters[0] for table in TABLES}
    for row in ROWS:
        assert row.recipe in {"", *RECIPES}
        assert names >= {table for table in names if table.startswith(row.tables)}
        assert any(table.startswith(row.tables) for table in names)
    assert placed == {row.name for row in ROWS if not row.timed}
    assert sum(row.seconds(SCALES["full"]) for row in ROWS) < 1000


@pytest.mark.parametrize(("words", "said"), [
    (["--only", "v99"], "table 'v99' is unknown"), (["--minutes", "0"], "minutes is 0"),
    (["--parallel", "0"], "parallel is 0; expected 1 or more"),
])
def test_faults_are_one_line(tmp_path, capsys, words, said):
    assert command(["bench", "sources", "-o", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err
    assert main(["--out", str(tmp_path / "out"), *words]) == 2
    assert not (tmp_path / "out").exists()


def test_without_command_line_pages_and_figures():
    program = """
import sys
for name in ("cyclopts", "rich", "jinja2", "matplotlib", "tifffile", "imagecodecs"):
    sys.modules[name] = None
import deice.bench.sources.__main__
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_foot_says_what_it_took():
    took = {"rows": 3, "leg_seconds": 61.4, "legs": 2, "row_seconds": 100.0, "parallel": 6}
    said = foot({"rows": 33, "machine": "a machine", "took": took})
    assert "3 of 33 rows" in said
    assert "61 s in 2 legs" in said
    assert "up to 6 at a time" in said


def test_the_page_has_a_place_for_every_table():
    filled = runpy.run_path(str(ROOT / "docs" / "make_sources.py"))["filled"]
    names = [*(table.name for table in TABLES), "foot"]
    page = filled((ROOT / "docs" / "benchmarks" / "sources.md").read_text(), {name: f"of {name}" for name in names})
    for name in names:
        assert f"<!-- {name} -->\nof {name}\n<!-- end of {name} -->" in page
    with pytest.raises(AssertionError, match="no marks for another"):
        filled(page, {"another": ""})
