"""deice simulate, as typed."""

import json

import mrcfile
import numpy as np
import pytest

from deice.cli import run
from deice.image import Geometry
from deice.io import write

SMALL = ["--size", "64", "80", "--frames", "4", "--pixel-size", "2", "-n", "2"]


@pytest.mark.parametrize("kind", ["micrographs", "movies"])
def test_a_set_as_the_contract_says(tmp_path, capsys, kind):
    figures = tmp_path / "figures.json"
    command = ["simulate", kind, "-o", str(tmp_path / "set"), *SMALL, "--coverage", "0.3", "--json", str(figures)]
    assert run(command) == 0
    assert "2/2" in capsys.readouterr().err
    for pattern, count in [(f"{kind}/*.mrc", 2), ("truth/*.mrc", 2), ("halves/*_EVN.mrc", 2),
                           ("halves/*_ODD.mrc", 2), ("coordinates/*.csv", 2),
                           ("gain.mrc", int(kind == "movies"))]:  # fmt: skip
        assert len(list((tmp_path / "set").glob(pattern))) == count, pattern
    stems = {path.stem for path in (tmp_path / "set" / kind).iterdir()}
    assert stems == {path.stem for path in (tmp_path / "set" / "truth").iterdir()}
    pictures = json.loads(figures.read_text())["pictures"]
    assert all(picture["signal_to_noise"] > 0 for picture in pictures)


CELLS = ["--size", "24", "32", "40", "-n", "2", "--frames", "2"]


def test_tomograms_as_the_contract_says(tmp_path, capsys):
    command = ["simulate", "tomograms", "-o", str(tmp_path / "set"), *CELLS, "--tilt-range", "-60,40,5",
               "--fiducials", "1", "--no-ctf", "--seed", "2", "--json", "-"]  # fmt: skip
    assert run(command) == 0
    for pattern, count in [("tomograms/*.mrc", 2), ("truth/*.mrc", 2), ("halves/*_EVN.mrc", 2), ("tilts/*.tlt", 2),
                           ("halves/*_ODD.mrc", 2), ("coordinates/*.csv", 2), ("labels/*.mrc", 2),
                           ("scene/*.mrc", 2)]:  # fmt: skip
        assert len(list((tmp_path / "set").glob(pattern))) == count, pattern
    captured = capsys.readouterr()
    assert "2/2" in captured.err
    assert all(picture["signal_to_noise"] > 0 for picture in json.loads(captured.out)["pictures"])
    world = json.loads((tmp_path / "set" / "world.json").read_text())["world"]
    assert (world["tilt_range"], world["ctf"]) == ([-60, 40, 5], False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tilt-range", "-60,60"], "first, last and step"),
        (["--tilt-range", "60"], "first, last and step"),
        (["--tilt-range", "-90,90,3"], "within ±80"),
        (["--drift", "5"], "'drift' is unknown"),
        (["--map", "none.mrc", "neither.mrc"], "none.mrc: no such file"),
        (["--thickness", "9999"], "thickness 9999"),
    ],
)
def test_bad_tomograms_are_one_line_and_nothing_written(tmp_path, capsys, arguments, said):
    assert run(["simulate", "tomograms", "-o", str(tmp_path / "set"), *CELLS, *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "set").exists()


def test_several_maps_go_into_tomograms_only(tmp_path, capsys):
    assert run(["simulate", "movies", "-o", str(tmp_path / "set"), "--map", "a.mrc", "b.mrc"]) == 2
    assert "2 maps" in capsys.readouterr().err


def test_figures_on_stdout(tmp_path, capsys):
    assert run(["simulate", "micrographs", "-o", str(tmp_path), *SMALL, "--json", "-"]) == 0
    assert len(json.loads(capsys.readouterr().out)["pictures"]) == 2


def test_a_map_instead_of_proteins(tmp_path):
    grid = np.mgrid[-10:10, -10:10, -10:10]
    write(tmp_path / "ball.mrc", (np.sqrt((grid**2).sum(axis=0)) < 6).astype(np.float32),
          Geometry().with_pixel_size(4.0))  # fmt: skip
    command = ["simulate", "micrographs", "-o", str(tmp_path / "set"), *SMALL, "--coverage", "0.4",
               "--map", str(tmp_path / "ball.mrc"), "--defocus", "1.5", "2", "--seed", "3"]  # fmt: skip
    assert run(command) == 0
    named = [path.read_text() for path in (tmp_path / "set" / "coordinates").iterdir()]
    assert any("ball" in text for text in named)
    assert "kDa" not in "".join(named)
    with mrcfile.open(tmp_path / "set" / "truth" / "micrograph_0001.mrc") as file:
        assert file.data.std() > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "5"], "32 pixels"),
        (["--dose", "0"], "dose"),
        (["--map", "{tmp}/none.mrc"], "no such file"),
        (["--map", "{tmp}/text.mrc"], "text.mrc"),
        (["--detector", "film"], "detector"),
        (["--n", "0"], "1 or more"),
        (["-o", "/proc/set"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_nothing_written(tmp_path, capsys, arguments, said):
    (tmp_path / "text.mrc").write_text("not a map")
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    output = [] if "-o" in arguments else ["-o", str(tmp_path / "set")]
    assert run(["simulate", "movies", *output, *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "set").exists()
