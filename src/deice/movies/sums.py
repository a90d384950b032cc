"""The sums of a movie's even and odd frames: one thread a half, integers added as integers while they cannot overflow.

numpy and not torch: a frame is touched once, and importing torch would cost more memory than two frames of 4096².
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from typing import Any

import numpy as np

from deice.io.stored import mapped_span
from deice.movies.reading import DecodedFrames, Pieces, ReadFrames

WIDER = {1: np.dtype(np.int16), 2: np.dtype(np.int32)}  # by bytes: the type in which integers of that size are summed
BAND = 1 << 18  # pixels that several frames are added to while they lie in the processor's cache
MOST_THREADS = 8  # that decode


def half_sums(frames: Any, gain: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the even and of the odd frames of `frames` (t, y, x), anything that slices, times `gain`: float32 (y, x).

    Integers of up to 16 bits are summed exactly, and their sum is multiplied by the gain; other numbers are multiplied
    frame by frame and added in their order.
    Raises FileFault where the frames lie in a file that can no longer be read.
    """
    cores, dtype = min(MOST_THREADS, len(os.sched_getaffinity(0))), np.dtype(frames.dtype)
    span = mapped_span(frames) if getattr(frames, "mode", None) == "r" else None  # others may differ from their file
    with ThreadPoolExecutor(cores) as decoding:
        pieces = ReadFrames(*span[:2], frames.shape, dtype) if span else DecodedFrames(frames, decoding)
        with closing(pieces), ThreadPoolExecutor(2) as halves:  # closed when neither half reads any more
            even, odd = halves.map(lambda first: _sum(pieces, range(first, frames.shape[0], 2), frames.shape[1:],
                                                      dtype, gain), (0, 1))  # fmt: skip
    return even, odd


def _sum(
    pieces: Pieces, numbers: range, shape: tuple[int, ...], dtype: np.dtype, gain: np.ndarray | None
) -> np.ndarray:
    """The sum of the frames `numbers` (y, x) times `gain`; the next group is on its way while one is added."""
    exact = dtype.kind in "iu" and dtype.itemsize in WIDER
    total = np.zeros(shape, np.float32)
    wide = np.zeros(shape, WIDER[dtype.itemsize]) if exact else total
    room = (1 << 8 * dtype.itemsize - 1) - 1 if exact else len(numbers)  # frames that cannot overflow `wide`
    at_once = min(room, max(1, pieces.at_once // (total.size * dtype.itemsize)))
    groups = [numbers[first : first + at_once] for first in range(0, len(numbers), at_once)]
    held = 0  # frames in `wide` that are not in `total`
    for group, following in pairwise((range(0), *groups, range(0))):
        pieces.begin(following)
        if exact and held + len(group) > room:
            total += wide
            wide[...], held = 0, 0
        _add(wide, pieces, group, None if exact else gain)
        pieces.end(group)
        held += len(group)
    if exact:
        total += wide
        if gain is not None:
            total *= gain
    return total


def _add(total: np.ndarray, pieces: Pieces, numbers: Sequence[int], gain: np.ndarray | None) -> None:
    """Add the frames `numbers` to `total`, in place, a band of rows after the other."""
    rows = max(1, BAND // total.shape[1])
    for first in range(0, total.shape[0], rows):
        band = slice(first, min(first + rows, total.shape[0]))
        for number in numbers:
            part = pieces.piece(number, band)
            if gain is not None:
                part = np.multiply(part, gain[band], dtype=np.float32, casting="unsafe")
            elif total.dtype.kind == "f":
                part = part.astype(np.float32, copy=False)
            total[band] += part
