import json
from pathlib import Path

import numpy as np
import pytest

import deice
from deice.cli import run


def movie(path: Path, seed: int = 0, frames: int = 6) -> Path:
    pixels = np.random.default_rng(seed).poisson(2.0, (frames, 64, 64)).astype(np.float32)
    pixels[:, 10, 10] = 50
    deice.write(path, pixels, axes="tyx")
    return path


def test_a_folder_of_movies_is_split_and_the_figures_are_written(tmp_path, capsys):
    (tmp_path / "movies").mkdir()
    for seed in range(2):
        movie(tmp_path / "movies" / f"m{seed}.mrc", seed)
    figures = tmp_path / "split.json"
    assert run(["split", str(tmp_path / "movies"), "-o", str(tmp_path / "out"), "--json", str(figures), "--align"]) == 0
    assert len(list((tmp_path / "out").glob("*_EVN.mrc"))) == 2
    first = json.loads(figures.read_text())[0]
    assert first["state"] == "written"
    assert first["frames"] == 6
    assert first["replaced_pixels"] == 1
    assert np.shape(first["shifts_yx_pixels"]) == (6, 2)
    assert all(Path(output).exists() for output in first["outputs"])
    assert capsys.readouterr().out == ""


def test_a_second_run_skips_what_is_finished(tmp_path, capsys):
    arguments = ["split", str(movie(tmp_path / "m.mrc")), "-o", str(tmp_path / "out")]
    assert run(arguments) == 0
    assert run(arguments) == 0
    assert "1 finished before, skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--gain", "gain.mrc"], ["--gain", "missing.mrc"], ["--gain-rot", "4"], ["--eer-superres", "3"]]
)
def test_bad_options_end_with_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    movie(tmp_path / "m.mrc")
    deice.write(tmp_path / "gain.mrc", np.ones((32, 48), np.float32))
    assert run(["split", "m.mrc", "-o", "out", *options]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("deice:")]
    assert len(said) == 1
    assert not list(tmp_path.glob("out/*"))


def test_a_lone_micrograph_is_refused_and_in_a_batch_named(tmp_path, capsys):
    deice.write(tmp_path / "micrograph.mrc", np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32))
    assert run(["split", str(tmp_path / "micrograph.mrc"), "-o", str(tmp_path / "out")]) == 2
    assert "expected a movie of at least 2 frames" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))
    good = movie(tmp_path / "m.mrc")
    assert run(["split", str(tmp_path / "micrograph.mrc"), str(good), "-o", str(tmp_path / "out")]) == 3
    assert "micrograph.mrc" in capsys.readouterr().err
    assert (tmp_path / "out" / "m_ODD.mrc").exists()
