"""Sets of simulated pictures: from Python, and on disk."""

import csv
import json

import mrcfile
import numpy as np
import pytest

import deice
from deice.errors import FileFault, RecipeFault
from deice.worlds import simulate

SMALL = {"size": (64, 80), "frames": 4, "pixel_size": 2.0, "coverage": 0.3}


def files_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def pixels(path):
    with mrcfile.open(path) as file:
        return file.data.copy()


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_in_memory_nothing_is_written():
    one, two = deice.simulate("micrographs", n=2, seed=3, **SMALL)
    assert one.truth.shape == (64, 80)
    assert one.halves().views.shape == (2, 64, 80)
    assert two.movie().views.shape == (4, 64, 80)
    assert one.halves().pixel_size == 2.0
    assert not np.array_equal(one.truth, two.truth)


def test_micrographs_on_disk(tmp_path):
    found = simulate("micrographs", n=2, out=tmp_path, seed=3, **SMALL)
    stems = ("micrograph_0001", "micrograph_0002")
    expected = {"world.json"}
    for stem in stems:
        expected |= {f"{folder}/{stem}.mrc" for folder in ("micrographs", "truth", "truth_with_ice")}
        expected |= {f"halves/{stem}_EVN.mrc", f"halves/{stem}_ODD.mrc", f"coordinates/{stem}.csv"}
    assert files_in(tmp_path) == expected
    for exposure, stem in zip(found, stems, strict=True):
        even, odd = (pixels(tmp_path / "halves" / f"{stem}_{half}.mrc") for half in ("EVN", "ODD"))
        assert np.array_equal(even, exposure.halves().views[0])
        assert np.allclose(pixels(tmp_path / "micrographs" / f"{stem}.mrc"), (even + odd) / 2)
        assert np.array_equal(pixels(tmp_path / "truth" / f"{stem}.mrc"), exposure.truth)
    with mrcfile.open(tmp_path / "truth" / "micrograph_0001.mrc") as file:
        assert file.voxel_size.x == pytest.approx(2.0)


def test_movies_on_disk(tmp_path):
    """Raw frames times gain.mrc agree, but for the defects, with the halves of perfectly corrected frames."""
    (exposure,) = simulate("movies", n=1, out=tmp_path, seed=4, **SMALL)
    raw = pixels(tmp_path / "movies" / "movie_0001.mrc").astype(np.float32)
    gain = pixels(tmp_path / "gain.mrc")
    assert raw.shape == (4, 64, 80)
    assert np.array_equal(raw, exposure.movie().views)
    for which, half in enumerate(("EVN", "ODD")):
        mean = (raw * gain)[which::2].mean(axis=0)
        ideal = pixels(tmp_path / "halves" / f"movie_0001_{half}.mrc")
        assert (np.abs(mean - ideal) < 1e-3 * ideal.max()).mean() > 0.99
    steps = rows_of(tmp_path / "drift" / "movie_0001.csv")
    assert [step["frame"] for step in steps] == ["0", "1", "2", "3"]
    assert mrcfile.validate(tmp_path / "gain.mrc")


def test_integrating_movies_keep_their_fractions(tmp_path):
    (exposure,) = simulate("movies", n=1, out=tmp_path, seed=4, detector="integrating", **SMALL)
    raw = pixels(tmp_path / "movies" / "movie_0001.mrc")
    assert raw.dtype == np.float32
    assert np.array_equal(raw, exposure.movie().views)


def test_coordinates_point_at_particles(tmp_path):
    (exposure,) = simulate("micrographs", n=1, out=tmp_path, seed=5, **(SMALL | {"size": 200}))
    rows = rows_of(tmp_path / "coordinates" / "micrograph_0001.csv")
    assert len(rows) == len(exposure.scene.particles) > 0
    for row, particle in zip(rows, exposure.scene.particles, strict=True):
        assert float(row["x"]) == pytest.approx(particle.x, abs=1e-3)
        assert row["name"] in {body.name for body in exposure.scene.species}
        assert 0 <= float(row["tilt"]) <= 180


def test_what_was_set_and_drawn_is_described(tmp_path):
    (exposure,) = simulate("micrographs", n=1, out=tmp_path, seed=6, defocus=1.25, kv=200, **SMALL)
    description = json.loads((tmp_path / "world.json").read_text())
    assert description["seed"] == 6
    assert description["world"]["size"] == [64, 80]
    (picture,) = description["pictures"]
    assert picture["optics"]["defocus"] == pytest.approx(1.25)
    assert picture["optics"]["kv"] == 200
    assert picture["signal_to_noise"] == pytest.approx(exposure.signal_to_noise)


def test_same_seed_same_bytes_but_for_the_label(tmp_path):
    for folder in ("one", "two"):
        simulate("movies", n=1, out=tmp_path / folder, seed=7, drift=5.0, **SMALL)
    assert files_in(tmp_path / "one") == files_in(tmp_path / "two")
    for name in files_in(tmp_path / "one"):
        one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
        if name.endswith(".mrc"):  # the label, bytes 224 to 304, holds the date
            one, two = (content[:224] + content[304:] for content in (one, two))
        assert one == two, name


def test_more_of_the_same_world_may_be_added_but_no_other_world(tmp_path):
    simulate("micrographs", n=1, out=tmp_path, **SMALL)
    first = pixels(tmp_path / "truth" / "micrograph_0001.mrc")
    simulate("micrographs", n=2, out=tmp_path, **SMALL)
    assert np.array_equal(pixels(tmp_path / "truth" / "micrograph_0001.mrc"), first)
    before = files_in(tmp_path)
    with pytest.raises(RecipeFault, match="another world"):
        simulate("micrographs", n=1, out=tmp_path, seed=1, **SMALL)
    with pytest.raises(RecipeFault, match="another world"):
        simulate("micrographs", n=1, out=tmp_path, **(SMALL | {"coverage": 0.2}))
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"kind": "holograms"}, RecipeFault),
        ({"n": 0}, RecipeFault),
        ({"seed": -1}, RecipeFault),
        ({"map": "nowhere.mrc"}, FileFault),
    ],
)
def test_bad_input_writes_nothing(tmp_path, arguments, fault):
    with pytest.raises(fault):
        simulate(**({"kind": "movies", "out": tmp_path / "set"} | SMALL | arguments))
    assert not (tmp_path / "set").exists()
