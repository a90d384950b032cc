"""Scores of a segmentation against a reference: overlap of the volumes, and how near their surfaces lie.

Volumes are (z, y, x), anything with shape and slicing; what is not 0 (or false) is membrane. They are read a few
sections at a time.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from deice.errors import PairFault, UserError
from deice.ops.tiles import blocks

FIGURES = ("dice", "iou", "precision", "recall", "surface_dice")


def scores(labels: Any, truth: Any, tolerance: float, wanted: Sequence[int] = (1,)) -> dict[str, float]:
    """Dice, IoU, precision, recall and surface-Dice of `labels` (z, y, x) by `truth` of the same shape.

    tolerance: voxels, of surface-Dice. wanted: which values of `truth` are membrane.
    Raises PairFault for two shapes, UserError where the truth holds no membrane: nothing could be scored.
    """
    if tuple(labels.shape) != tuple(truth.shape):
        raise PairFault(f"labels of {_size(labels)} and a truth of {_size(truth)} voxels; expected one size: check "
                        "that they belong together")
    found = both = there = 0
    for block in blocks(truth.shape):
        ours, theirs = np.asarray(labels[block]) != 0, np.isin(np.asarray(truth[block]), wanted)
        found, both, there = found + int(ours.sum()), both + int((ours & theirs).sum()), there + int(theirs.sum())
    if not there:
        raise UserError(f"the truth has no voxel labelled {' or '.join(map(str, wanted))}; expected membranes: say "
                        "which labels are by --membrane-labels")
    return {
        "dice": 2 * both / (found + there),
        "iou": both / (found + there - both),
        "precision": both / found if found else 0.0,
        "recall": both / there,
        "surface_dice": surface_dice(labels, truth, tolerance, wanted),
    }


def surface_dice(labels: Any, truth: Any, tolerance: float, wanted: Sequence[int] = (1,)) -> float:
    """The share of both surfaces that lies within `tolerance` voxels of the other one.

    The surface of a mask are its voxels of which one of the six neighbours is not in it; the volume's own faces cut
    membranes and are no surface. Distances are Euclidean, between centres of voxels, exact.
    Source: Nikolov et al., arXiv:1809.04430 (2018), eq. 5, with voxels counted in place of areas.
    """
    ball = _ball(tolerance)
    near = whole = 0
    for ours, theirs, inner in _surfaces(labels, truth, wanted, int(tolerance)):
        near += int((ours & _dilated(theirs, ball))[inner].sum()) + int((theirs & _dilated(ours, ball))[inner].sum())
        whole += int(ours[inner].sum()) + int(theirs[inner].sum())
    return near / whole if whole else 0.0


def surface(mask: np.ndarray) -> np.ndarray:
    """The voxels of `mask` (z, y, x), bool, that have a neighbour (of six) in the volume but not in the mask."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        first, last = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
        inside[first] &= mask[last]
        inside[last] &= mask[first]
    return mask & ~inside


def _surfaces(
    labels: Any, truth: Any, wanted: Sequence[int], reach: int
) -> Iterator[tuple[np.ndarray, np.ndarray, slice]]:
    """Both surfaces a few sections at a time, with `reach` sections around those that count, and which those are."""
    for block in blocks(truth.shape):
        start, stop = max(0, block.start - reach - 1), min(truth.shape[0], block.stop + reach + 1)
        ours = surface(np.asarray(labels[start:stop]) != 0)
        theirs = surface(np.isin(np.asarray(truth[start:stop]), wanted))
        yield ours, theirs, slice(block.start - start, block.stop - start)


def _ball(radius: float) -> list[tuple[int, ...]]:
    """The offsets (z, y, x) within `radius` voxels."""
    reach = range(-int(radius), int(radius) + 1)
    return [offset for offset in product(reach, repeat=3) if sum(o * o for o in offset) <= radius**2]


def _dilated(mask: np.ndarray, ball: list[tuple[int, ...]]) -> np.ndarray:
    """`mask` (z, y, x) grown by the offsets of `ball`."""
    grown = np.zeros_like(mask)
    for offset in ball:
        to = tuple(slice(max(0, o), size + min(0, o)) for o, size in zip(offset, mask.shape))
        of = tuple(slice(max(0, -o), size - max(0, o)) for o, size in zip(offset, mask.shape))
        grown[to] |= mask[of]
    return grown


def _size(volume: Any) -> str:
    return "×".join(map(str, volume.shape))
