import numpy as np
import pytest

from deice.ops.drift import ShiftedSum, find_drift


def scene(size: int, seed: int) -> np.ndarray:
    """Blobs with inner structure between empty places, mean 0 and standard deviation 1: (size, size), periodic."""
    generator = np.random.default_rng(seed)
    squared = np.fft.fftfreq(size)[:, None] ** 2 + np.fft.rfftfreq(size) ** 2
    inner = np.fft.irfft2(np.fft.rfft2(generator.normal(size=(size, size))) * np.exp(-squared / 0.02), s=(size, size))
    outer = np.fft.irfft2(np.fft.rfft2(generator.normal(size=(size, size))) * np.exp(-squared / 2e-4), s=(size, size))
    picture = (inner / inner.std() + 1) * (outer > outer.std() / 2)
    return (picture - picture.mean()) / picture.std()


def moved(picture: np.ndarray, shift: np.ndarray) -> np.ndarray:
    phase = np.fft.fftfreq(len(picture))[:, None] * shift[0] + np.fft.rfftfreq(len(picture)) * shift[1]
    return np.fft.irfft2(np.fft.rfft2(picture) * np.exp(-2j * np.pi * phase), s=picture.shape)


def drifting(path: np.ndarray, size: int, contrast: float, dose: float, seed: int = 0) -> np.ndarray:
    """Poisson frames of a scene that moves along `path` (t, 2); the frames see only its middle."""
    picture, generator = scene(size + 64, seed), np.random.default_rng(seed)
    rate = dose / len(path)
    frames = [rate * np.clip(1 + contrast * moved(picture, shift)[32:-32, 32:-32], 0, None) for shift in path]
    return generator.poisson(frames).astype(np.float32)


def path_of(frames: int) -> np.ndarray:
    """Fast at first and slow later, as a beam makes ice move; mean 0."""
    time = np.arange(frames)
    path = np.stack([5 * np.exp(-time / 4) + 0.03 * time, -3 * np.exp(-time / 6) - 0.02 * time], axis=1)
    return path - path.mean(axis=0)


def test_a_drift_is_recovered_at_the_contrast_of_micrographs():
    """40 counts a pixel, signal / noise variance 0.015 in the mean of all frames: a movie of 3072², binned 4 × 4."""
    path = path_of(16)
    shifts, error = find_drift(drifting(path, 768, 0.0194, 40 * 16))
    assert np.abs(shifts + path).max() < 0.2
    assert np.sqrt(np.mean((shifts + path) ** 2)) < 3 * error < 0.3


def test_single_jumps_are_not_smoothed_away():
    path = np.zeros((12, 2))
    path[6:] = [2.5, -1.5]
    path -= path.mean(axis=0)
    shifts, _ = find_drift(drifting(path, 512, 0.05, 600))
    assert np.abs(shifts + path).max() < 0.3


def test_a_drift_of_many_pixels_is_found():
    path = 6 * path_of(16)
    shifts, _ = find_drift(drifting(path, 512, 0.05, 600))
    assert np.abs(shifts + path).max() < 0.3


@pytest.mark.parametrize("seed", range(3))
def test_pure_noise_is_not_aligned(seed):
    frames = np.random.default_rng(seed).poisson(2.0, (10, 256, 256)).astype(np.float32)
    shifts, error = find_drift(frames)
    assert not shifts.any()
    assert error > 1


def test_noise_stays_white_and_as_strong_under_the_shift():
    noise = np.random.default_rng(0).normal(size=(256, 200)).astype(np.float32)
    total = ShiftedSum(noise.shape)
    total.add(noise, np.array([0.37, -0.5]))
    shifted = total.image()
    assert abs(shifted.var() / noise.var() - 1) < 0.01
    power = np.abs(np.fft.rfft2(shifted)) ** 2
    assert abs(power[100:156, 60:95].mean() / power[:40, :40].mean() - 1) < 0.15
    for axis in (0, 1):
        assert abs(np.mean(shifted * np.roll(shifted, 1, axis)) / shifted.var()) < 0.02


def test_shifted_frames_lie_on_each_other_and_borders_do_not_wrap():
    picture = np.tile(np.linspace(0, 50, 120, dtype=np.float32)[:, None], (1, 90))
    total = ShiftedSum(picture.shape)
    total.add(picture, np.array([-7.0, 0.0]))
    expected = np.concatenate([picture[7:], picture[-2:-9:-1]])
    np.testing.assert_allclose(total.image(), expected, atol=1e-3)


def test_a_shift_moves_by_what_it_says():
    picture = scene(128, 3).astype(np.float32)
    total = ShiftedSum(picture.shape)
    total.add(picture, np.array([2.6, -3.3]))
    images = total.image(), moved(picture, np.array([2.6, -3.3]))
    assert np.corrcoef([image[16:-16, 16:-16].ravel() for image in images])[0, 1] > 0.999
