"""The frames of a movie for its sums, piece by piece: those that a file holds in one piece are read, others decoded.

Reading into a buffer that stays in the processor's cache takes half the processor time of touching a map's pages for
the first time.
"""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any, Protocol

import numpy as np

from deice.errors import FileFault
from deice.io.stored import ask_for, fetch


class Pieces(Protocol):
    """Frames that are asked for in groups of `at_once` bytes, while the group before is taken band by band."""

    @property
    def at_once(self) -> int: ...
    def begin(self, numbers: Sequence[int]) -> None:
        """Let the frames `numbers` be brought into memory."""
        ...
    def piece(self, number: int, rows: slice) -> np.ndarray:
        """The `rows` of a frame that was begun (rows, x), valid until the thread's next call."""
        ...
    def end(self, numbers: Sequence[int]) -> None:
        """The frames `numbers` are no longer needed."""
        ...
    def close(self) -> None: ...


class ReadFrames:
    """Pieces of the frames (t, y, x) of one type that lie in a file from byte `start` on."""

    at_once = 128 << 20  # of the page cache

    def __init__(self, path: str, start: int, shape: tuple[int, ...], dtype: np.dtype):
        self.path, self.start, self.shape, self.dtype = path, start, shape, dtype
        self.frame, self.row = (prod(axes) * dtype.itemsize for axes in (shape[1:], shape[2:]))
        self.own = threading.local()
        try:
            self.file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise FileFault(path, f"cannot be read ({error.strerror})") from error

    def begin(self, numbers: Sequence[int]) -> None:
        """Ask the system to fetch the frames; it does so while others are added."""
        for number in numbers:
            fetch(self.file, self.start + number * self.frame, self.frame)

    def piece(self, number: int, rows: slice) -> np.ndarray:
        """Read into the thread's buffer; FileFault where the file has become shorter, or cannot be read."""
        size = (rows.stop - rows.start) * self.row
        if len(getattr(self.own, "buffer", b"")) < size:
            self.own.buffer = bytearray(size)
        place, done, into = self.start + number * self.frame + rows.start * self.row, 0, memoryview(self.own.buffer)
        while done < size:
            try:
                count = os.preadv(self.file, [into[done:size]], place + done)
            except OSError as error:
                raise FileFault(self.path, f"frame {number} cannot be read ({error.strerror}); copy it") from error
            if not count:
                raise FileFault(self.path, f"ends within frame {number}; it was longer when it was opened")
            done += count
        return np.frombuffer(into[:size], self.dtype).reshape(-1, self.shape[2])

    def end(self, numbers: Sequence[int]) -> None:
        """They stay in the page cache, for who reads them again."""

    def close(self) -> None:
        os.close(self.file)


class DecodedFrames:
    """Pieces of `frames` (t, y, x), anything that slices, whole frames decoded by the threads `decoding`."""

    at_once = 32 << 20  # of the process's own memory

    def __init__(self, frames: Any, decoding: ThreadPoolExecutor):
        self.frames, self.decoding = frames, decoding
        self.decoded: dict[int, Any] = {}

    def begin(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.decoded[number] = self.decoding.submit(self._decode, number)

    def _decode(self, number: int) -> np.ndarray:
        frame = np.asarray(self.frames[number])
        ask_for(frame)  # of a map that is not in one piece, nothing has been read yet
        return frame

    def piece(self, number: int, rows: slice) -> np.ndarray:
        return self.decoded[number].result()[rows]

    def end(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            del self.decoded[number]

    def close(self) -> None: ...
