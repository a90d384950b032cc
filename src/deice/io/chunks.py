"""Volumes stored in chunks: only those that a window touches are decoded, and the last ones used are kept."""

from collections import OrderedDict
from collections.abc import Callable
from itertools import product
from threading import Lock
from typing import Any

import numpy as np

from deice.io.stored import without_ellipsis

KEPT_BYTES = 512 << 20  # of decoded chunks, all volumes together: a slab of 128 x 1024 x 1024 voxels of float32


class LastUsed:
    """Decoded chunks, the last used ones within `budget` bytes, and always the last one."""

    def __init__(self, budget: int):
        self.budget, self.held = budget, 0
        self.chunks: OrderedDict[Any, np.ndarray] = OrderedDict()
        self.lock = Lock()

    def get(self, key: Any, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """The chunk of that key, decoded if it is not held; threads that ask at once may both decode it."""
        with self.lock:
            if key in self.chunks:
                self.chunks.move_to_end(key)
                return self.chunks[key]
        chunk = decode()
        with self.lock:
            if key not in self.chunks:
                self.chunks[key] = chunk
                self.held += chunk.nbytes
            while self.held > self.budget and len(self.chunks) > 1:
                self.held -= self.chunks.popitem(last=False)[1].nbytes
        return chunk


_last_used = LastUsed(KEPT_BYTES)


class Chunked:
    """An array decoded where it is sliced: shape (sections, y, x), or (1, sections, y, x) after `[None]`.

    chunk: (sections, y, x) of one chunk.  `decode`(number along each axis) → that chunk, cut at the array's end.
    It may be called from many threads at once.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype, chunk: tuple[int, ...],
        decode: Callable[[tuple[int, ...]], np.ndarray], token: object | None = None,
    ):
        self.shape, self.dtype, self.chunk, self.decode = tuple(shape), np.dtype(dtype), tuple(chunk), decode
        self.token = token or object()

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """The part that integers and slices select, as a numpy array; `[None]`, and `[0]` after it, decode nothing."""
        if key is None:
            return self._shaped((1, *self.shape))
        key = without_ellipsis(key if isinstance(key, tuple) else (key,), self.ndim)
        spans = [range(n)[k] for n, k in zip(self.shape, key, strict=True)]
        views = self.ndim - len(self.chunk)
        if views and isinstance(spans[0], int) and all(k == slice(None) for k in key[1:]):
            return self._shaped(self.shape[1:])
        boxes = [_box(span) for span in spans]
        part = self._read(boxes[views:]).reshape([stop - start for start, stop in boxes])
        return part[tuple(0 if isinstance(span, int) else slice(None, None, span.step) for span in spans)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)

    def _shaped(self, shape: tuple[int, ...]) -> "Chunked":
        return Chunked(shape, self.dtype, self.chunk, self.decode, self.token)

    def _read(self, boxes: list[tuple[int, int]]) -> np.ndarray:
        """The box (sections, y, x) put together from the chunks that it touches."""
        part = np.empty([stop - start for start, stop in boxes], self.dtype)
        touched = [range(start // n, -(-stop // n)) for (start, stop), n in zip(boxes, self.chunk)]
        for numbers in product(*touched):
            chunk = _last_used.get((self.token, numbers), lambda numbers=numbers: self.decode(numbers))
            here, there = [], []
            for number, size, (start, stop) in zip(numbers, self.chunk, boxes):
                first, last = max(start, number * size), min(stop, (number + 1) * size)
                here.append(slice(first - start, last - start))
                there.append(slice(first - number * size, last - number * size))
            part[tuple(here)] = chunk[tuple(there)]
        return part


def _box(span: range | int) -> tuple[int, int]:
    """First and last + 1 of what is selected; with the span's step it starts at the right end."""
    if isinstance(span, int):
        return span, span + 1
    return (min(span), max(span) + 1) if len(span) else (0, 0)
