"""Exposures: the truth is what the mean of many draws tends to; noise, drift, defects and seeds behave."""

import numpy as np
import pytest
import torch

from deice.errors import RecipeFault
from deice.ops.ctf import Optics
from deice.ops.fourier import filter_radially
from deice.worlds import Detector, Exposure, World, signal_to_noise, world_of
from deice.worlds.detector import DETECTORS

SMALL = World(size=(96, 130), frames=8, pixel_size=2.0, coverage=0.3, ice_thickness=300)


def correlation(a, b):
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize("detector", ["counting", "integrating"])
def test_mean_of_many_draws_is_the_truth_with_ice(detector):
    world = world_of(SMALL, detector=detector)
    exposure = Exposure(world, 1)
    rng = torch.Generator().manual_seed(0)
    rate = exposure._rate(exposure._mean_spectrum * exposure._before_detector)
    draws = 4000 * world.frames
    mean = exposure._record(rate * draws, 1, 1.0, rng).numpy() / draws
    expected = np.sqrt(world.rate / draws)
    assert np.abs(mean - exposure.truth_with_ice).std() < 1.1 * expected
    assert correlation(mean, exposure.truth_with_ice) > 0.99


def test_frames_average_to_the_truth_with_ice():
    world = world_of(SMALL, dose=8000.0, detector=Detector(hot=0, dead=0, gain_spread=0.05))
    exposure = Exposure(world, 2)
    mean = np.mean([raw for raw, _ in exposure.frames()], axis=0) * exposure.camera.gain
    noise = np.sqrt(world.rate / world.frames)
    residual = mean - exposure.truth_with_ice
    assert residual.std() == pytest.approx(noise, rel=0.1)
    assert abs(residual.mean()) < 0.01 * world.rate


def test_truth_has_the_mean_of_the_dose_and_protein_is_dark():
    exposure = Exposure(SMALL, 3)
    assert exposure.truth.mean() == pytest.approx(SMALL.dose * 4 / 8, rel=0.01)
    scene = exposure.scene
    rows, columns = np.mgrid[: SMALL.size[0], : SMALL.size[1]]
    radius = {body.name: body.radius / SMALL.pixel_size for body in scene.species}
    under = np.any([np.hypot(rows - p.y, columns - p.x) < 0.7 * radius[p.name] for p in scene.particles], axis=0)
    assert 0.02 < under.mean() < 0.5
    assert exposure.truth[under].mean() < exposure.truth[~under].mean() - 0.5 * exposure.truth.std()


def test_noise_of_the_halves_is_independent():
    exposure = Exposure(world_of(SMALL, size=256), 4)
    even, odd = exposure.halves().views
    noise = [half - exposure.truth_with_ice for half in (even, odd)]
    assert abs(correlation(*noise)) < 4 / 256
    for one in noise:
        assert one.var() == pytest.approx(SMALL.rate / 4, rel=0.05)
    full = exposure.average(exposure.halves()).views[0] - exposure.truth_with_ice
    assert full.var() == pytest.approx(SMALL.rate / 8, rel=0.05)


def test_odd_number_of_frames():
    exposure = Exposure(world_of(SMALL, frames=5, dose=2000.0), 4)
    even, odd = exposure.halves().views
    assert (even - exposure.truth_with_ice).var() == pytest.approx(exposure.world.rate / 3, rel=0.1)
    assert (odd - exposure.truth_with_ice).var() == pytest.approx(exposure.world.rate / 2, rel=0.1)


def test_noise_of_an_integrating_detector_is_correlated_between_neighbours():
    for name, least, most in [("counting", -0.02, 0.02), ("integrating", 0.2, 0.6)]:
        exposure = Exposure(world_of(SMALL, size=200, detector=name), 5)
        noise = exposure.halves().views[0] - exposure.truth_with_ice
        assert least < correlation(noise[:, 1:], noise[:, :-1]) < most


def test_drift_moves_the_frames_and_is_known():
    """Registering each frame on the truth by its cross-correlation finds the drift that is stated."""
    detector = Detector(hot=0, dead=0, gain_spread=0)
    world = world_of(SMALL, size=128, drift=40.0, dose=40000.0, radiation_damage=False, detector=detector)
    exposure = Exposure(world, 6)
    drift = exposure.scene.drift
    assert np.allclose(drift.mean(axis=0), 0)
    assert np.linalg.norm(drift[-1] - drift[0]) * world.pixel_size == pytest.approx(40, rel=0.3)
    truth = np.fft.rfft2(exposure.truth_with_ice - exposure.truth_with_ice.mean())
    for (raw, corrected), moved in zip(exposure.frames(), drift, strict=True):
        for frame, expected in [(raw, moved), (corrected, np.zeros(2))]:
            peak = np.fft.irfft2(np.fft.rfft2(frame - frame.mean()) * truth.conj(), s=frame.shape)
            found = np.array(np.unravel_index(peak.argmax(), peak.shape))
            found = (found + 64) % 128 - 64
            assert np.abs(found - expected).max() <= 0.75


def test_defects_and_gain_are_in_the_raw_frames_only():
    detector = Detector(gain_spread=0.2, hot=2e-3, dead=2e-3)
    exposure = Exposure(world_of(SMALL, size=128, detector=detector, dose=4000.0), 7)
    camera = exposure.camera
    raw, corrected = next(iter(exposure.frames()))
    assert np.array_equal(raw, raw.round())
    assert (raw[camera.dead] == 0).all()
    assert (corrected[camera.dead] > 0).all()
    healthy = (camera.hot == 0) & ~camera.dead
    assert np.allclose((raw * camera.gain)[healthy], corrected[healthy])
    assert correlation(raw[healthy], 1 / camera.gain[healthy]) > 0.9
    assert (raw - corrected / camera.gain)[camera.hot > 0].mean() > 2


def test_same_seed_same_picture_other_seed_other_picture():
    one, again, other, second = (Exposure(SMALL, *which) for which in [(8, 0), (8, 0), (9, 0), (8, 1)])
    assert np.array_equal(one.truth, again.truth)
    assert np.array_equal(one.halves().views, again.halves().views)
    assert np.array_equal(one.movie().views, again.movie().views)
    for different in (other, second):
        assert not np.array_equal(one.truth, different.truth)
        assert not np.array_equal(one.truth_with_ice - one.truth, different.truth_with_ice - different.truth)
    assert np.array_equal(one.camera.gain, second.camera.gain)
    assert one.scene.optics != second.scene.optics


def test_noise_does_not_change_with_the_scene_asked_first():
    asked = Exposure(SMALL, 8)
    _ = asked.truth, asked.signal_to_noise
    assert np.array_equal(asked.halves().views, Exposure(SMALL, 8).halves().views)


def test_default_signal_to_noise_is_that_of_real_micrographs():
    """0.01 to 0.02 per pixel of the full average at 40 electrons/Å², 1.5 Å, in the mean over families."""
    values = [Exposure(world_of(World(), size=512, proteins=family), 0, family).signal_to_noise for family in range(6)]
    assert 0.01 < np.mean(values) < 0.02


def test_signal_to_noise_is_a_ratio_of_variances():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((128, 128)).astype(np.float32)
    ramp = 100 * np.cos(2 * np.pi * np.arange(128) / 128)[:, None]
    assert signal_to_noise(truth, 50.0, 1.5) == pytest.approx(1 / 50, rel=0.05)
    # a wave of 128 px · 5 Å = 640 Å is no signal
    assert signal_to_noise((truth + ramp).astype(np.float32), 50.0, 5.0) == pytest.approx(1 / 50, rel=0.05)


def test_damage_takes_fine_detail_from_late_frames():
    scene = Exposure(SMALL).scene
    early, late = scene.damage_in(0), scene.damage_in(7)
    fine = scene.frequency > 0.2
    coarse = scene.frequency < 0.01
    assert bool((late[fine] < 0.2 * early[fine]).all())
    assert bool((late[coarse] > 0.95).all())


def test_contrast_grows_with_defocus():
    contrast = []
    for defocus in (0.5, 1.0, 2.0):
        truth = Exposure(world_of(SMALL, defocus=defocus), 10).truth
        coarse = filter_radially(torch.from_numpy(truth - truth.mean()), lambda f: (f < 0.05).float(), axes=2)
        contrast.append(float(coarse.std()))
    assert contrast[0] < contrast[1] < contrast[2]


def test_detectors_have_names():
    assert world_of(World(), detector="integrating").detector == DETECTORS["integrating"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dosis": 3}, "did you mean 'dose'"),
        ({"dose": -1}, "dose -1"),
        ({"size": 8}, "32 pixels"),
        ({"size": (64, 64, 64)}, "two numbers"),
        ({"frames": 1}, "2 or more"),
        ({"defocus": (1, 2, 3)}, "one or two numbers"),
        ({"detector": "film"}, "counting, integrating"),
        ({"kv": 0}, "10 to 3000 kV"),
        ({"pixel_size": float("nan")}, "0.1 to 50"),
    ],
)
def test_impossible_worlds_are_refused(settings, said):
    with pytest.raises(RecipeFault, match=said):
        world_of(World(), **settings)


def test_too_much_matter_is_refused():
    plate = Optics(kv=100, phase_shift=90)
    world = world_of(SMALL, size=256, coverage=1.0, crowding=1.0, optics=plate, proteins=2)
    with pytest.raises(RecipeFault, match="weak-phase"):
        _ = Exposure(world, 0).truth
