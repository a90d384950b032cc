"""Sets of simulated tomograms on disk."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest

import deice
from deice.errors import FileFault, RecipeFault
from deice.image import Geometry
from deice.io import write
from deice.worlds import Tomogram

SMALL = {"size": (32, 40, 48), "tilt_range": (-40, 60, 5), "fiducials": 1, "coverage": 0.12, "vesicles": 300}


def files_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def pixels(path):
    with mrcfile.open(path) as file:
        return file.data.copy()


def test_tomograms_on_disk_are_those_in_memory(tmp_path):
    found = deice.simulate("tomograms", n=2, out=tmp_path, seed=3, **SMALL)
    stems = ("tomogram_0001", "tomogram_0002")
    expected = {"world.json"}
    for stem in stems:
        expected |= {f"{folder}/{stem}.mrc" for folder in ("tomograms", "truth", "scene", "labels")}
        expected |= {f"halves/{stem}_EVN.mrc", f"halves/{stem}_ODD.mrc", f"coordinates/{stem}.csv", f"tilts/{stem}.tlt"}
    assert files_in(tmp_path) == expected
    for tomogram, stem in zip(found, stems, strict=True):
        even, odd = (pixels(tmp_path / "halves" / f"{stem}_{half}.mrc") for half in ("EVN", "ODD"))
        assert np.allclose([even, odd], tomogram.halves().views, atol=1e-5)
        assert np.allclose(pixels(tmp_path / "tomograms" / f"{stem}.mrc"), (even + odd) / 2, atol=1e-5)
        assert np.allclose(pixels(tmp_path / "truth" / f"{stem}.mrc"), tomogram.truth, atol=1e-5)
        assert np.array_equal(pixels(tmp_path / "scene" / f"{stem}.mrc"), tomogram.density)
        assert np.array_equal(pixels(tmp_path / "labels" / f"{stem}.mrc"), tomogram.labels)


def test_headers_say_volume_and_voxel_size(tmp_path):
    deice.simulate("tomograms", n=1, out=tmp_path, pixel_size=8.0, **SMALL)
    for path in tmp_path.rglob("*.mrc"):
        with mrcfile.open(path) as file:
            assert file.header.ispg == 1
            assert file.header.mz == file.header.nz == 32
            assert file.voxel_size.z == pytest.approx(8.0)
            assert file.header.mode == (0 if "labels" in str(path) else 2)
        assert mrcfile.validate(path)
        assert deice.read(path).space == (32, 40, 48)


def test_tables_say_where_what_and_how(tmp_path):
    (tomogram,) = deice.simulate("tomograms", n=1, out=tmp_path, seed=5, **SMALL)
    rows = list(csv.DictReader((tmp_path / "coordinates" / "tomogram_0001.csv").read_text().splitlines()))
    particles = [(kind.protein.name, place) for kind in tomogram.cell.particles for place in kind.places]
    assert len(rows) == len(particles) + 1
    assert len(particles) >= 2
    assert list(rows[0]) == ["x", "y", "z", "kind", "rot", "tilt", "psi"]
    labels = pixels(tmp_path / "labels" / "tomogram_0001.mrc")
    for row, (name, place) in zip(rows, particles, strict=False):
        assert row["kind"] == name
        assert [float(row[axis]) for axis in "zyx"] == pytest.approx(list(place / 10), abs=1e-3)
    bead = [round(float(rows[-1][axis])) for axis in "zyx"]
    description = json.loads((tmp_path / "world.json").read_text())
    assert description["kind"] == "tomograms"
    assert description["world"]["tilt_range"] == [-40, 60, 5]
    (picture,) = description["pictures"]
    assert picture["labels"][str(labels[tuple(bead)])] == "fiducial"
    assert picture["signal_to_noise"] == pytest.approx(tomogram.signal_to_noise, rel=1e-3)
    assert picture["particles"] == len(particles)
    tilts = [float(line) for line in (tmp_path / "tilts" / "tomogram_0001.tlt").read_text().split()]
    assert tilts == list(range(-40, 61, 5))


def test_maps_are_the_kinds_of_particles(tmp_path):
    grid = np.mgrid[-10:10, -10:10, -10:10]
    for name, radius in (("small", 4), ("large", 7)):
        ball = (np.sqrt((grid**2).sum(axis=0)) < radius).astype(np.float32)
        write(tmp_path / f"{name}.mrc", ball, Geometry().with_pixel_size(12.0))
    (tomogram,) = deice.simulate(
        "tomograms", n=1, **(SMALL | {"map": [tmp_path / "small.mrc", tmp_path / "large.mrc"], "vesicles": 0})
    )
    assert [kind.protein.name for kind in tomogram.cell.particles] == ["small", "large"]
    assert sum(len(kind.places) for kind in tomogram.cell.particles) > 3
    assert tomogram.density[tomogram.labels == 5].mean() > 1


def test_real_maps(data):
    maps = [data / "maps" / "3j9i.mrc", data / "maps" / "6utj.mrc"]
    world = SMALL | {"size": (48, 64, 64), "map": maps, "vesicles": 0, "crowding": 0.0}
    (tomogram,) = deice.simulate("tomograms", n=1, seed=1, **world)
    assert [kind.protein.name for kind in tomogram.cell.particles] == ["3j9i", "6utj"]
    # the T20S proteasome: some 700 kDa
    assert 400e3 < tomogram.cell.particles[0].protein.mass < 1.2e6
    for label in (5, 6):
        assert tomogram.truth[tomogram.labels == label].mean() < -0.2


def test_same_seed_same_bytes_but_for_the_label(tmp_path):
    for folder in ("one", "two"):
        deice.simulate("tomograms", n=1, out=tmp_path / folder, seed=7, **SMALL)
    assert files_in(tmp_path / "one") == files_in(tmp_path / "two")
    for name in files_in(tmp_path / "one"):
        one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
        if name.endswith(".mrc"):  # the label, bytes 224 to 304, holds the date
            one, two = (content[:224] + content[304:] for content in (one, two))
        assert one == two, name


def test_no_other_world_in_the_same_folder(tmp_path):
    deice.simulate("tomograms", n=1, out=tmp_path, **SMALL)
    before = files_in(tmp_path)
    with pytest.raises(RecipeFault, match="another world"):
        deice.simulate("tomograms", n=1, out=tmp_path, **(SMALL | {"tilt_range": (-60, 60, 5)}))
    with pytest.raises(RecipeFault, match="another world"):
        deice.simulate("micrographs", n=1, out=tmp_path, size=64)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [({"n": 0}, RecipeFault), ({"map": "nowhere.mrc"}, FileFault), ({"tilt_range": "a,b"}, RecipeFault)],
)
def test_bad_input_writes_nothing(tmp_path, arguments, fault):
    with pytest.raises(fault):
        deice.simulate(**({"kind": "tomograms", "out": tmp_path / "set"} | SMALL | arguments))
    assert not (tmp_path / "set").exists()


def test_a_failure_leaves_no_half_written_file(tmp_path, monkeypatch):
    monkeypatch.setattr("deice.worlds.tilt_series.TiltSeries.reconstruct", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        deice.simulate("tomograms", n=1, out=tmp_path, **SMALL)
    assert files_in(tmp_path) == {"scene/tomogram_0001.mrc", "labels/tomogram_0001.mrc"}


PEAK = """
import sys, threading
import deice, deice.worlds.voxels as voxels

voxels.BLOCK = 1 << 17

def anonymous():
    return sum(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(("RssAnon", "RssShmem")))

peak, done = 0, threading.Event()
def watch():
    global peak
    while not done.wait(0.001):  # a peak of the smaller run that is missed looks like growth
        peak = max(peak, anonymous())
watcher = threading.Thread(target=watch)
watcher.start()
deice.simulate("tomograms", n=1, out=sys.argv[1], size=(128, int(sys.argv[2]), 128), tilt_range=(-30, 30, 10),
               coverage=0.004, crowding=0.004, sheets=0, vesicles=5, actin=0, microtubules=0)
done.set()
watcher.join()
print(peak)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is sampled from /proc")
def test_volumes_are_never_held_whole(tmp_path):
    """512 rows more are 176 MB in six volumes, but 10 MB in the tilt series, which alone is held."""
    peaks = []
    for rows in (256, 768):
        command = [sys.executable, "-c", PEAK, str(tmp_path / str(rows)), str(rows)]
        few = os.environ | {"OMP_NUM_THREADS": "1"}
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True, env=few).stdout))
    assert peaks[1] - peaks[0] < 50_000, "kB"


def test_coordinates_follow_relions_angles():
    """The matrix of the written angles is the one that turned the particle."""
    (tomogram,) = deice.simulate("tomograms", n=1, seed=5, **SMALL)
    assert isinstance(tomogram, Tomogram)
    from deice.worlds.tomogram_files import coordinates

    rotations = np.concatenate([kind.rotations for kind in tomogram.cell.particles])
    for row, rotation in zip(coordinates(tomogram), rotations, strict=False):
        rot, tilt, psi = np.radians([row[name] for name in ("rot", "tilt", "psi")])

        def about_z(a):
            return np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])

        about_y = np.array([[np.cos(tilt), 0, -np.sin(tilt)], [0, 1, 0], [np.sin(tilt), 0, np.cos(tilt)]])
        assert np.allclose(about_z(psi) @ about_y @ about_z(rot), rotation, atol=1e-6)
