"""The verbs `deice compare` and `deice bench`: a table on stdout and in files, one line for a fault."""

import json

import numpy as np
import pytest
from worlds_for_tests import structure

import deice
from deice.cli import run
from deice.image import Geometry


@pytest.fixture(autouse=True)
def no_topaz(monkeypatch):
    monkeypatch.delenv("DEICE_TOPAZ_PYTHON", raising=False)


@pytest.fixture
def folder(tmp_path):
    geometry = Geometry(voxel_size=(2.0, 2.0, 2.0))
    for seed in range(2):
        truth = structure((64, 64), seed)
        noise = 2 * np.random.default_rng(seed + 100).normal(size=(2, 64, 64))
        deice.write(tmp_path / "truth" / f"m{seed}.mrc", truth, geometry)
        for word, half in zip(("EVN", "ODD"), (truth + noise).astype(np.float32)):
            deice.write(tmp_path / "halves" / f"m{seed}_{word}.mrc", half, geometry)
    return tmp_path


def test_against_a_truth_the_baselines_stand_in_the_table(folder, capsys):
    out = folder / "out"
    assert run(["compare", str(folder / "halves"), "-o", str(out), "--methods", "gaussian:sigma=3,lowpass:cutoff=20",
                "--truth", str(folder / "truth")]) == 0
    table = json.loads((out / "table.json").read_text())["methods"]
    assert list(table) == ["noisy", "pointwise", "gaussian", "wiener", "tegunov", "gaussian:sigma=3",
                           "lowpass:cutoff=20"]
    assert table["noisy"]["psnr"] < table["gaussian:sigma=3"]["psnr"] <= table["gaussian"]["psnr"]
    assert "gaussian:sigma=3" in capsys.readouterr().out
    for name in ("table.md", "table.csv", "table.png", "gaussian_sigma=3/m1.mrc"):
        assert (out / name).is_file()
    assert deice.read(out / "gaussian_sigma=3" / "m1.mrc").pixel_size == 2


def test_without_a_truth_the_halves_judge(folder):
    assert run(["compare", str(folder / "halves" / "*.mrc"), "-o", str(folder / "out"), "--methods", "gaussian"]) == 0
    table = json.loads((folder / "out" / "table.json").read_text())["methods"]
    assert list(table) == ["noisy", "gaussian"]
    assert "psnr" not in table["gaussian"]
    assert table["noisy"]["even_odd"] == pytest.approx(0.2, abs=0.05)  # signal 1, noise 4
    assert table["gaussian"]["even_odd"] > table["noisy"]["even_odd"]
    assert table["gaussian"]["removed_noise"] is not None


def test_volumes_are_compared_as_pictures_are(tmp_path):
    truth = structure((20, 32, 32))
    noise = np.random.default_rng(100).normal(size=(2, 20, 32, 32))
    deice.write(tmp_path / "truth" / "t.mrc", truth)
    for word, half in zip("12", (truth + noise).astype(np.float32)):
        deice.write(tmp_path / "halves" / f"t_half{word}.mrc", half)
    assert run(["compare", str(tmp_path / "halves"), "-o", str(tmp_path / "out"), "--methods", "gaussian:sigma=1",
                "--truth", str(tmp_path / "truth"), "--pixel-size", "8"]) == 0
    table = json.loads((tmp_path / "out" / "table.json").read_text())["methods"]
    assert table["wiener"]["psnr"] > table["noisy"]["psnr"]


@pytest.mark.parametrize(("methods", "said"), [
    ("gauss:sigma=3", "did you mean"), ("gaussian:sgma=3", "unknown setting"), ("topaz:unet", "docs/topaz.md"),
    ("deice", "unknown"), ("run.safetensors", "no such file"), (",", "no method"),
])
def test_a_wrong_method_is_one_line_and_nothing_is_written(folder, capsys, methods, said):
    assert run(["compare", str(folder / "halves"), "-o", str(folder / "out"), "--methods", methods]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (folder / "out").exists()


def test_an_estimate_never_overwrites_an_input(folder, capsys):
    deice.write(folder / "gaussian" / "m0.mrc", structure((64, 64), 0))
    assert run(["compare", str(folder / "gaussian"), "-o", str(folder), "--methods", "gaussian",
                "--truth", str(folder / "truth")]) == 2
    assert "overwrite" in capsys.readouterr().err


def test_a_lone_picture_without_truth_cannot_be_judged(folder, capsys):
    assert run(["compare", str(folder / "truth"), "-o", str(folder / "out"), "--methods", "gaussian"]) == 2
    assert "neither truth nor halves" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "said"), [
    (["--levels", "high"], "--levels high"), (["--levels", "0"], "above 0"), (["--methods", "nonsense"], "unknown"),
    (["--test", "0"], "test of 1"), (["--topaz", "no/such/python", "--methods", "topaz:unet"], "no program"),
])
def test_faults_of_bench_quality_are_one_line(tmp_path, capsys, words, said):
    assert run(["bench", "quality", "-o", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
