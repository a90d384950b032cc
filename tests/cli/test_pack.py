"""deice pack, as typed."""

import json

import numpy as np
import pytest

from deice.cli import run
from deice.image import Image
from deice.io import packed, write


@pytest.fixture
def halves(tmp_path):
    for seed, name in enumerate(f"m{n}_{half}" for n in range(3) for half in ("EVN", "ODD")):
        pixels = np.random.default_rng(seed).random((1, 20, 20), np.float32)
        write(tmp_path / "halves" / f"{name}.mrc", Image(pixels))
    return tmp_path / "halves"


def test_halves_become_pairs_and_a_second_run_has_nothing_to_do(tmp_path, halves, capsys):
    out, figures = tmp_path / "packed", tmp_path / "figures.json"
    command = ["pack", str(halves), "-o", str(out), "--patch", "8", "--stride", "6", "--json", str(figures)]
    assert run(command) == 0
    assert "GB" in capsys.readouterr().err
    assert json.loads(figures.read_text())["samples"] == {"train": 18, "test": 9}
    names = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert set(names) == {"deice.json", *packed.NAMES}
    assert (out / "train_input.bin").stat().st_size == 18 * 8 * 8 * 4
    assert run(command) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == names


def test_other_options_need_overwrite(tmp_path, halves, capsys):
    command = ["pack", str(halves), "-o", str(tmp_path / "packed"), "--patch"]
    assert run([*command, "8"]) == 0
    assert run([*command, "10"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run([*command, "10", "--overwrite"]) == 0
    assert json.loads((tmp_path / "packed" / "deice.json").read_text())["sample_shape"] == [1, 10, 10]


def test_targets_of_another_folder(tmp_path, halves):
    for path in halves.glob("*_EVN.mrc"):
        write(tmp_path / "clean" / path.name, Image(np.ones((1, 20, 20), np.float32)))
    command = ["pack", str(halves / "*_EVN.mrc"), "--target", str(tmp_path / "clean"), "--patch", "20"]
    assert run([*command, "-o", str(tmp_path / "out")]) == 0
    assert (np.fromfile(tmp_path / "out" / "train_target.bin", np.float32) == 1).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.mrc"], "no such file"),
        (["--normalize", "max", "{halves}"], "normalize"),
        (["--patch", "64", "{halves}/m0_*"], "--patch 20"),
        (["{halves}/m0_EVN.mrc"], "partner"),
        (["{halves}", "-o", "/proc/packed"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, halves, capsys, arguments, said):
    arguments = [argument.format(halves=halves) for argument in arguments]
    if "-o" not in arguments:
        arguments += ["-o", str(tmp_path / "out")]
    assert run(["pack", *arguments, *([] if "--patch" in arguments else ["--patch", "8"])]) == 2
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert said in last
    assert not list((tmp_path / "out").glob("*"))
