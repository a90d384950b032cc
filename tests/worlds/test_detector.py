"""Detectors: Poisson where they count, correlated noise where they integrate, one camera per seed."""

import numpy as np
import pytest
import torch

from deice.errors import RecipeFault
from deice.worlds.detector import Detector, build_camera, detector_named, noise_variance, record, transfer

RATE = torch.full((400, 400), 2.5)


def generator():
    return torch.Generator().manual_seed(0)


def neighbours(image):
    centred = image - image.mean()
    return float((centred[:, 1:] * centred[:, :-1]).mean() / centred.var())


def test_counting_is_poisson():
    counts = record(RATE, 1, Detector(), 1.0, generator())
    assert torch.equal(counts, counts.round())
    assert float(counts.mean()) == pytest.approx(2.5, rel=0.01)
    assert float(counts.var()) == pytest.approx(2.5, rel=0.02)
    assert float(counts.var()) == pytest.approx(noise_variance(Detector(), 2.5, 1), rel=0.02)
    assert abs(neighbours(counts)) < 0.01


def test_integrating_spreads_its_noise():
    """Neighbour correlation of white noise after a Gaussian of standard deviation s: exp(-1/(4 s²))."""
    detector = Detector("integrating", mtf_at_nyquist=0.2, read_noise=0.0)
    counts = record(RATE, 1, detector, 1.0, generator())
    spread = np.sqrt(-np.log(0.2) / (2 * np.pi**2 * 0.25))
    assert float(counts.mean()) == pytest.approx(2.5, rel=0.01)
    assert neighbours(counts) == pytest.approx(np.exp(-1 / (4 * spread**2)), abs=0.02)
    assert float(counts.var()) == pytest.approx(noise_variance(detector, 2.5, 1), rel=0.03)


def test_read_noise_adds_up_over_frames():
    detector = Detector("integrating", mtf_at_nyquist=0.2, read_noise=2.0)
    of_ten = record(RATE * 10, 10, detector, 1.0, generator()) / 10
    assert float(of_ten.var()) == pytest.approx(noise_variance(detector, 2.5, 10), rel=0.03)


def test_transfer_is_one_at_zero_and_as_stated_at_nyquist():
    curve = transfer(Detector(mtf_at_nyquist=0.4), (64, 64))
    assert float(curve[0, 0]) == 1
    assert float(curve[0, 32]) == pytest.approx(0.4)
    assert float(curve[32, 0]) == pytest.approx(0.4)


def test_camera():
    detector = Detector(gain_spread=0.05, gain_error=0.01, hot=1e-3, dead=1e-3)
    camera, same, other = (build_camera(detector, (300, 200), seed) for seed in (1, 1, 2))
    assert np.array_equal(camera.gain, same.gain)
    assert not np.array_equal(camera.gain, other.gain)
    assert camera.gain.mean() == pytest.approx(1, rel=1e-5)
    assert camera.gain.std() == pytest.approx(0.05, rel=0.1)
    assert (camera.reference / camera.gain).std() == pytest.approx(0.01, rel=0.05)
    assert (camera.hot > 0).mean() == pytest.approx(1e-3, rel=0.5)
    assert camera.dead.mean() == pytest.approx(1e-3, rel=0.5)


def test_unknown_detector():
    with pytest.raises(RecipeFault, match="counting, integrating"):
        detector_named("ccd")
