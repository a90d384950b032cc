"""Minimum, maximum, mean and standard deviation in float64, block by block: any size in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

BLOCK = 1 << 16  # numbers per block: half a megabyte in float64 stays in the processor's cache


@dataclass(frozen=True)
class Statistics:
    """Of the finite values; `not_finite` counts the NaN and infinities left out of them."""

    minimum: float
    maximum: float
    mean: float
    sd: float
    not_finite: int
    infinite: int


def statistics(pixels: Any) -> Statistics:
    """Statistics of `pixels` (..., y, x), anything with shape and slicing; NaN figures if nothing is finite.

    Blocks are merged by the pairwise update of mean and squared deviations (Chan, Golub and LeVeque 1979), so that a
    mean of 7000 with a deviation of 9 loses nothing.
    """
    count = not_finite = infinite = 0
    mean = squares = 0.0
    minimum, maximum = np.inf, -np.inf
    for block in _blocks(pixels):
        finite = np.isfinite(block)
        if not finite.all():
            not_finite += int(finite.size - finite.sum())
            infinite += int(np.isinf(block).sum())
            block = block[finite]
        if block.size == 0:
            continue
        block_mean = float(block.mean())
        shift, total = block_mean - mean, count + block.size
        squares += float(((block - block_mean) ** 2).sum()) + shift**2 * count * block.size / total
        mean += shift * block.size / total
        count = total
        minimum, maximum = min(minimum, float(block.min())), max(maximum, float(block.max()))
    if count == 0:
        return Statistics(np.nan, np.nan, np.nan, np.nan, not_finite, infinite)
    return Statistics(minimum, maximum, mean, float(np.sqrt(squares / count)), not_finite, infinite)


def _blocks(pixels: Any) -> Iterator[np.ndarray]:
    """Runs of rows of each frame, in float64; each frame is asked for once."""
    rows = max(1, BLOCK // max(1, pixels.shape[-1]))
    for number in np.ndindex(*pixels.shape[:-2]):
        frame = pixels[number] if number else pixels
        for first in range(0, pixels.shape[-2], rows):
            yield np.asarray(frame[first : first + rows], dtype=np.float64)
