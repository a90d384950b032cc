"""Connected components by runs: voxels above a low threshold, kept where they hang together with enough strong ones.

Runs of voxels along x are what is held in memory, not the volume: a membrane volume has some fifty times fewer.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from deice.ops.tiles import blocks

NEIGHBOUR_ROWS = ((0, 1), (1, -1), (1, 0), (1, 1))  # (z, y) of the rows after a row that touch it


@dataclass(frozen=True)
class Runs:
    """Runs of voxels along x, in file order, (n,) each: row = z · rows + y; first and one past the last x; how many
    voxels of each are strong."""

    row: np.ndarray
    first: np.ndarray
    end: np.ndarray
    strong: np.ndarray


def hysteresis(probability: Any, labels: np.ndarray, low: float, high: float, smallest: int) -> int:
    """Label 1 in `labels` (z, y, x), which is overwritten, what of `probability` (z, y, x) is at least `low` and hangs
    together (26 neighbours) in a component of `smallest` voxels or more, one of them at least `high`; 0 elsewhere.

    Returns how many components there are.
    """
    runs = find_runs(probability, low, high)
    component = join(runs, probability.shape[1], probability.shape[2])
    size = np.bincount(component, weights=runs.end - runs.first)
    strong = np.bincount(component, weights=runs.strong)
    good = (size >= max(smallest, 1)) & (strong > 0)
    _paint(labels, runs, good[component] if len(component) else np.zeros(0, bool))
    return int(good.sum())


def find_runs(probability: Any, low: float, high: float) -> Runs:
    """The runs along x of voxels that are at least `low`; strong are those at least `high`."""
    rows, length = probability.shape[1:]
    found = []
    for block in blocks(probability.shape):
        values = np.asarray(probability[block])
        above = np.zeros((values.shape[0] * rows, length + 2), np.int8)
        above[:, 1:-1] = (values >= low).reshape(-1, length)
        step = np.diff(above, axis=1)
        row, first = np.nonzero(step == 1)
        end = np.nonzero(step == -1)[1]
        count = np.zeros(values.size + 1, np.int64)
        np.cumsum((values >= high).ravel(), out=count[1:])
        strong = count[row * length + end] - count[row * length + first]
        found.append((row + block.start * rows, first, end, strong))
    return Runs(*(np.concatenate(parts) for parts in zip(*found)))


def join(runs: Runs, rows: int, length: int) -> np.ndarray:
    """The component of each run, (n,), numbered from 0: runs that touch, corners included, share one."""
    pairs = [_touching(runs, z, y, rows, length) for z, y in NEIGHBOUR_ROWS]
    a, b = (np.concatenate(side) for side in zip(*pairs))
    root = np.arange(len(runs.row))
    while True:  # each root is hung on the smallest root it touches, then paths are cut short: log n rounds
        low, high = np.minimum(root[a], root[b]), np.maximum(root[a], root[b])
        apart = low != high
        if not apart.any():
            break
        np.minimum.at(root, high[apart], low[apart])
        while not np.array_equal(root, root[root]):
            root = root[root]
        a, b = a[apart], b[apart]
    return np.unique(root, return_inverse=True)[1]


def _touching(runs: Runs, z: int, y: int, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (run, run in the row `z`, `y` further on) that overlap or touch by a corner."""
    inside = (runs.row % rows + y >= 0) & (runs.row % rows + y < rows)
    index = np.nonzero(inside)[0]
    span, other = length + 2, (runs.row[index] + z * rows + y)
    ends, firsts = runs.row * span + runs.end, runs.row * span + runs.first
    lowest = np.searchsorted(ends, other * span + runs.first[index], "left")  # the first that ends at or after it
    beyond = np.searchsorted(firsts, other * span + runs.end[index], "right")
    count = np.maximum(beyond - lowest, 0)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(index, count), np.repeat(lowest, count) + within


def _paint(labels: np.ndarray, runs: Runs, wanted: np.ndarray) -> None:
    """1 in the runs that are wanted, 0 elsewhere, block by block."""
    rows, length = labels.shape[1:]
    row, first, end = runs.row[wanted], runs.first[wanted], runs.end[wanted]
    for block in blocks(labels.shape):
        low, high = np.searchsorted(row, [block.start * rows, block.stop * rows])
        step = np.zeros(((block.stop - block.start) * rows, length + 1), np.int8)
        here = row[low:high] - block.start * rows
        step[here, first[low:high]] = 1
        step[here, end[low:high]] = -1
        labels[block] = np.cumsum(step, axis=1, dtype=np.int8)[:, :-1].reshape(-1, rows, length)
