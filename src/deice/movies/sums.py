"""The sums of a movie's even and odd frames: one thread a half, integers added as integers while they cannot overflow.

numpy and not torch: a frame is touched once, and importing torch would cost more memory than two frames of 4096².
"""

import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

WIDER = {1: np.dtype(np.int16), 2: np.dtype(np.int32)}  # by bytes: the type in which integers of that size are summed
BAND = 1 << 18  # pixels that several frames are added to while they lie in the processor's cache
MOST_THREADS = 8  # that decode
AT_ONCE = 64 << 20  # bytes of frames that a half holds at once, if more than one


def half_sums(frames: Any, gain: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the even and of the odd frames of `frames` (t, y, x), anything that slices, times `gain`: float32 (y, x).

    Integers of up to 16 bits are summed exactly, and their sum is multiplied by the gain; other numbers are multiplied
    frame by frame and added in their order.
    """
    cores = min(MOST_THREADS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(2) as halves, ThreadPoolExecutor(cores) as decoding:
        even, odd = halves.map(lambda first: _sum(frames, range(first, frames.shape[0], 2), gain, decoding), (0, 1))
    return even, odd


def _sum(frames: Any, numbers: range, gain: np.ndarray | None, decoding: ThreadPoolExecutor) -> np.ndarray:
    """The sum of the frames `numbers` times `gain`; several are decoded at a time where they have to be."""
    dtype = np.dtype(frames.dtype)
    exact = dtype.kind in "iu" and dtype.itemsize in WIDER
    total = np.zeros(frames.shape[1:], np.float32)
    wide = np.zeros(total.shape, WIDER[dtype.itemsize]) if exact else total
    room = np.iinfo(wide.dtype).max // (1 << 8 * dtype.itemsize) if exact else len(numbers)
    at_once = min(room, max(1, AT_ONCE // (total.size * dtype.itemsize)))
    held = 0  # frames in `wide` that are not in `total`
    for first in range(0, len(numbers), at_once):
        some = list(decoding.map(lambda number: _frame(frames, number), numbers[first : first + at_once]))
        if exact and held + len(some) > room:
            total += wide
            wide[...], held = 0, 0
        _add(wide, some, None if exact else gain)
        held += len(some)
    if exact:
        total += wide
        if gain is not None:
            total *= gain
    return total


def _frame(frames: Any, number: int) -> np.ndarray:
    """Frame `number`, decoded, or mapped and on its way from the disk."""
    frame = np.asarray(frames[number])
    ask_for(frame)
    return frame


def _add(total: np.ndarray, frames: list[np.ndarray], gain: np.ndarray | None) -> None:
    """Add `frames` to `total`, in place, a band of rows after the other."""
    rows = max(1, BAND // total.shape[1])
    for first in range(0, total.shape[0], rows):
        band = slice(first, first + rows)
        for frame in frames:
            part = frame[band]
            if gain is not None:
                part = np.multiply(part, gain[band], dtype=np.float32, casting="unsafe")
            elif total.dtype.kind == "f":
                part = part.astype(np.float32, copy=False)
            total[band] += part


def ask_for(array: np.ndarray) -> None:
    """Let the kernel begin to read what `array` maps of a file, if it maps one; what is in memory costs nothing."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not isinstance(owner, mmap.mmap):
        return
    start = np.frombuffer(owner, np.uint8).__array_interface__["data"][0]
    low, high = (place - start for place in np.lib.array_utils.byte_bounds(array))
    first = low // mmap.PAGESIZE * mmap.PAGESIZE
    owner.madvise(mmap.MADV_WILLNEED, first, high - first)
