"""The pages say what is so: generated parts are up to date, and every command and recipe that they show runs."""

import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds_for_tests import views

import deice
from deice.checkpoint import Model, load_model
from deice.cli import run
from deice.image import Geometry
from deice.recipe import completed, from_table, read_recipe, read_table, to_table
from deice.weight_dumps import Layout, write_dumps
from deice.worlds.drawn import WORLDS

ROOT = Path(__file__).resolve().parents[1]
GUIDES = ("docs/micrographs.md", "docs/tomograms.md")
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
TOY = {"training": "--steps 3 --net unet:size=4,depth=2 --patch 16 --batch 2", "image": "--steps 3 --recipe toy.toml"}


def commands(page: str, fence: str) -> list[str]:
    """The lines of the blocks of `page` that begin with `fence`, one command a line."""
    blocks = re.findall(rf"{re.escape(fence)}\n(.*?)\n```", (ROOT / page).read_text(), re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def shortened(command: str) -> list[str]:
    """The words of a command, its minutes of training made a few steps."""
    toy = TOY["image" if " denoise " in command else "training"]
    return shlex.split(re.sub(r"--minutes \d+", toy, command), comments=True)


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """A folder with what the guides start from: movies and their gain, averages, halves of tomograms, a lone one."""
    deice.simulate("movies", 3, tmp_path, size=(96, 96), frames=4)
    deice.simulate("micrographs", 3, tmp_path / "world", size=(96, 96), frames=4)
    for path in (tmp_path / "world" / "micrographs").iterdir():
        deice.write(tmp_path / "micrographs" / path.name, deice.read(path))
    voxel = Geometry().with_pixel_size(10.0)
    for number in range(2):
        for half, view in enumerate(views((16, 32, 32), seed=number)[1], 1):
            deice.write(tmp_path / "tomograms" / f"rec_{number}_half{half}.mrc", view, voxel)
    deice.write(tmp_path / "lone.mrc", views((16, 32, 32), count=1)[1][0], voxel)
    deice.write(tmp_path / "micrograph.mrc", views((64, 64), count=1)[1][0], voxel)
    deice.write(tmp_path / "tomogram.mrc", views((16, 32, 32), count=1)[1][0], voxel)
    for name in ("rec_0", "rec_1", "lone"):
        tilts = tmp_path / "tilts" / f"{name}.tlt"
        tilts.parent.mkdir(exist_ok=True)
        tilts.write_text("-60\n0\n60\n")
    (tmp_path / "toy.toml").write_text('[data]\nwindow = [16]\n[net]\nname = "unet"\nsize = 2\ndepth = 1\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_all(lines: list[str], capsys) -> None:
    for line in lines:
        program, *words = shortened(line)
        assert program == "deice"
        assert run(words) == 0, f"{line}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("page", GUIDES)
def test_the_commands_of_a_guide_run_one_after_the_other(page, desk, capsys):
    lines = commands(page, "<!-- executed -->\n```bash")
    assert len(lines) >= 5
    run_all(lines, capsys)
    assert list(desk.glob("denoised*/*.mrc"))
    assert (desk / "report.html").stat().st_size > 10_000


def test_the_commands_on_export_run(desk, capsys):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    deice.split(sorted((desk / "movies").iterdir()), "halves", gain="gain.mrc")
    recipe = completed(from_table({"net": {"name": "residual_cnn"}}), 2)
    model = Model(recipe.network.build(2), 2, None, recipe, {})
    write_dumps(desk / "saved_models" / "n2n_real" / "epoch_0009", model, Layout("c", mirrored=True))
    (desk / "saved_models" / "n2n_real" / "epoch_0009" / "deice.json").unlink()  # theirs says nothing
    run_all(commands("docs/export.md", "<!-- executed -->\n```bash"), capsys)
    assert len(list(desk.glob("denoised*/*.mrc"))) == 6
    again = load_model("again.safetensors").module.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.module.state_dict().items())


def test_every_block_of_a_guide_is_executed():
    for page in (*GUIDES, "docs/export.md"):
        text = (ROOT / page).read_text()
        assert text.count("```bash") == text.count("<!-- executed -->\n```bash")


def test_the_commands_of_the_readme_run(desk, capsys):
    lines = [line for line in commands("README.md", "```") if line.startswith("deice ")]
    assert [shlex.split(line)[1] for line in lines[:5]] == ["split", "train", "denoise", "measure", "report"]
    run_all(lines, capsys)


def test_the_python_of_the_readme_runs(desk):
    (code,) = re.findall(r"```python\n(.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    deice.split(sorted((desk / "movies").iterdir()), "halves", gain="gain.mrc")
    code = code.replace("movie.tif", "movies/movie_0001.mrc")
    toy = '{"training": {"steps": 2}, "data": {"window": 16}, "net": {"name": "unet", "size": 2, "depth": 1}}'
    code = code.replace('{"training": {"minutes": 30}}', toy)
    names: dict = {}
    exec(code, names)
    assert names["denoised"].views.shape == (1, 96, 96)
    assert -1 <= names["figures"]["halves"]["even_odd_before"] <= 1
    assert deice.read("denoised.mrc").pixel_size == pytest.approx(1.5)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_complete_and_trains(path, desk, capsys):
    recipe = read_recipe(path)
    assert recipe.net is not None
    axes = WORLDS[recipe.data.world].axes if recipe.data.world else 3 if recipe.data.axes == "zyx" else 2
    assert bool(recipe.data.inputs) != bool(recipe.data.world)
    assert len(recipe.data.window) == axes
    if recipe.data.inputs == ("halves",):
        deice.split(sorted((desk / "movies").iterdir()), "halves", gain="gain.mrc")
    toy = "-o run --steps 2 --net unet:size=2,depth=1 --patch 16 --batch 2"
    assert run(["train", "--recipe", str(path), *toy.split()]) == 0, capsys.readouterr().err
    ran = read_recipe(desk / "run" / "recipe.toml")
    assert ran.scheme == recipe.scheme
    assert (ran.data.inputs, ran.data.target, ran.training.lr) == (
        recipe.data.inputs, recipe.data.target, recipe.training.lr)  # fmt: skip
    assert np.isfinite(deice.denoise(views((16, 32, 32) if axes == 3 else (64, 64), 1)[1], "run").views).all()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_states_every_setting_and_one_length(path):
    """So that a default that changes later does not change what a recipe means."""
    written, complete = read_table(path), to_table(read_recipe(path))
    assert {name: set(values) for name, values in written.items()} == {
        name: set(values) for name, values in complete.items()}  # fmt: skip
    assert len({"steps", "epochs", "minutes"} & set(written["training"])) == 1


def test_the_command_line_page_is_what_the_program_prints():
    made = runpy.run_path(str(ROOT / "docs" / "make_cli.py"))
    assert (ROOT / "docs" / "cli.md").read_text() == made["page"](), "run `make docs`"


@pytest.mark.parametrize(("page", "made"), [("README.md", "tree"), ("ARCHITECTURE.md", "floors")])
def test_the_lists_of_files_and_floors_are_up_to_date(page, made):
    tools = runpy.run_path(str(ROOT / "docs" / "make_tree.py"))
    assert (ROOT / page).read_text() == tools["filled"](ROOT / page, made, tools[made]()), "run `make docs`"


def test_links_between_pages_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
