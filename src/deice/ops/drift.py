"""Whole-frame drift of a movie: found on small frames by phase correlation, undone by Fourier shifts. numpy only.

A shift (y, x) in pixels is what has to be applied to a frame to lay it on the others.
"""

import numpy as np

ROUNDS = 8
HIGH_PASS = 0.005  # cycles per pixel: illumination and vignetting stand still and would hold the frames
TAPER = 0.06  # share of an axis over which a frame fades at its borders
SHELL = 4  # width of a shell of the spectrum, in coefficients
SIGNAL = 3.0  # standard errors by which a shell's signal must exceed nothing, to be used
FARTHEST = 0.1  # share of an axis: the largest drift between a frame and the mean of the others
UNSURE = 1.0  # pixels: with a larger expected error the frames show nothing to align by


def find_drift(frames: np.ndarray) -> tuple[np.ndarray, float]:
    """Shifts in pixels that align `frames` (t, y, x), of mean 0, and their expected error in pixels: (t, 2), float.

    Each frame is correlated with the sum of the others, shifted as found so far. Coefficients keep their phase and are
    weighted by S / (S + N/(t − 1)) / N, S and N the power of signal and noise on their shell: S from what frames
    share, so that the rounds go from coarse to fine by themselves as the frames fall into place. The maximum is
    refined by a parabola, whose error vanishes as the rounds converge. The path in time is then smoothed as far as
    the expected error (the Cramér-Rao bound from S and N) allows. With an error above UNSURE there is nothing to align
    by, and all shifts are 0.
    """
    shape, count = frames.shape[1:], len(frames)
    fade = np.outer(_fade(shape[0]), _fade(shape[1])).astype(np.float32)
    spectra = np.stack([np.fft.rfft2((frame - frame.mean()) * fade) for frame in frames])
    power = sum(np.abs(spectrum) ** 2 for spectrum in spectra)
    shifts, reach = np.zeros((count, 2)), np.array([max(2, int(FARTHEST * size)) for size in shape])
    for _ in range(ROUNDS):
        total = sum(spectrum * _ramp(shape, shift) for spectrum, shift in zip(spectra, shifts, strict=True))
        weight, error = _weigh(total, power, count, shape)
        if not error < UNSURE:
            return np.zeros((count, 2)), error
        for number, spectrum in enumerate(spectra):
            moved = spectrum * _ramp(shape, shifts[number])
            correlation = np.fft.irfft2((total - moved) * moved.conj() * weight, s=shape)
            shifts[number] += _peak(correlation, reach)
        shifts = _smooth_path(shifts, error)
        shifts -= shifts.mean(axis=0)
        reach = np.minimum(reach, 2 + int(6 * error))
    return shifts, error


def _weigh(total: np.ndarray, power: np.ndarray, count: int, shape: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """The weight of each coefficient, and the error in pixels that a frame's shift then has.

    total: sum of the shifted spectra of `count` frames; power: sum of their squared moduli.
    """
    radius = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    shell = (radius * max(shape) / SHELL).astype(int)
    size = np.bincount(shell.ravel())
    shared = (np.abs(total) ** 2 - power) / (count * (count - 1))
    signal = np.bincount(shell.ravel(), shared.ravel()) / size
    noise = np.maximum(np.bincount(shell.ravel(), power.ravel()) / count / size - signal, np.finfo(np.float32).tiny)
    signal[signal < SIGNAL * noise / count / np.sqrt(size)] = 0
    weight = signal / (signal + noise / (count - 1)) / noise
    high_pass = -np.expm1(-(radius**2) / (2 * HIGH_PASS**2))
    # a half transform holds half of the information; each axis sees half of the squared radius
    information = np.sum(high_pass * (2 * np.pi * radius) ** 2 * (signal * weight)[shell])
    error = float(1 / np.sqrt(information)) if information > 0 else np.inf
    return (weight[shell] * high_pass).astype(np.float32), error


def _smooth_path(path: np.ndarray, error: float) -> np.ndarray:
    """`path` (t, 2) with the smallest second differences that leave residuals no larger than `error`.

    Whittaker's smoother (Proc. Edinburgh Math. Soc. 41, 1923); the residuals are judged by their median: one frame
    gone astray must not keep the others rough.
    """
    if len(path) < 4:
        return path
    second = np.diff(np.eye(len(path)), 2, axis=0)
    roughness, modes = np.linalg.eigh(second.T @ second)
    for penalty in np.logspace(4, -3, 29):
        smooth = modes @ ((modes.T @ path) / (1 + penalty * np.maximum(roughness, 0))[:, None])
        if 1.4826 * np.median(np.abs(path - smooth)) <= error:
            return smooth
    return path


class ShiftedSum:
    """Frames shifted by fractions of a pixel and summed in Fourier space: one transform per frame, one at the end.

    A Fourier shift changes phases only: white noise stays white and of the same strength, where any interpolation
    between pixels would smooth it, and tie neighbouring pixels together, by an amount that differs from frame to
    frame. What a shift pushes over one border would enter at the other; whole pixels are shifted before, with the
    uncovered strip filled by its mirror image, so that less than one pixel wraps around.
    """

    def __init__(self, shape: tuple[int, int]):
        self.shape = shape
        self.spectrum = np.zeros((shape[0], shape[1] // 2 + 1), np.complex64)

    def add(self, frame: np.ndarray, shift: np.ndarray) -> None:
        """Add `frame` (y, x) moved by `shift` (y, x) pixels."""
        whole = np.round(shift).astype(int)
        spectrum = np.fft.rfft2(_move(frame, whole))
        for first in range(0, self.shape[0], 256):
            rows = slice(first, first + 256)
            self.spectrum[rows] += spectrum[rows] * _ramp(self.shape, shift - whole, rows)

    def image(self) -> np.ndarray:
        """The sum, float32 (y, x)."""
        return np.fft.irfft2(self.spectrum, s=self.shape)


def _move(frame: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """`frame` moved by whole pixels, the strip it leaves filled by mirroring."""
    for axis, size in enumerate(frame.shape):
        if shift[axis]:
            index = np.abs(np.arange(size) - shift[axis])
            frame = np.take(frame, np.where(index >= size, 2 * (size - 1) - index, index), axis=axis)
    return frame


def _ramp(shape: tuple[int, ...], shift: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
    """The phases that move an image of `shape` by `shift` pixels: complex64, the `rows` of the half transform."""
    y = np.exp(-2j * np.pi * np.fft.fftfreq(shape[0])[rows] * shift[0]).astype(np.complex64)
    x = np.exp(-2j * np.pi * np.fft.rfftfreq(shape[1]) * shift[1]).astype(np.complex64)
    return y[:, None] * x


def _fade(size: int) -> np.ndarray:
    """1 in the middle, falling to 0 at both ends as a cosine does."""
    ramp = np.clip((np.arange(size) + 0.5) / max(TAPER * size, 1), 0, 1)
    return 0.5 - 0.5 * np.cos(np.pi * np.minimum(ramp, ramp[::-1]))


def _peak(correlation: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Where the maximum within `reach` (y, x) pixels lies, to a fraction of a pixel."""
    window = np.roll(correlation, reach, axis=(0, 1))[: 2 * reach[0] + 1, : 2 * reach[1] + 1]
    y, x = np.unravel_index(np.argmax(window[1:-1, 1:-1]), (window.shape[0] - 2, window.shape[1] - 2))
    around = window[y : y + 3, x : x + 3]
    return np.array([y + 1 - reach[0] + _vertex(around[:, 1]), x + 1 - reach[1] + _vertex(around[1])])


def _vertex(three: np.ndarray) -> float:
    """Where a parabola through three values has its maximum, from −½ to ½ around the middle one."""
    curvature = three[0] - 2 * three[1] + three[2]
    return 0.0 if curvature >= 0 else float(np.clip((three[0] - three[2]) / (2 * curvature), -0.5, 0.5))
