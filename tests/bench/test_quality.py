"""The quality suite from end to end, at toy size; and that it needs no more than torch, numpy and mrcfile."""

import json
import shutil
import subprocess
import sys

import pytest

from deice.bench import quality
from deice.bench.micrographs import Micrographs
from deice.bench.quality import Plan, run, train
from deice.bench.suite import Extent
from deice.checkpoint import load_model, save_model
from deice.errors import UserError
from deice.pretrained import FOLDER
from deice.worlds import World

TOY = """
[data]
window = 32
[net]
name = "residual_cnn"
depth = 2
width = 4
[training]
steps = {steps}
batch = 2
precision = "fp32"
"""
EXTENT = Extent(train=2, test=2, size=96, levels=(0.2, 0.05))


@pytest.fixture(autouse=True)
def crowded(monkeypatch):
    monkeypatch.setitem(quality.SCENERIES, "micrographs", Micrographs(World(pixel_size=4.0, coverage=0.3)))
    monkeypatch.delenv("DEICE_TOPAZ_PYTHON", raising=False)


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "toy.toml").write_text(TOY.format(steps=5))
    (tmp_path / "variant.toml").write_text(TOY.format(steps=3))
    return Plan(extent=EXTENT,
                methods=("deice", "deice@full", "deice@halves", str(tmp_path / "variant.toml"), "gaussian:sigma=2"),
                recipe=tmp_path / "toy.toml", device="cpu")


def test_the_whole_suite(tmp_path, plan):
    out = tmp_path / "out"
    document = run(out, plan)
    assert document == json.loads((out / "quality.json").read_text())
    assert list(document["levels"]) == ["0.2", "0.05"]
    for level, table in document["levels"].items():
        assert table["facts"]["signal_to_noise"] == pytest.approx(float(level), rel=0.1)
        assert list(table["methods"]) == ["noisy", "pointwise", "gaussian", "wiener", "tegunov", "deice", "deice@full",
                                          "deice@halves", "variant", "gaussian:sigma=2"]
        for row in table["methods"].values():
            assert {"psnr", "ssim", "cc", "frc", "n", "se", "ap", "even_odd", "seconds", "gigabytes"} <= set(row)
            assert row["n"] == 2
        assert table["methods"]["deice"]["training_seconds"] > 0
        assert table["methods"]["deice"]["psnr"] == pytest.approx(table["methods"]["deice@full"]["psnr"], abs=1e-3)
        assert table["methods"]["deice"]["psnr"] != table["methods"]["deice@halves"]["psnr"]
        assert table["methods"]["variant"]["steps"] == 3
    page = (out / "quality.md").read_text()
    assert "## Signal/noise 0.05" in page
    assert (out / "quality.png").read_bytes().startswith(b"\x89PNG")
    assert len((out / "quality.csv").read_text().splitlines()) == 1 + 2 * 10
    assert (out / "snr_0.05" / "deice" / "scene_0002.mrc").is_file()


def test_what_is_finished_is_not_done_again_and_what_changed_is(tmp_path, plan):
    out = tmp_path / "out"
    plan = Plan(**{**vars(plan), "figure": False, "methods": ("deice",)})
    first = run(out, plan)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".mrc", ".safetensors")}
    assert run(out, plan)["levels"] == first["levels"]
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    plan.recipe.write_text(TOY.format(steps=4))
    run(out, plan)
    again = {path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    assert again
    assert all("deice" in path.relative_to(out).parts for path in again)


def test_the_packaged_model_stands_in_the_table_and_is_judged_anew_when_it_is_another(tmp_path, monkeypatch):
    out, packaged = tmp_path / "out", tmp_path / "packaged"
    alone = Plan(extent=Extent(train=0, test=1, size=96, levels=(0.2,)), methods=("pretrained",), figure=False)
    figures = run(out, alone)["levels"]["0.2"]["methods"]["pretrained"]
    assert {"psnr", "cc", "frc", "ap"} <= set(figures)
    shutil.copytree(FOLDER, packaged)
    model = load_model(packaged / "micrographs.safetensors")
    weights = {name: 0.9 * tensor for name, tensor in model.module.state_dict().items()}
    save_model(packaged / "micrographs.safetensors", weights, model.recipe, 2, model.facts)
    for module in ("deice.pretrained", "deice.bench.methods"):
        monkeypatch.setattr(f"{module}.FOLDER", packaged)
    assert run(out, alone)["levels"]["0.2"]["methods"]["pretrained"]["psnr"] != figures["psnr"]


def test_training_alone_leaves_runs_that_are_judged_later(tmp_path, plan):
    plan = Plan(**{**vars(plan), "figure": False, "methods": ("deice",)})
    train(tmp_path / "there", plan)
    assert not list((tmp_path / "there").rglob("figures.json"))
    for level in ("snr_0.2", "snr_0.05"):
        shutil.copytree(tmp_path / "there" / level, tmp_path / "here" / level)
    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "here").rglob("*.safetensors")}
    assert len(trained) == 2
    run(tmp_path / "here", plan)
    assert {path: path.stat().st_mtime_ns for path in trained} == trained


@pytest.mark.parametrize(("change", "said"), [
    ({"methods": ("nonsense",)}, "unknown"), ({"methods": ("topaz:unet",)}, "DEICE_TOPAZ_PYTHON"),
    ({"methods": ("no_such.toml",)}, "no_such.toml"), ({"suite": "movies"}, "expected one of"),
    ({"methods": ("a/x.toml", "b/x.toml")}, "two bear one name"),
    ({"with_ice": True, "suite": "tomograms"}, "with-ice"),
    ({"extent": Extent(train=0, test=1, size=96)}, "--train"),
])
def test_faults_are_found_before_any_work(tmp_path, plan, change, said):
    with pytest.raises(UserError, match=said):
        run(tmp_path / "out", Plan(**{**vars(plan), **change}))
    assert not (tmp_path / "out").exists()


def test_the_truth_with_ice_is_another_judge(tmp_path, plan):
    alone = {**vars(plan), "extent": Extent(train=0, test=1, size=96, levels=(0.2,)), "methods": ("noisy",),
             "figure": False}
    smooth = run(tmp_path / "out", Plan(**alone))["levels"]["0.2"]["methods"]["noisy"]
    iced = run(tmp_path / "out", Plan(**{**alone, "with_ice": True}))["levels"]["0.2"]["methods"]["noisy"]
    assert iced["cc"] > smooth["cc"]
    assert run(tmp_path / "out", Plan(**alone))["levels"]["0.2"]["methods"]["noisy"]["cc"] == smooth["cc"]


def test_the_bench_runs_without_command_line_pages_and_figures():
    program = """
import sys
for name in ("cyclopts", "rich", "jinja2", "matplotlib", "tifffile", "imagecodecs"):
    sys.modules[name] = None
import deice.bench.quality, deice.bench.comparison
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
