"""Tiles: spans on one axis, then their product.

A tile is a core plus a halo on every side. The core is what the tile answers for; the halo is what the network must
see to answer as it would on the whole image. Positions may lie outside the image: there the image is reflected.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Span:
    """One tile on one axis: its core is [start, stop), it reads [start - halo, stop + halo)."""

    start: int
    stop: int
    halo: int
    weight: np.ndarray  # (stop - start,), the core's share of each position; shares of all spans add to 1


def round_up(size: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `size`."""
    return -(-size // multiple) * multiple


def spans(size: int, core: int, halo: int, stride: int, blend: int = 0) -> list[Span]:
    """Cover an axis of `size` by cores of one length, overlapping by up to `blend` positions
    (at most half a core) with linear ramps.

    Every origin, halo included, is a multiple of `stride` (the network's pooling grid), so a tile is pooled exactly
    as the whole image is. The last core may reach beyond the axis.
    """
    halo = round_up(halo, stride)
    core = min(round_up(core, stride), round_up(size, stride))
    step = core if core >= size else round_up(core - min(blend, core // 2), stride)
    overlap = core - step
    starts = range(0, max(size - overlap, 1), step)
    ramp = np.arange(1, overlap + 1, dtype=np.float32) / (overlap + 1)
    covered = []
    for start in starts:
        weight = np.ones(core, np.float32)
        if overlap and start > 0:
            weight[:overlap] = ramp
        if overlap and start + step < max(size - overlap, 1):
            weight[core - overlap :] = ramp[::-1]
        covered.append(Span(start, start + core, halo, weight))
    return covered


def grid(shape: Sequence[int], cores: Sequence[int], halo: int, stride: int, blend: int = 0) -> list[tuple[Span, ...]]:
    """Every tile of an image of `shape` (*space): the product of the spans of its axes."""
    return list(product(*(spans(size, core, halo, stride, blend) for size, core in zip(shape, cores))))


def reflect(index: np.ndarray, size: int) -> np.ndarray:
    """Fold positions into [0, size) by reflection about the first and last sample, as often as it takes."""
    if size == 1:
        return np.zeros_like(index)
    folded = np.abs(index) % (2 * size - 2)
    return np.minimum(folded, 2 * size - 2 - folded)


def read_tile(source: Any, tile: Sequence[Span]) -> Any:
    """The tile with its halo from `source` (*space), reflected beyond the edges.

    Of a tensor a tensor on its device; of anything else with shape and slicing an array. It may share its memory.
    """
    positions = [reflect(np.arange(s.start - s.halo, s.stop + s.halo), n) for s, n in zip(tile, source.shape)]
    lowest = [int(p.min()) for p in positions]
    block = source[tuple(slice(low, int(p.max()) + 1) for low, p in zip(lowest, positions))]
    folded = [p - low for p, low in zip(positions, lowest)]
    if not isinstance(block, Tensor):
        return np.asarray(block)[np.ix_(*folded)]
    for axis, places in enumerate(folded):
        if not np.array_equal(places, np.arange(block.shape[axis])):
            block = block.index_select(axis, _beside(block, places))
    return block


def add_tile(canvas: Any, tile: Sequence[Span], core: Any) -> None:
    """Add a tile's weighted core (*core shape) to `canvas` (*space) in place; what lies outside is dropped.

    Both are arrays, or both tensors on one device.
    """
    inside = tuple(slice(0, min(s.stop, n) - s.start) for s, n in zip(tile, canvas.shape))
    target = tuple(slice(s.start, min(s.stop, n)) for s, n in zip(tile, canvas.shape))
    share = core[inside]
    for axis, (span, part) in enumerate(zip(tile, inside)):
        if (weight := span.weight[part]).min() < 1:
            weight = weight.reshape([-1 if a == axis else 1 for a in range(len(tile))])
            share = share * (_beside(core, weight) if isinstance(core, Tensor) else weight)
    canvas[target] += share


def _beside(tensor: Tensor, array: np.ndarray) -> Tensor:
    """A small array on the tensor's device, without waiting for what the device is at."""
    return torch.from_numpy(array).to(tensor.device, non_blocking=True)


def core_of(answer: Any, tile: Sequence[Span]) -> Any:
    """Cut the halo off `answer` (..., *tile with halo) → (..., *core)."""
    return answer[(..., *(slice(s.halo, s.halo + s.stop - s.start) for s in tile))]


def through_tiles(net: Callable[[Tensor], Tensor], pictures: Tensor, core: int, halo: int, stride: int) -> Tensor:
    """`net` on `pictures` (b, 1, *space) of any size, one tile after the other: what it would answer to the whole."""
    answers = np.zeros(pictures.shape, np.float32)
    for picture, answer in zip(pictures[:, 0].cpu().numpy(), answers[:, 0]):
        for tile in grid(picture.shape, [core] * picture.ndim, halo, stride):
            block = torch.from_numpy(read_tile(picture, tile)).to(pictures.device)
            add_tile(answer, tile, core_of(net(block[None, None]), tile)[0, 0].cpu().numpy())
    return torch.from_numpy(answers).to(pictures.device)


def blocks(shape: Sequence[int], limit: int = 1 << 22) -> Iterator[slice]:
    """Slices of the first axis that cut an array of `shape` into pieces of about `limit` elements."""
    rows = max(1, limit // max(1, int(np.prod(shape[1:]))))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))
