"""The verb `deice measure`: a table on stdout, figures in files, one line for a fault."""

import json

import numpy as np
import pytest

import deice
from deice.cli import run
from deice.image import Geometry


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(1)
    geometry = Geometry(voxel_size=(2.0, 2.0, 2.0))
    for folder in ("denoised", "truth", "halves", "denoised_halves"):
        (tmp_path / folder).mkdir()
    for number in range(2):
        truth = np.cumsum(np.cumsum(rng.standard_normal((32, 32)), 0), 1)
        halves = [truth + 20 * rng.standard_normal((32, 32)) for _ in range(2)]
        deice.write(tmp_path / "truth" / f"m{number}.mrc", truth.astype(np.float32), geometry)
        deice.write(tmp_path / "denoised" / f"m{number}.mrc", np.mean(halves, 0).astype(np.float32), geometry)
        for word, half in zip(("EVN", "ODD"), halves):
            deice.write(tmp_path / "halves" / f"m{number}_{word}.mrc", half.astype(np.float32), geometry)
            deice.write(tmp_path / "denoised_halves" / f"m{number}_{word}.mrc", half.astype(np.float32) / 2, geometry)
    return tmp_path


def arguments(folders, *more):
    return ["measure", str(folders / "denoised"), "--truth", str(folders / "truth"),
            "--halves", str(folders / "halves"), "--denoised-halves", str(folders / "denoised_halves"), *more]


def test_table_on_stdout_and_figures_in_files(folders, capsys):
    assert run(arguments(folders, "--json", str(folders / "f.json"), "--csv", str(folders / "f.csv"))) == 0
    out = capsys.readouterr().out
    for word in ("noisy", "pointwise", "gaussian", "wiener", "measured", "even/odd", "removed noise"):
        assert word in out
    figures = json.loads((folders / "f.json").read_text())
    assert figures["n"] == 2
    assert set(figures["methods"]) == {"noisy", "pointwise", "gaussian", "wiener", "measured"}
    assert len((folders / "f.csv").read_text().splitlines()) == 3


def test_json_alone_on_stdout_is_json(folders, capsys):
    assert run(arguments(folders, "--json", "-")) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 2


def test_globs_and_single_files_are_taken(folders, capsys):
    assert run(["measure", str(folders / "denoised" / "m*.mrc"), "--truth", str(folders / "truth"), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 2


def test_pixel_size_overrules_the_header(folders, capsys):
    assert run(arguments(folders, "--pixel-size", "4", "--json", "-")) == 0
    assert json.loads(capsys.readouterr().out)["images"][0]["pixel_size"] == 4


@pytest.mark.parametrize(("wrong", "says"), [
    (lambda f: ["measure", str(f / "denoised")], "--truth"),
    (lambda f: ["measure", "--truth", str(f / "truth")], "no input"),
    (lambda f: ["measure", str(f / "denoised"), "--truth", str(f / "nowhere")], "nowhere"),
    (lambda f: ["measure", str(f / "truth" / "absent.mrc"), "--truth", str(f / "truth")], "absent.mrc"),
    (lambda f: ["measure", str(f / "denoised"), "--halves", str(f / "truth")], "no halves of m0"),
    (lambda f: arguments(f, "--json", str(f / "no" / "such" / "f.json")), "cannot be written"),
    (lambda f: arguments(f, "--pixel-size", "-3"), "above 0"),
])
def test_a_fault_is_one_line_and_exit_code_2(folders, capsys, wrong, says):
    assert run(wrong(folders)) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert said.err.startswith("deice: ")
    assert says in said.err


def test_mismatched_sizes_are_refused(folders, capsys):
    deice.write(folders / "truth" / "m1.mrc", np.arange(20.0 * 32, dtype=np.float32).reshape(20, 32))
    assert run(arguments(folders, "--json", str(folders / "f.json"))) == 2
    assert "20×32" in capsys.readouterr().err
    assert not (folders / "f.json").exists()
