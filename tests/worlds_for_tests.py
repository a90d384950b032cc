"""Small pictures and volumes with a known truth, for the laws: smooth structure under white noise."""

import numpy as np


def structure(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Blobs of unit variance, (*shape) float32: random waves of wavelengths from about 8 to 30 pixels."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfftn(rng.normal(size=shape))
    squared = sum(
        np.reshape(f**2, [-1 if a == axis else 1 for a in range(len(shape))])
        for axis, f in enumerate([*map(np.fft.fftfreq, shape[:-1]), np.fft.rfftfreq(shape[-1])])
    )
    picture = np.fft.irfftn(spectrum * np.exp(-squared / (2 * 0.04**2)), s=shape, axes=range(len(shape)))
    return ((picture - picture.mean()) / picture.std()).astype(np.float32)


def views(shape: tuple[int, ...], count: int = 2, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(truth (*shape), noisy views (count, *shape)) float32."""
    truth = structure(shape, seed)
    rng = np.random.default_rng(seed + 1000)
    return truth, (truth + noise * rng.normal(size=(count, *shape))).astype(np.float32)


def error(image: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square difference."""
    return float(np.sqrt(np.mean((np.asarray(image, np.float64) - truth) ** 2)))
