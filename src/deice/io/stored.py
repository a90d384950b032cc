"""What a file holds, before it is decided what it serves as; and frames that are decoded when asked for."""

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deice.image import Geometry

FETCHED = 1 << 17  # bytes asked for at a time: Linux reads of one request no more than it reads ahead, 128 kB usually


@dataclass(frozen=True, eq=False)
class Stored:
    """`pixels`: (sections, y, x), anything with shape, dtype and slicing; a picture has one section.

    says: "zyx" where the header says that the sections are a volume, "tyx" where it says frames, "" where it does
    not say.  holds: the header in words, for messages ("MRC mode 2, ISPG 0, mz 40").
    """

    pixels: Any
    geometry: Geometry
    says: str
    holds: str


class Frames:
    """Frames decoded when they are asked for: shape (..., y, x), sliced like an array; nothing is kept.

    `decode`(number of the frame) → (y, x). It may be called from many threads at once.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, decode: Callable[[int], np.ndarray]):
        self.shape, self.dtype, self.decode = tuple(shape), np.dtype(dtype), decode

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """The part `key` selects as a numpy array; only the frames that it touches are decoded.

        `frames[None]` is the same frames with one more axis in front, still undecoded.
        """
        if key is None:
            return Frames((1, *self.shape), self.dtype, self.decode)
        key = without_ellipsis(key if isinstance(key, tuple) else (key,), self.ndim)
        outer = self.shape[:-2]
        numbers = np.arange(np.prod(outer)).reshape(outer)[key[: len(outer)]]
        inside = key[len(outer) :]
        if np.ndim(numbers) == 0:
            return self.decode(int(numbers))[inside]
        like = np.broadcast_to(np.zeros((), self.dtype), self.shape[-2:])[inside]
        part = np.empty((numbers.size, *like.shape), self.dtype)
        for place, number in enumerate(numbers.ravel()):
            part[place] = self.decode(int(number))[inside]
        return part.reshape(numbers.shape + like.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


def without_ellipsis(key: tuple, axes: int) -> tuple:
    """`key` with its `...`, or its missing end, spelled out as full slices."""
    place = next((i for i, k in enumerate(key) if k is Ellipsis), len(key))
    given = [k for k in key if k is not Ellipsis]
    return (*given[:place], *[slice(None)] * (axes - len(given)), *given[place:])


def mapped_span(view: Any) -> tuple[str, int, int] | None:
    """(path, first byte, bytes) of a view that is a mapped part of a file, in one piece; None of any other."""
    if not isinstance(view, np.memmap) or not view.flags.c_contiguous or view.filename is None:
        return None
    mapping: Any = view._mmap
    before = view.offset - view.offset % mmap.ALLOCATIONGRANULARITY  # where the mapping begins in the file
    inside = view.ctypes.data - np.frombuffer(mapping, np.uint8).ctypes.data
    return str(view.filename), before + inside, view.nbytes


def fetch(file: int, start: int, size: int) -> None:
    """Let the system begin to read `size` bytes from `start` on of an open file, while other work is done."""
    for place in range(start, start + size, FETCHED):
        os.posix_fadvise(file, place, min(FETCHED, start + size - place), os.POSIX_FADV_WILLNEED)


def ask_for(array: np.ndarray) -> None:
    """Let the system begin to read what `array` maps of a file, if it maps one; what is in memory costs nothing."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not isinstance(owner, mmap.mmap):
        return
    start = np.frombuffer(owner, np.uint8).__array_interface__["data"][0]
    low, high = (place - start for place in np.lib.array_utils.byte_bounds(array))
    first = low // mmap.PAGESIZE * mmap.PAGESIZE
    owner.madvise(mmap.MADV_WILLNEED, first, high - first)
