"""Tomograms: truth is what noise averages to; the halves' noise is independent and fills the sampled wedge only."""

import math

import numpy as np
import pytest
import torch

from deice.errors import RecipeFault
from deice.ops.tilts import Tilts
from deice.worlds import Tomogram, TomogramWorld, World, exposures, simulate, world_of

SMALL = TomogramWorld(size=(32, 48, 56), vesicles=300, sheets=0, actin=400, microtubules=0, coverage=0.12)
QUIET = world_of(SMALL, ice=False)


def correlation(a, b):
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def noise_of(tomogram):
    return tomogram.halves().views - tomogram.truth


def power(volume):
    """|F|² of (z, y, x), with kz and kx in cycles per voxel, (z, 1) and (1, x)."""
    spectrum = np.abs(np.fft.fftn(volume - volume.mean())) ** 2
    return spectrum.mean(axis=1), np.fft.fftfreq(volume.shape[0])[:, None], np.fft.fftfreq(volume.shape[2])[None, :]


def test_noise_averages_to_the_truth():
    """With n times the electrons, the sum of n draws, what is left of the noise is 1/√n."""
    plenty = 5e3
    few = Tomogram(world_of(QUIET, radiation_damage=False), 1)
    many = Tomogram(world_of(QUIET, radiation_damage=False, dose=QUIET.dose * plenty), 1)
    assert np.array_equal(few.truth, many.truth)
    assert noise_of(many).std() == pytest.approx(noise_of(few).std() / math.sqrt(plenty), rel=0.03)
    assert correlation(many.halves().views[0], many.truth) > 0.998


def test_noise_of_the_halves_is_independent_and_of_equal_strength():
    tomogram = Tomogram(QUIET, 2)
    even, odd = noise_of(tomogram)
    assert abs(correlation(even, odd)) < 5 / math.sqrt(even.size / 2)
    assert even.var() == pytest.approx(odd.var(), rel=0.03)
    full = tomogram.average(tomogram.halves()).views[0] - tomogram.truth
    assert full.var() == pytest.approx(even.var() / 2, rel=0.03)


def test_an_odd_number_of_frames():
    tomogram = Tomogram(world_of(QUIET, frames=3), 2)
    even, odd = noise_of(tomogram)
    assert odd.var() / even.var() == pytest.approx(2, rel=0.06)
    full = tomogram.average(tomogram.halves()).views[0] - tomogram.truth
    assert full.var() == pytest.approx(noise_of(Tomogram(QUIET, 2))[0].var() / 2, rel=0.06)


def test_the_structure_of_the_ice_is_in_both_halves_and_not_in_the_truth():
    bare, icy = (Tomogram(world_of(world, dose=2000.0), 3) for world in (QUIET, SMALL))
    assert np.array_equal(bare.truth, icy.truth)
    assert correlation(*noise_of(icy)) > correlation(*noise_of(bare)) + 0.02


@pytest.mark.parametrize("tilt_range", [(-60, 60, 3), (-30, 60, 3), (-60, 30, 3)])
def test_noise_fills_the_sampled_wedge_and_no_other(tilt_range):
    """At kz / kx = tan of the tilt there is power within the range, and none beyond it, on either side."""
    world = world_of(QUIET, tilt_range=tilt_range)
    spectrum, kz, kx = power(noise_of(Tomogram(world, 4))[0])
    angle = np.degrees(np.arctan2(kz * np.sign(kx + 1e-9), np.abs(kx)))
    ring = (np.hypot(kz, kx) > 0.15) & (np.hypot(kz, kx) < 0.4)
    level = spectrum[ring & (np.abs(angle - sum(tilt_range[:2]) / 2) < 30)].mean()
    for low in range(-85, 85, 10):
        sector = spectrum[ring & (angle > low) & (angle < low + 10)].mean()
        if tilt_range[0] + 5 <= low and low + 10 <= tilt_range[1] - 5:
            assert sector > 0.4 * level, low
        elif low + 10 <= tilt_range[0] - 10 or low >= tilt_range[1] + 10:
            assert sector < 0.05 * level, low


def test_signal_to_noise_is_that_of_the_volumes():
    tomogram = Tomogram(world_of(QUIET, dose=60.0), 5)
    full = tomogram.average(tomogram.halves()).views[0] - tomogram.truth
    # all that is finer than 500 Å: all but the lowest few coefficients
    expected = tomogram.truth.var() / full.var()
    assert 0.7 * expected < tomogram.signal_to_noise <= 1.02 * expected
    double = Tomogram(world_of(QUIET, dose=120.0, radiation_damage=False), 5).signal_to_noise
    single = Tomogram(world_of(QUIET, dose=60.0, radiation_damage=False), 5).signal_to_noise
    assert double / single == pytest.approx(2, rel=0.06)


def test_matter_is_dark_and_an_ideal_lens_shows_the_density():
    """Without lens, damage and blur the truth is the scene, turned dark, through projection and back-projection.

    But for the square of the phase: exp(-2 φ) bends down, dark matter is a little less dark.
    """
    world = world_of(QUIET, ctf=False, radiation_damage=False, crowding=0, vesicles=0, actin=0, binning=64)
    tomogram = Tomogram(world, 6)
    tilts = tomogram.tilts
    expected = -tilts.back_project(tilts.project(torch.from_numpy(tomogram.density))).numpy()
    assert correlation(tomogram.truth, expected) > 0.98
    assert np.vdot(tomogram.truth, expected) / np.vdot(expected, expected) == pytest.approx(0.9, abs=0.1)
    assert tomogram.truth[tomogram.labels > 0].mean() < -0.5


def test_with_the_lens_matter_is_dark_too():
    tomogram = Tomogram(QUIET, 7)
    labels = tomogram.labels
    present = [label for label in range(1, 9) if (labels == label).sum() > 30]
    assert len(present) >= 2
    for label in present:
        assert tomogram.truth[labels == label].mean() < tomogram.truth[labels == 0].mean() - 0.1, label


def test_thicker_samples_let_fewer_electrons_through():
    world = world_of(SMALL, thickness=100.0)
    thick = world_of(SMALL, size=(200, 48, 56), thickness=2000.0)
    assert world.counted(0) == pytest.approx(120 / 41 * 100 * math.exp(-100 / 3950))
    assert thick.counted(60) / thick.counted(0) == pytest.approx(math.exp(-2000 / 3950))
    series = Tomogram(world_of(QUIET, mean_free_path=100.0), 8).series
    noise = (series.pictures[1] - series.pictures[0]).std(dim=(1, 2))
    assert float(noise[0] / noise[20]) == pytest.approx(math.exp(0.5 * 0.8 * 320 / 100), rel=0.15)


def test_damage_grows_from_the_middle_tilt_outwards():
    world = world_of(QUIET, tilt_range=(-40, 60, 2))
    order = [world.angles[number] for number in world.taken]
    assert order[:5] == [0, -2, 2, -4, 4]
    assert sorted(order) == list(world.angles)
    damaged, whole = (Tomogram(world_of(QUIET, radiation_damage=on), 9).series.pictures[0] for on in (True, False))
    left = damaged.std(dim=(1, 2)) / whole.std(dim=(1, 2))
    assert float(left[20]) > 0.97
    assert float(left[0]) < 0.9 * float(left[20])


def test_beads_of_gold_are_the_darkest():
    world = world_of(QUIET, size=(40, 64, 64), fiducials=2, vesicles=0, actin=0, crowding=0, coverage=0.01)
    tomogram = Tomogram(world, 10)
    places = np.round(tomogram.cell.gold.places / 10).astype(int)
    assert len(places) == 2
    middle = tomogram.world.taken[0]
    for z, y, x in places:
        assert min(abs(z - 4), abs(z - 36)) <= 6, "on a surface of the sample"
        assert tomogram.truth[z, y, x] < -4 * tomogram.truth.std()
        picture = tomogram.series.pictures[0, middle]
        assert float(picture[y, picture.shape[1] // 2 + x - 32]) < -3 * float(picture.std())


def test_the_same_seed_the_same_tomogram():
    one, again, other, second = (Tomogram(SMALL, *which) for which in [(11, 0), (11, 0), (12, 0), (11, 1)])
    assert np.array_equal(one.halves().views, again.halves().views)
    assert np.array_equal(one.labels, again.labels)
    for different in (other, second):
        assert abs(correlation(one.truth, different.truth)) < 0.2
        assert one.optics != different.optics
    _ = again.density, again.signal_to_noise
    assert np.array_equal(again.truth, one.truth)


def test_the_volume_is_one_whatever_the_blocks(monkeypatch):
    whole = Tomogram(SMALL, 13)
    monkeypatch.setattr("deice.worlds.voxels.BLOCK", 11 * 32 * 56)
    blocks = Tomogram(SMALL, 13)
    assert np.allclose(blocks.truth, whole.truth, atol=1e-4 * whole.truth.std() + 1e-3)


def test_tilts_reach_beyond_the_volume_as_far_as_the_lens_spreads():
    fine = Tomogram(world_of(SMALL, pixel_size=2.0, defocus=4.0))
    assert fine.tilts.width - Tilts(fine.tilts.angles, 32, 56, margin=0).width >= 2 * 0.0197 * 4e4 / 8


def test_from_python():
    one, two = simulate("tomograms", n=2, seed=3, size=32, tilt_range="-40,40,8", frames=2)
    assert one.world.size == (16, 32, 32)
    assert one.world.angles == tuple(range(-40, 41, 8))
    assert one.halves().views.shape == (2, 16, 32, 32)
    assert one.halves().pixel_size == 10.0
    assert not np.array_equal(one.truth, two.truth)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"vesicle": 3}, "did you mean 'vesicles'"),
        ({"size": (64, 64)}, "depth, rows and columns"),
        ({"size": 20}, "16 voxels"),
        ({"tilt_range": (-90, 60, 3)}, "within ±80"),
        ({"tilt_range": (60, -60, 3)}, "first, last and step"),
        ({"tilt_range": (-60, 60, 0)}, "0.1 or more"),
        ({"tilt_range": "-60:60:3"}, "first, last and step"),
        ({"tilt_range": (-60, 60)}, "first, last and step"),
        ({"tilt_range": (0, 3, 3)}, "three tilts"),
        ({"thickness": 2000.0}, "depth of 1280"),
        ({"thickness": 0.0}, "above 0"),
        ({"frames": 1}, "2 or more"),
        ({"coverage": 0.4, "crowding": 0.4}, "at most 0.5"),
        ({"fiducials": -1}, "fiducials -1"),
        ({"map_mass": 700.0}, "one map"),
        ({"binning": 0}, "binning 0"),
    ],
)
def test_impossible_tomograms_are_refused(settings, said):
    with pytest.raises(RecipeFault, match=said):
        world_of(TomogramWorld(), **settings)


def test_a_world_of_pictures_has_no_tomograms():
    with pytest.raises(RecipeFault, match="expected a TomogramWorld"):
        next(exposures("tomograms", 1, None, 0, World()))
