"""Hot and dead pixels of a camera: found over a whole movie, replaced by draws from their neighbourhood.

A detector's defect is one or two pixels wide; what the optics image is never that sharp. So a pixel is judged against
the pixels that touch it, in units of the counting noise, after Anscombe's transform 2·√(n + 3/8), which makes the
noise of n counts close to 1 whatever n (Anscombe, Biometrika 35, 1948): a dead pixel then stands out from 10 counts on.
"""

from collections.abc import Sequence
from itertools import product
from math import isqrt

import numpy as np

from deice.ops.frames import block_mean, box_mean, in_bands

OUTLIER = 5.0  # units of noise from the neighbours' median: 6e-7 of the pixels of a normal distribution
CANDIDATE = 3.5  # units of noise from the local mean: only these are compared with their neighbours
LINE = 3.0  # units of one pixel's noise by which a line's median must exceed the lines on both sides
LINE_SEGMENT = 64  # pixels: a line may be broken over a part of its length
SUSPECT, SUSPECTS = 1.5, 0.3  # units of noise from the local mean; share of such pixels in a segment worth its medians
SAMPLE = 1 << 18  # pixels that medians are taken of: those of a whole picture would cost more than all the rest
LOCAL = 7  # radius in pixels of the local mean
NOISE_BLOCK = 16  # pixels: blocks in which the noise is compared with the signal
CLIP = 10.0  # units of noise: how far one pixel may pull the local mean
CHUNK = 200_000  # candidates compared at once
NEIGHBOURS = [(y, x) for y, x in product(range(-2, 3), repeat=2) if (y, x) != (0, 0)]


def find_defects(even: np.ndarray, odd: np.ndarray, counts: tuple[int, int], known: np.ndarray | None) -> np.ndarray:
    """Hot and dead pixels of a movie, from the sums `even` and `odd` (y, x) of `counts` frames each: bool (y, x).

    The rule: a pixel's total over the movie, in counts (the unit that makes variance equal mean, measured from
    even − odd) and Anscombe-transformed, lies more than 5 from the median of its 24 neighbours, in units of the
    largest of 1, the picture's own robust spread and the neighbours' (1.4826 MAD); or the median over 64 pixels of
    its line exceeds, or falls below, the lines on both sides by 3. Sums that are not finite, and the pixels of `known`
    (the gain's defects), count too.
    On clean Poisson movies of 0.5 counts per pixel and frame × 40 frames it takes 5e-6 of the pixels, fewer at other
    doses. Below 10 counts per pixel a dead pixel cannot be told from chance: none is then reported. Clusters wider than
    3 pixels and lines wider than 2 are not found (gold beads look the same): the gain reference has to mark them.
    """
    defects = np.zeros(even.shape, bool) if known is None else known.copy()
    level = _counting_level(even, odd, counts, defects)
    if level is None:
        return defects
    typical = _median([level], defects)
    if defects.any():
        level[defects] = typical
    step = _step(level.size)
    reach = CLIP * max(1.0, _robust_spread(level[::step, ::step]))
    residual = box_mean(level, LOCAL, (typical - reach, typical + reach))
    in_bands(lambda rows: np.subtract(level[rows], residual[rows], out=residual[rows]), level.shape)
    spread = max(1.0, _robust_spread(residual[::step, ::step]))

    def mark_points(rows: slice) -> None:
        candidates = np.flatnonzero(np.abs(residual[rows]) > CANDIDATE * spread) + rows.start * level.shape[1]
        for first in range(0, candidates.size, CHUNK):
            some = candidates[first : first + CHUNK]
            defects.reshape(-1)[some[_stands_out(level, some, spread)]] = True

    in_bands(mark_points, level.shape)
    _mark_broken_rows(defects, level, residual, spread)
    _mark_broken_rows(defects.T, level.T, residual.T, spread)
    return defects


def draw_sources(defects: np.ndarray, places: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """For each of `places`, the flat indices of `defects` (y, x), that of a good pixel drawn from its neighbourhood.

    Uniform over the good pixels of the 5×5 window around it; where tries fail the window doubles, so that the middle
    of a dead block is filled too. Drawn anew for each frame, a replaced pixel has its neighbours' mean and the
    noise of a single pixel, independent from frame to frame. At least one good pixel is expected.
    """
    y, x = np.divmod(places, defects.shape[1])
    sources = np.empty(y.size, np.int64)
    waiting, radius = np.arange(y.size), 2
    while waiting.size:
        for _ in range(4):
            shift = generator.integers(-radius, radius + 1, (2, waiting.size))
            row, column = y[waiting] + shift[0], x[waiting] + shift[1]
            inside = (row >= 0) & (row < defects.shape[0]) & (column >= 0) & (column < defects.shape[1])
            row, column = np.where(inside, row, y[waiting]), np.where(inside, column, x[waiting])
            good = ~defects[row, column]
            sources[waiting[good]] = row[good] * defects.shape[1] + column[good]
            waiting = waiting[~good]
        radius = min(2 * radius, max(defects.shape))
    return sources


def _counting_level(
    even: np.ndarray, odd: np.ndarray, counts: tuple[int, int], defects: np.ndarray
) -> np.ndarray | None:
    """The sum of all frames with noise of about 1 at every pixel, or None if there is no noise to judge by.

    Marks sums that are not finite in `defects`.
    """
    total, grid = np.empty_like(even), tuple(size // NOISE_BLOCK for size in even.shape)
    noise, signal = np.empty(grid, np.float32), np.empty(grid, np.float32)
    fill = _median([even, odd], defects)

    def measure(rows: slice) -> None:
        with np.errstate(invalid="ignore"):  # infinities
            np.add(even[rows], odd[rows], out=total[rows])
            difference = even[rows] * np.float32(1 / counts[0]) - odd[rows] * np.float32(1 / counts[1])
        bad = defects[rows]
        bad |= ~np.isfinite(total[rows])
        if bad.any():
            total[rows][bad], difference[bad] = fill, 0
        blocks = slice(rows.start // NOISE_BLOCK, rows.stop // NOISE_BLOCK)
        noise[blocks] = block_mean(np.square(difference, out=difference), NOISE_BLOCK)
        signal[blocks] = block_mean(total[rows], NOISE_BLOCK)

    in_bands(measure, even.shape, NOISE_BLOCK)
    # the sum of all frames has even·odd times the variance of the difference between the halves' means
    noise *= np.float32(counts[0] * counts[1])
    variance = float(np.median(noise)) if noise.size else 0.0
    if not variance > 0:
        return None
    if np.median(signal) <= 0:  # the mean was subtracted: no counts to speak of
        return np.divide(total, np.float32(np.sqrt(variance)), out=total)
    unit = float(np.median(noise / np.maximum(signal, np.finfo(np.float32).tiny)))

    def transform(rows: slice) -> None:
        counted = np.maximum(total[rows] * np.float32(1 / unit), 0) + np.float32(3 / 8)
        np.multiply(np.sqrt(counted, out=counted), 2, out=total[rows])

    in_bands(transform, even.shape)
    return total


def _median(parts: Sequence[np.ndarray], left_out: np.ndarray) -> float:
    """The median of a sample of the sum of `parts` (y, x), without what is `left_out` or not finite; 0 of nothing."""
    for step in (_step(left_out.size), 1):
        with np.errstate(invalid="ignore"):
            values = np.asarray(sum(part[::step, ::step] for part in parts))
        kept = values[np.isfinite(values) & ~left_out[::step, ::step]]
        if kept.size:
            return float(np.median(kept))
    return 0.0


def _step(pixels: int) -> int:
    """Every so many rows and columns make a sample of about SAMPLE pixels."""
    return max(1, isqrt(pixels // SAMPLE))


def _stands_out(level: np.ndarray, pixels: np.ndarray, spread: float) -> np.ndarray:
    """Which of the flat indices `pixels` differ from their 24 neighbours by more than OUTLIER: bool (n,)."""
    y, x = np.unravel_index(pixels, level.shape)
    rows, columns = level.shape
    around = np.stack([level[_mirrored(y + dy, rows), _mirrored(x + dx, columns)] for dy, dx in NEIGHBOURS])
    median = np.median(around, axis=0)
    local = 1.4826 * np.median(np.abs(around - median), axis=0)
    return np.abs(level[y, x] - median) > OUTLIER * np.maximum(local, spread)


def _mark_broken_rows(defects: np.ndarray, level: np.ndarray, residual: np.ndarray, spread: float) -> None:
    """Mark in `defects` (y, x) the segments of rows above, or below, the rows on both of their sides.

    Both sides, so that a straight edge of the scene along the line is none. A segment's medians are only taken where
    many of its pixels differ from the local mean, of which `residual` is what is left.
    """
    if min(level.shape) < LINE_SEGMENT // 4:  # too few pixels for a line's median to mean anything
        return
    for first in range(0, max(level.shape[1] - LINE_SEGMENT // 2, 1), LINE_SEGMENT):
        last = first + LINE_SEGMENT if level.shape[1] - first - LINE_SEGMENT > LINE_SEGMENT // 2 else level.shape[1]
        far = residual[:, first:last]
        many = SUSPECTS * (last - first)
        suspects = np.flatnonzero(((far > SUSPECT * spread).sum(1) > many) | ((far < -SUSPECT * spread).sum(1) > many))
        if not suspects.size:
            continue
        medians = {way: np.median(level[_mirrored(suspects + way, level.shape[0]), first:last], axis=1)
                   for way in (-3, -2, 0, 2, 3)}
        before, after = ((medians[2 * way] + medians[3 * way]) / 2 for way in (-1, 1))
        hot = medians[0] - np.maximum(before, after) > LINE * spread
        dead = np.minimum(before, after) - medians[0] > LINE * spread
        defects[suspects[hot | dead], first:last] = True


def _mirrored(index: np.ndarray, size: int) -> np.ndarray:
    """`index` reflected into 0 … size − 1 (once)."""
    index = np.abs(index)
    return np.clip(np.where(index >= size, 2 * (size - 1) - index, index), 0, size - 1)


def _robust_spread(values: np.ndarray) -> float:
    """1.4826 times the median absolute deviation: the standard deviation, if the values are normal."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
