"""The camera: how electrons become pixel values.

counting: every electron is found and counted once; its blur is in the rate, pixels are independent (Poisson).
integrating: electrons arrive at random, each spreads its charge over pixels, the read-out adds noise: the noise
of neighbouring pixels is correlated. (That electrons deposit unequal energy is left out.)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.ops.fourier import filter_radially, frequency_radius


@dataclass(frozen=True)
class Detector:
    """kind: "counting" or "integrating".

    mtf_at_nyquist: what is left of an amplitude at 0.5 cycles per pixel; the point spread is a Gaussian.
    read_noise: standard deviation in electrons per pixel and frame (integrating only).
    gain_spread, gain_error: relative standard deviation of the pixels' gain, and of its reference about it.
    hot, dead: share of pixels that count by themselves, and that count nothing (movies only).
    """

    kind: str = "counting"
    mtf_at_nyquist: float = 0.5
    read_noise: float = 0.0
    gain_spread: float = 0.03
    gain_error: float = 0.0
    hot: float = 3e-5
    dead: float = 1e-5


DETECTORS = {
    "counting": Detector(),
    "integrating": Detector("integrating", mtf_at_nyquist=0.2, read_noise=0.5),
}


def detector_named(name: str) -> Detector:
    """A detector with its usual figures; RecipeFault for a name that is none."""
    if name not in DETECTORS:
        raise RecipeFault(f"detector {name!r} is unknown; expected one of {', '.join(DETECTORS)}")
    return DETECTORS[name]


def binned(detector: Detector, by: int) -> Detector:
    """`detector` seen through pixels that are the sums of `by` x `by` of its own (Fourier cropping: no more blur)."""
    transferred = detector.mtf_at_nyquist ** (1 / by**2)
    return replace(detector, mtf_at_nyquist=transferred, read_noise=detector.read_noise * by)


@dataclass(frozen=True, eq=False)
class Camera:
    """One camera's pixels, each (y, x).

    gain: multiplies what is read.  reference: the gain as a user is given it.  hot: counts that a pixel adds to each
    frame by itself.  dead: True where nothing is read.
    """

    gain: np.ndarray
    reference: np.ndarray
    hot: np.ndarray
    dead: np.ndarray


def build_camera(detector: Detector, size: tuple[int, int], seed: int) -> Camera:
    """The camera of a whole set of movies: the same `seed` gives the same pixels."""
    rng = np.random.default_rng([seed, 7_001])
    # pixels differ each for itself, and by the column amplifier they share
    pattern = 0.9 * rng.standard_normal(size) + 0.436 * rng.standard_normal((1, size[1]))
    gain = 1 / np.clip(1 - detector.gain_spread * pattern, 0.2, 5)
    gain = gain / gain.mean()
    reference = gain * (1 + detector.gain_error * rng.standard_normal(size))
    hot = np.where(rng.random(size) < detector.hot, np.exp(rng.uniform(np.log(3), np.log(300), size)), 0.0)
    dead = rng.random(size) < detector.dead
    return Camera(*(array.astype(np.float32) for array in (gain, reference, hot)), dead)


def transfer(detector: Detector, shape: Sequence[int]) -> Tensor:
    """The modulation transfer function on the half transform of a field of `shape`: 1 at zero."""
    return transfer_at(detector, frequency_radius(shape))


def record(
    rate: Tensor, frames: int, detector: Detector, sensitivity: Tensor | float, rng: torch.Generator
) -> Tensor:
    """What the camera reads, in electrons, for the sum of `frames` frames: same shape as `rate`.

    rate: expected electrons per pixel of the sum, (y, x), blurred already if the detector counts, not blurred
    if it integrates.  sensitivity: 1 / gain.
    """
    if detector.kind == "counting":
        return torch.poisson(rate * sensitivity, generator=rng)
    charge = filter_radially(torch.poisson(rate, generator=rng), lambda f: transfer_at(detector, f), axes=2)
    noise = torch.randn(rate.shape, generator=rng) * detector.read_noise * frames**0.5
    return charge * sensitivity + noise


def noise_variance(detector: Detector, rate: float, frames: int) -> float:
    """Variance of a pixel of the mean of `frames` frames, each of `rate` expected electrons per pixel."""
    if detector.kind == "counting":
        return rate / frames
    spread = float((transfer(detector, (256, 256)) ** 2 * _both_halves(256)).sum()) / 256**2
    return (rate * spread + detector.read_noise**2) / frames


def transfer_at(detector: Detector, frequency: Tensor) -> Tensor:
    """The modulation transfer function at `frequency` (cycles per pixel, any shape): 1 at zero."""
    return detector.mtf_at_nyquist ** ((2 * frequency) ** 2)


def _both_halves(size: int) -> Tensor:
    """How often each column of a half transform of even `size` stands in the whole one."""
    counts = torch.full((size // 2 + 1,), 2.0)
    counts[0] = counts[-1] = 1.0
    return counts
