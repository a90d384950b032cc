"""Frames of a movie as they come from a camera: read ahead, gain-corrected; means of windows and blocks of a picture.

numpy and not torch: a frame is touched once, and importing torch would cost more memory than two frames of 4096².
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

BAND = 1 << 18  # pixels of a band of rows: what is made of them stays in the processor's cache
MOST_THREADS = 4


def corrected(frames: Any, gain: np.ndarray | None) -> Iterator[np.ndarray]:
    """`frames` (t, y, x), anything that slices, times `gain` (y, x) → one float32 (y, x) after the other.

    The next frame is read by a thread while the caller works on this one: two frames are held, whatever t.
    """
    with ThreadPoolExecutor(max_workers=1) as reader:
        ahead = reader.submit(corrected_frame, frames, 0, gain)
        for number in range(1, frames.shape[0] + 1):
            frame = ahead.result()
            if number < frames.shape[0]:
                ahead = reader.submit(corrected_frame, frames, number, gain)
            yield frame


def corrected_frame(frames: Any, number: int, gain: np.ndarray | None) -> np.ndarray:
    """Frame `number` of `frames` (t, y, x) times `gain` (y, x): a new float32 array (y, x)."""
    raw = np.asarray(frames[number])
    if gain is None:
        return raw.astype(np.float32)
    return np.multiply(raw, gain, dtype=np.float32, casting="unsafe")


def in_bands(work: Callable[[slice], object], shape: tuple[int, ...], multiple: int = 1) -> None:
    """`work` on bands of rows that cover a picture of `shape` (y, x), several at a time, each in a thread.

    multiple: of the rows of every band but the last.
    """
    rows = max(1, BAND // shape[1] // multiple) * multiple
    bands = [slice(first, min(first + rows, shape[0])) for first in range(0, shape[0], rows)]
    with ThreadPoolExecutor(min(MOST_THREADS, len(os.sched_getaffinity(0)))) as threads:
        list(threads.map(work, bands))


def box_mean(image: np.ndarray, radius: int, limits: tuple[float, float] = (-np.inf, np.inf)) -> np.ndarray:
    """Mean of the (2·radius + 1)² window around each pixel of `image` (y, x), of its part inside at the borders.

    Finite values are expected, and counted as within `limits`. float32: each sum is of one window's values alone.
    """
    smooth = np.empty_like(image, dtype=np.float32)
    inside = [_window_sums(np.ones((1, size), np.float32), radius)[0] for size in image.shape]

    def work(rows: slice) -> None:
        above, below = min(radius, rows.start), min(radius, image.shape[0] - rows.stop)
        part = np.clip(image[rows.start - above : rows.stop + below], *limits, dtype=np.float32)
        part = np.pad(part, ((radius - above, radius - below), (0, 0)))
        sums = _sums(part, 2 * radius + 1, 0)
        smooth[rows] = _window_sums(sums, radius) / inside[1] / inside[0][rows, None]

    in_bands(work, image.shape)
    return smooth


def _window_sums(rows: np.ndarray, radius: int) -> np.ndarray:
    """Sums of the 2·radius + 1 values around each of `rows` (y, x) along x, nothing beyond the ends."""
    return _sums(np.pad(rows, ((0, 0), (radius, radius))), 2 * radius + 1, 1)


def _sums(values: np.ndarray, width: int, axis: int) -> np.ndarray:
    """Sums of each `width` values in a row along `axis`, put together from sums of 1, 2, 4, 8 … values."""
    length = values.shape[axis] - width + 1

    def cut(first: int, size: int) -> np.ndarray:
        return values[first : first + size] if axis == 0 else values[:, first : first + size]

    total = np.zeros_like(cut(0, length))
    at, span = 0, 1
    while True:
        if width & span:
            total += cut(at, length)
            at += span
        if at == width:
            return total
        size = values.shape[axis] - span
        values = cut(0, size) + cut(span, size)
        span *= 2


def block_mean(image: np.ndarray, size: int) -> np.ndarray:
    """Means of the blocks of size² pixels of `image` (y, x), the remainder left out: (y // size, x // size)."""
    if size == 1:
        return image
    rows, columns = image.shape[0] // size, image.shape[1] // size
    cut = image[: rows * size, : columns * size].reshape(rows, size, columns, size)
    # one axis after the other: numpy is slow on two reduced axes of which one is the fastest
    return cut.mean(axis=1, dtype=np.float32).reshape(rows, columns, size).mean(axis=2)
