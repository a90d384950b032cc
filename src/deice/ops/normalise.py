"""Grey values to the network's scale and back; statistics are of the whole image, never of a tile."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deice.ops.tiles import blocks

SAMPLE = 1 << 24  # above this many elements quantiles are measured on evenly spread slabs of an image, not on all of it
SLABS = 16  # about so many of them
CLIPPED = (0.0005, 0.9995)  # quantiles


@dataclass(frozen=True)
class Affine:
    """normalised = (grey - offset) / scale, clipped to [low, high] where they are given."""

    offset: float = 0.0
    scale: float = 1.0
    low: float | None = None
    high: float | None = None

    def apply(self, grey: Any) -> Any:
        """Grey values (any array or tensor) → the network's scale."""
        normalised = (grey - self.offset) * (1.0 / self.scale)
        return normalised if self.low is None else normalised.clip(self.low, self.high)

    def apply_in_place(self, grey: Any) -> None:
        """As `apply`, on an array that may be overwritten."""
        if self.offset:
            grey -= self.offset
        if self.scale != 1:
            grey *= 1.0 / self.scale
        if self.low is not None:
            grey.clip(self.low, self.high, out=grey)

    def undo(self, normalised: Any) -> Any:
        """The network's scale → grey values."""
        return normalised * self.scale + self.offset


@dataclass(frozen=True)
class Statistics:
    """Of the finite values of one image: count, mean, standard deviation, and how many values were not finite."""

    count: int
    mean: float
    sd: float
    not_finite: int

    @property
    def varies(self) -> bool:
        """Whether there is anything to denoise."""
        return self.count > 1 and np.isfinite(self.sd) and self.sd > 1e-7 * abs(self.mean)


def statistics(image: Any, limit: int | None = None) -> Statistics:
    """Mean and standard deviation of `image` (*space) in float64, block by block (Chan et al. 1983).

    `limit`: measure about that many elements in evenly spread slabs; None measures all.
    """
    count, mean, squares, not_finite = 0, 0.0, 0.0, 0
    for block in _sampled_blocks(image, limit):
        values = np.asarray(image[block], dtype=np.float64)
        known = np.isfinite(values)
        finite = values.ravel() if known.all() else values[known]
        not_finite += values.size - finite.size
        if not finite.size:
            continue
        block_mean = float(finite.mean())
        block_squares = float(np.square(finite - block_mean).sum())
        total = count + finite.size
        difference = block_mean - mean
        squares += block_squares + difference**2 * count * finite.size / total
        mean += difference * finite.size / total
        count = total
    return Statistics(count, mean, float(np.sqrt(squares / count)) if count else float("nan"), not_finite)


def finite_statistics(picture: Tensor) -> Statistics:
    """The same of a tensor (*space) float32 on its device, if all of it is finite, in two passes in float64.

    Where it is not, `count` is 0, and neither mean nor deviation is a number.
    """
    parts = picture.reshape(-1).split(1 << 22)
    mean = torch.stack([part.sum(dtype=torch.float64) for part in parts]).sum() / picture.numel()
    squares = torch.stack([(part.double() - mean).square_().sum() for part in parts]).sum()
    mean, variance = torch.stack([mean, squares / picture.numel()]).tolist()
    finite = bool(np.isfinite(mean) and np.isfinite(variance))
    return Statistics(picture.numel() if finite else 0, mean, variance**0.5, 0)


def _sampled_blocks(image: Any, limit: int | None) -> list[slice]:
    size = int(np.prod(image.shape))
    if limit is None or size <= limit:
        return list(blocks(image.shape, 1 << 20))
    every = list(blocks(image.shape, limit // SLABS))
    step = size / limit
    return [every[int(i * step)] for i in range(int(len(every) / step))] or every[:1]


def standard(image: Any, limit: int | None = None) -> Affine:
    """Zero mean and unit standard deviation. Equivariant: a·x + b is denoised to a·y + b for a > 0."""
    found = statistics(image, limit)
    return Affine(found.mean, found.sd)


def clipped(image: Any, limit: int | None = None) -> Affine:
    """Clip to the quantiles 0.0005 and 0.9995, then zero mean and unit standard deviation, as F2Fd does.

    Gold beads and hot voxels are cut off, in the answer too. Equivariant to a·x + b for a > 0. All is measured on a
    sample.
    """
    values = _sampled_values(image, limit)
    values = values[np.isfinite(values)]
    if not values.size:
        return Affine()
    low, high = np.quantile(values, CLIPPED)
    values = values.clip(low, high).astype(np.float64)
    mean, sd = float(values.mean()), float(values.std())
    return Affine(mean, sd, (float(low) - mean) / sd, (float(high) - mean) / sd) if sd > 0 else standard(image, limit)


def _sampled_values(image: Any, limit: int | None) -> np.ndarray:
    return np.concatenate([np.asarray(image[b], np.float32).ravel() for b in _sampled_blocks(image, limit or SAMPLE)])


def percentile(image: Any, limit: int | None = None) -> Affine:
    """Divide by the 95th percentile of the positive values, clip to [0, 1] (the streaming format's convention).

    Not equivariant: an offset changes what is positive.
    """
    values = _sampled_values(image, limit)
    positive = values[np.isfinite(values) & (values > 0)]
    return Affine(0.0, float(np.percentile(positive, 95)) if positive.size else 1.0, 0.0, 1.0)


def identity(image: Any, limit: int | None = None) -> Affine:
    """Grey values as they are."""
    return Affine()


NORMALISERS: dict[str, Callable[..., Affine]] = {
    "standard": standard, "clipped": clipped, "percentile": percentile, "none": identity}


def all_finite(block: np.ndarray) -> bool:
    """Whether no value of `block` (float) is NaN or infinite."""
    if block.dtype == np.float16:  # whose arithmetic numpy does one by one: its exponent's bits are looked at
        return int((block.view(np.uint16) & 0x7C00).max()) < 0x7C00
    return bool(np.isfinite(block).all())


def replace_not_finite(block: np.ndarray, fill: float) -> np.ndarray:
    """Give each NaN or infinity of `block` (*space) a finite neighbour's value, `fill` where there is none near.

    Values of neighbours, not their mean: a smooth spot would stand out against the noise. Returns float32; the
    input is not changed.
    """
    values = np.array(block, dtype=np.float32)
    bad = ~np.isfinite(values)
    if not bad.any():
        return values
    for distance in (1, 2, 3, 5, 8):
        for axis in range(values.ndim):
            for shift in (distance, -distance):
                donor = np.roll(values, shift, axis)
                usable = bad & np.isfinite(donor)
                values[usable] = donor[usable]
                bad &= ~usable
        if not bad.any():
            return values
    values[bad] = fill
    return values
