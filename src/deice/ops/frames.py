"""Frames of a movie as they come from a camera: read ahead, gain-corrected, summed. numpy, one frame at a time.

numpy and not torch: a frame is touched once, and importing torch would cost more memory than two frames of 4096².
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

MEAN_STRIP = 256  # rows or columns whose float64 sums are held at once by `box_mean`


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


def box_mean(image: np.ndarray, radius: int) -> np.ndarray:
    """Mean of the (2·radius + 1)² window around each pixel of `image` (y, x), of its part inside at the borders.

    Finite values are expected. Running sums are float64, a strip of rows or columns at a time.
    """
    smooth = np.empty_like(image, dtype=np.float32)
    for first in range(0, image.shape[0], MEAN_STRIP):
        rows = slice(first, first + MEAN_STRIP)
        smooth[rows] = _running_mean(image[rows], radius)
    for first in range(0, image.shape[1], MEAN_STRIP):
        columns = slice(first, first + MEAN_STRIP)
        smooth[:, columns] = _running_mean(np.ascontiguousarray(smooth[:, columns].T), radius).T
    return smooth


def _running_mean(strip: np.ndarray, radius: int) -> np.ndarray:
    length = strip.shape[1]
    sums = np.zeros((strip.shape[0], length + 1))
    np.cumsum(strip, axis=1, dtype=np.float64, out=sums[:, 1:])
    low = np.maximum(np.arange(length) - radius, 0)
    high = np.minimum(np.arange(length) + radius + 1, length)
    return (sums[:, high] - sums[:, low]) / (high - low)


def block_mean(image: np.ndarray, size: int) -> np.ndarray:
    """Means of the blocks of size² pixels of `image` (y, x), the remainder left out: (y // size, x // size)."""
    if size == 1:
        return image
    rows, columns = image.shape[0] // size, image.shape[1] // size
    cut = image[: rows * size, : columns * size].reshape(rows, size, columns, size)
    # one axis after the other: numpy is slow on two reduced axes of which one is the fastest
    return cut.mean(axis=1, dtype=np.float32).reshape(rows, columns, size).mean(axis=2)
