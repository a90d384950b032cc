"""deice info: what a file is, in words and in JSON; faulty files are named, the others done."""

import json
import subprocess
import sys

import numpy as np
import pytest

from deice import io
from deice.cli import run
from deice.image import Geometry

PIXELS = np.random.default_rng(6).normal(6800, 9, (12, 16)).astype(np.float32)


@pytest.fixture
def micrograph(tmp_path):
    io.write(tmp_path / "a.mrc", PIXELS, Geometry().with_pixel_size(1.5))
    return tmp_path / "a.mrc"


def figures(capsys, *arguments):
    assert run(["info", *map(str, arguments), "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_micrograph_in_words(micrograph, capsys):
    assert run(["info", str(micrograph)]) == 0
    said = capsys.readouterr().out
    for words in ("picture (y, x)", "16 x 12 float32", "1.5 x 1.5 x 1.5 Å", "micrograph", "MRC mode 2"):
        assert words in said


def test_statistics_are_of_float64_and_count_what_is_not_finite(tmp_path, capsys):
    pixels = PIXELS.copy()
    pixels[0, :3] = np.nan, np.inf, -np.inf
    io.write(tmp_path / "a.mrc", pixels)
    (found,) = figures(capsys, tmp_path / "a.mrc")
    kept = pixels[np.isfinite(pixels)].astype(np.float64)
    assert found["not_finite"] == 3
    assert found["mean"] == pytest.approx(kept.mean(), rel=1e-12)
    assert found["sd"] == pytest.approx(kept.std(), rel=1e-9)
    assert (found["minimum"], found["maximum"]) == (kept.min(), kept.max())
    assert found["pixel_size"] is None


def test_nothing_finite(tmp_path, capsys):
    io.write(tmp_path / "a.mrc", np.full((4, 4), np.nan))
    (found,) = figures(capsys, tmp_path / "a.mrc")
    assert (found["mean"], found["not_finite"]) == (None, 16)
    assert run(["info", str(tmp_path / "a.mrc")]) == 0
    assert "none is finite" in capsys.readouterr().out


def test_what_a_file_can_serve_as(tmp_path, capsys):
    volume = np.random.default_rng(0).normal(size=(3, 4, 5))
    io.write(tmp_path / "tomogram.mrc", volume)
    io.write(tmp_path / "movie.mrc", volume, axes="tyx")
    io.write(tmp_path / "gain.mrc", np.linspace(0.9, 1.1, 20).reshape(4, 5))
    io.write(tmp_path / "s_EVN.mrc", volume[0])
    io.write(tmp_path / "s_ODD.mrc", volume[1])
    io.write(tmp_path / "rec_t_half1.mrc", volume)
    found = {entry["file"].rsplit("/", 1)[1]: entry for entry in figures(capsys, tmp_path)}
    serves = {name: entry["serves_as"] for name, entry in found.items()}
    assert serves["tomogram.mrc"] == ["tomogram"]
    assert serves["movie.mrc"] == ["movie"]
    assert serves["gain.mrc"] == ["micrograph", "gain reference"]
    assert serves["s_EVN.mrc"] == ["even half of s", "micrograph"]
    assert serves["rec_t_half1.mrc"] == ["even half of rec_t", "tomogram"]
    assert found["s_ODD.mrc"]["half"]["partner_found"]
    assert not found["rec_t_half1.mrc"]["half"]["partner_found"]
    assert found["movie.mrc"]["shape"] == [3, 4, 5]


def test_one_faulty_file_is_the_users_fault(tmp_path, capsys):
    (tmp_path / "a.mrc").touch()
    assert run(["info", str(tmp_path / "a.mrc")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert run(["info", str(tmp_path / "none.mrc")]) == 2
    assert run(["info"]) == 2


def test_in_a_batch_the_others_are_done(micrograph, tmp_path, capsys):
    (tmp_path / "b.mrc").touch()
    (tmp_path / "c.mrc").write_bytes(micrograph.read_bytes()[:1500])
    assert run(["info", str(tmp_path), "--json", str(tmp_path / "info.json")]) == 3
    said = capsys.readouterr()
    assert "16 x 12" in said.out
    assert "b.mrc: empty" in said.err
    assert "c.mrc: cut short" in said.err
    assert [entry["file"] for entry in json.loads((tmp_path / "info.json").read_text())] == [str(micrograph)]


def test_it_answers_without_torch(micrograph):
    program = (
        "import sys; from deice.cli import run; code = run(['info', sys.argv[1]]); "
        "sys.exit(9 if {'torch', 'matplotlib', 'tifffile'} & sys.modules.keys() else code)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(micrograph)], capture_output=True).returncode == 0


def test_the_real_files(data, capsys):
    found = figures(capsys, data / "tomograms", data / "micrographs" / "apoferritin_24dec03a_ds8.mrc")
    assert [entry["serves_as"] for entry in found] == [["micrograph"], ["tomogram"], ["tomogram"]]
    assert found[1]["pixel_size"] == pytest.approx(10.52)
    assert found[1]["shape"] == [36, 206, 94]
