"""deice denoise with a scheme that is trained on the very input: lone tomograms, halves, tilt ranges."""

import numpy as np
import pytest
from worlds_for_tests import views

from deice import read, write
from deice.cli import run
from deice.recipe import read_recipe

SPACE = (16, 24, 32)
TOY = ["--axes", "zyx", "--steps", "2", "--recipe"]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A lone tomogram, and halves of another with a file of tilts."""
    (tmp_path / "toy.toml").write_text('[data]\nwindow = [8]\n[net]\nname = "unet"\nsize = 2\ndepth = 1\n')
    write(tmp_path / "lone.mrc", views(SPACE, count=1)[1][0])
    for name, half in zip(("b_EVN", "b_ODD"), views(SPACE, seed=3)[1]):
        write(tmp_path / f"halves/{name}.mrc", half)
    (tmp_path / "halves" / "b.tlt").write_text("-50\n0\n60\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("scheme", "more"), [
    ("isonet:refresh=1", ["--tilt-range", "-40,60"]), ("noise2void:structure=z:2", []),
    ("self2self:predict_N_times=3,mask=blocks", []),
])
def test_a_lone_tomogram(desk, capsys, scheme, more):
    code = run(["denoise", "lone.mrc", "-m", scheme, "-o", "out", *TOY, "toy.toml", *more])
    assert code == 0, capsys.readouterr().err
    answer = read("out/lone.mrc", "zyx").views[0]
    assert answer.shape == SPACE
    assert np.isfinite(answer).all()
    recipe = read_recipe(desk / "out" / "runs" / "lone" / "recipe.toml")
    assert recipe.data.tilt_range == ((-40.0, 60.0) if more else None)


@pytest.mark.parametrize("scheme", ["missing_wedge", "noise2noise"])
def test_halves_are_learnt_from_each_other(desk, capsys, scheme):
    assert run(["denoise", "halves", "-m", scheme, "-o", "out", *TOY, "toy.toml"]) == 0, capsys.readouterr().err
    assert read("out/b.mrc", "zyx").views[0].shape == SPACE


def test_a_tilt_range_that_nobody_looks_at_is_said(desk, capsys):
    arguments = ["-m", "noise2void", "-o", "out", *TOY, "toy.toml", "--tilt-range", "-60,60"]
    assert run(["denoise", "lone.mrc", *arguments]) == 0
    assert "a tilt range is given, but noise2void has no use for it" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "said"), [
    (["lone.mrc", "-m", "isonet"], "lone: its tilt range is not known"),
    (["lone.mrc", "-m", "missing_wedge", "--tilt-range", "-60,60"], "needs 2 views"),
    (["lone.mrc", "-m", "isonet", "--tilt-range", "60,-60"], "within ±89, as -60,60"),
    (["lone.mrc", "-m", "gaussian", "--tilt-range", "-60,60"], "--tilt-range train a scheme"),
    (["lone.mrc", "-m", "isonet:refreshh=3", "--tilt-range", "-60,60"], "did you mean 'refresh'"),
    (["lone.mrc", "-m", "noise2void:structure=q:4"], "as z:4"),
])
def test_faults_are_one_line(desk, capsys, arguments, said):
    assert run(["denoise", *arguments, "-o", "out", "--axes", "zyx"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("deice: ")]
    assert len(lines) == 1
    assert said in lines[0]
