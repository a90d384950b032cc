"""Suites: the level that was asked for is the level that is drawn, and nothing is drawn twice."""

import json

import numpy as np
import pytest

import deice
from deice.bench.micrographs import Micrographs
from deice.bench.suite import Extent, Suite, family
from deice.bench.tomograms import Tomograms
from deice.errors import RecipeFault
from deice.worlds import TomogramWorld, World, signal_to_noise

CROWDED = Micrographs(World(pixel_size=4.0, coverage=0.3))
CELL = Tomograms(TomogramWorld(pixel_size=16.0, tilt_range=(-60, 60, 12), frames=2))
SMALL = Extent(train=1, test=2, size=96, levels=(0.2, 0.02))


def built(folder, scenery=CROWDED, extent=SMALL, workers=1):
    suite = Suite("micrographs", scenery, extent, folder)
    steps = list(suite.build(workers))
    return suite, steps


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    return built(tmp_path_factory.mktemp("suite"))[0]


def measured(case, pixel_size):
    """Signal/noise from the files alone: the noise is half the difference of the halves."""
    even, odd = (np.asarray(deice.read(path).views[0], np.float64) for path in case.halves)
    truth = np.array(deice.read(case.truth).views[0])
    return signal_to_noise(truth, float(((even - odd) / 2).var()), pixel_size)


@pytest.mark.parametrize("level", SMALL.levels)
def test_the_files_have_the_level_they_are_named_after(suite, level):
    for case in suite.cases(level):
        assert measured(case, 4.0) == pytest.approx(level, rel=0.05)
    assert suite.facts(level)["signal_to_noise"] == pytest.approx(level, rel=0.03)


def test_a_level_is_reached_by_counting_more_electrons_of_one_scene(suite):
    high, low = suite.facts(0.2), suite.facts(0.02)
    assert high["dose"] == pytest.approx(10 * low["dose"])
    assert [case.truth for case in suite.cases(0.2)] == [case.truth for case in suite.cases(0.02)]


def test_halves_are_independent_and_their_mean_is_the_full_average(suite):
    case = suite.cases(0.02)[0]
    known = case.open()
    assert known.halves is not None
    even, odd = known.halves
    assert np.allclose(known.noisy, (even + odd) / 2, atol=1e-6)
    ice = np.array(deice.read(suite.cases(0.02, with_ice=True)[0].truth).views[0])
    noise = np.corrcoef((even.numpy() - ice).ravel(), (odd.numpy() - ice).ravel())[0, 1]
    assert abs(noise) < 4 / ice.size**0.5


def test_particles_come_with_their_sizes(suite):
    places = suite.cases(0.02)[0].open().places
    assert len(places.centres) > 1
    assert ((places.centres > -0.5) & (places.centres < 95.5)).all()
    assert ((places.radii * 4 > 20) & (places.radii * 4 < 150)).all()


def test_nothing_is_drawn_twice_and_a_new_level_leaves_the_others(suite, tmp_path):
    first, _ = built(tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mrc")}
    built(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mrc")} == files
    wider, _ = built(tmp_path, extent=Extent(train=1, test=2, size=96, levels=(0.2, 0.02, 0.05)))
    old = [path for path in files if "snr_" in path.parts[-3]]
    assert old
    assert all(path.stat().st_mtime_ns == files[path] for path in old)
    assert wider.facts(0.05)["signal_to_noise"] == pytest.approx(0.05, rel=0.05)
    twin = first.cases(0.02)[1].open()
    assert twin.fingerprint == suite.cases(0.02)[1].open().fingerprint


def test_several_at_a_time_are_the_same_scenes(suite, tmp_path):
    other, steps = built(tmp_path, workers=2)
    assert steps[-1] == (3, 3)
    for one, twin in zip(suite.cases(0.02), other.cases(0.02), strict=True):
        assert np.allclose(one.open().truth, twin.open().truth, rtol=1e-4)
    assert other.facts(0.2)["signal_to_noise"] == pytest.approx(0.2, rel=0.03)


def test_a_folder_of_another_suite_is_refused(suite):
    with pytest.raises(RecipeFault, match="another suite"):
        next(Suite("micrographs", CROWDED, Extent(1, 1, 128, 0, (0.02,)), suite.folder).build())


def test_training_and_test_share_no_proteins():
    for seed in range(3):
        extent = Extent(train=40, test=40, seed=seed)
        learnt, unseen = ({family(extent, part, index, 2) for index in range(40)} for part in ("train", "test"))
        assert not learnt & unseen
        assert len(unseen) == 20


def test_an_empty_picture_has_no_level(tmp_path):
    with pytest.raises(RecipeFault, match="no particle"):
        built(tmp_path, Micrographs(World(coverage=0.0)))


@pytest.mark.parametrize("wrong", [{"levels": ()}, {"levels": (0.0,)}, {"test": 0}, {"seed": -1}, {"size": 8}])
def test_impossible_extents_are_refused(wrong):
    with pytest.raises(RecipeFault, match="expected"):
        Extent(**wrong)


def test_tomograms_have_their_level_too(tmp_path):
    suite, _ = built(tmp_path, CELL, Extent(train=0, test=1, size=48, levels=(0.1,)))
    case = suite.cases(0.1)[0]
    known = case.open()
    assert known.noisy.shape == (24, 48, 48)
    assert suite.facts(0.1)["signal_to_noise"] == pytest.approx(0.1, rel=0.1)
    assert known.places.centres.shape[1] == 3
    record = json.loads((tmp_path / "data" / "test" / "scenes" / "scene_0001.json").read_text())
    assert record["particles"] == len(known.places.centres)
