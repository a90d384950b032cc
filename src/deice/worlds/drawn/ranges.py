"""Draws from ranges: uniform in the logarithm, or one of several by how often it occurs."""

from collections.abc import Sequence

import numpy as np


def log_uniform(rng: np.random.Generator, low: float, high: float, count: int) -> np.ndarray:
    """(count,) numbers from `low` to `high`, each octave as often."""
    return np.exp(rng.uniform(np.log(low), np.log(high), count))


def one_of(rng: np.random.Generator, names: Sequence[str], often: Sequence[float], count: int) -> np.ndarray:
    """(count,) of `names`, each as `often` as said."""
    return rng.choice(np.array(names), count, p=np.array(often) / np.sum(often))


def sometimes(rng: np.random.Generator, share: float, low: float, high: float, count: int) -> np.ndarray:
    """(count,) log-uniform numbers in a `share` of the draws, 0 in the others."""
    return np.where(rng.random(count) < share, log_uniform(rng, low, high, count), 0.0)
