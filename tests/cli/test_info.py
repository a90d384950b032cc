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


@pytest.fixture
def halves(tmp_path):
    random = np.random.default_rng(1)
    for name in ("a_EVN", "a_ODD", "b_EVN", "b_ODD"):
        pixels = random.poisson(9, (48, 40)).astype(np.float32)
        io.write(tmp_path / "halves" / f"{name}.mrc", pixels, Geometry().with_pixel_size(1.5))
    return tmp_path / "halves"


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG\r\n") and path.stat().st_size > 10_000


def test_patches_of_halves(halves, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert run(["info", str(halves), "--patches", str(sheet), "--patch", "32"]) == 0
    said = capsys.readouterr()
    assert "6 windows of 32×32 pixels, 48 Å wide, 1.5 Å per pixel" in said.err
    assert said.out.count("serves as") == 4
    assert is_png(sheet)


def test_patches_of_packed_files(halves, tmp_path, capsys):
    packed, sheet = tmp_path / "packed", tmp_path / "sheet.png"
    assert run(["pack", str(halves), "-o", str(packed), "--patch", "16"]) == 0
    assert run(["info", str(packed), "--patches", str(sheet)]) == 0
    assert "windows of 16×16 pixels, 24 Å wide, 1.5 Å per pixel · normaliser percentile, when packed" in (
        capsys.readouterr().err)  # fmt: skip
    assert is_png(sheet)


def test_patches_of_what_is_left_of_a_batch(halves, tmp_path, capsys):
    (halves / "c.mrc").touch()
    sheet = tmp_path / "sheet.png"
    assert run(["info", str(halves), "--patches", str(sheet)]) == 3
    assert is_png(sheet)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{halves}", "--patches", "sheet.jpg"], "expected one that ends in .png"),
        (["{halves}", "--patches", "none/sheet.png"], "cannot be written"),
        (["{halves}", "--patch", "8"], "expected --patches FILE.png too"),
        (["{halves}", "--patches", "sheet.png", "--patch", "0"], "expected 1 or more"),
        (["{halves}", "--patches", "sheet.png", "--normaliser", "max"], "expected one of standard"),
        (["{halves}", "--patches", "sheet.png", "--target", "none"], "expected the targets"),
        (["{halves}/a_EVN.mrc", "--patches", "sheet.png"], "partner"),
    ],
)
def test_patches_that_cannot_be_are_one_line(halves, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert run(["info", *(argument.format(halves=halves) for argument in arguments)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not list(tmp_path.glob("*sheet*"))
