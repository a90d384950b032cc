"""Settings of drawn pictures, one number of each for every picture: drawn by the processor, taken to the device."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Settings = dict[str, np.ndarray]  # each (pictures,)


def log_uniform(rng: np.random.Generator, low: float, high: float, count: int) -> np.ndarray:
    """(count,) numbers from `low` to `high`, each octave as often."""
    return np.exp(rng.uniform(np.log(low), np.log(high), count))


def sometimes(rng: np.random.Generator, share: float, low: float, high: float, count: int) -> np.ndarray:
    """(count,) log-uniform numbers in a `share` of the draws, 0 in the others."""
    return np.where(rng.random(count) < share, log_uniform(rng, low, high, count), 0.0)


def one_of(rng: np.random.Generator, often: Sequence[float], count: int) -> np.ndarray:
    """(count,) places in the list `often`, each as often as stands there, as floats."""
    return rng.choice(len(often), count, p=np.array(often) / np.sum(often)).astype(float)


def taken(array: np.ndarray, device: torch.device) -> Tensor:
    """`array` on the device, without waiting for what the device still has to do."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def as_tensors(settings: Settings, device: torch.device) -> dict[str, Tensor]:
    """Each setting (count, 1, 1) float32 on the device; one transfer for all of them."""
    together = taken(np.stack(list(settings.values())).astype(np.float32), device)
    return dict(zip(settings, together[:, :, None, None]))
