"""Groups: the files that window order cuts from for a while, brought into memory ahead of their turn.

A mapped file is read once from end to end, in order, so that the system's page cache holds it; windows are then cut
from the mapping. So nothing of it lies in the process's own memory, the ranks of a machine share it and each reads its
part, and a group that is larger than the memory is slow but no fault. What has to be decoded (compressed files) is
decoded whole, into the process's own memory. At most two groups are held: the one in use and the next.
"""

import errno
import logging
import mmap
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod

import numpy as np

from deice.devices import available_memory
from deice.errors import FileFault
from deice.io.stored import fetch, mapped_span
from deice.ranks import Ranks
from deice.sources import Source

log = logging.getLogger(__name__)

CHUNK = 1 << 23  # bytes that a thread loads at a time
COPIED = 1 << 18  # bytes of one read, where reading is all that is left


class Groups:
    """The readers of one group of `sources` at a time, and the next on its way; `threads` load."""

    def __init__(self, sources: Sequence[Source], threads: int, ranks: Ranks):
        self.sources, self.ranks = sources, ranks
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="deice-load")
        self.loads: dict[int, list[Future]] = {}
        self.loaded: dict[int, Source] = {}
        self.warned = False

    def readers(self, wanted: frozenset[int], following: frozenset[int]) -> dict[int, Source]:
        """The sources `wanted` now, loaded; those `following` begin to be loaded, all others are let go."""
        if wanted <= self.loaded.keys() and following <= self.loads.keys():
            return self.loaded
        for number in self.loads.keys() - wanted - following:
            self.loaded.pop(number, None)
            for load in self.loads.pop(number):
                load.cancel()
            release(self.sources[number])
        for number in (*sorted(wanted), *sorted(following)):
            if number not in self.loads:
                self.loads[number] = self._begin(self.sources[number])
        self._warn_of_size(wanted | following)
        self.loaded |= {number: self._when_loaded(number) for number in sorted(wanted)}
        return self.loaded

    def _when_loaded(self, number: int) -> Source:
        """The source when all of it is there: itself, if its files are mapped, else what was decoded."""
        decoded = [load.result() for load in self.loads[number]]
        return next((source for source in decoded if source is not None), self.sources[number])

    def close(self) -> None:
        """End all loading."""
        self.threads.shutdown(wait=True, cancel_futures=True)

    def _begin(self, source: Source) -> list[Future]:
        spans = [mapped_span(view) for view in source.views]
        if None in spans:
            return [self.threads.submit(source.resident)]
        chunks = [chunk for span in spans if span is not None for chunk in _chunks(*span)]
        own = chunks[self.ranks.local :: self.ranks.local_world]
        return [self.threads.submit(self._read, *chunk) for chunk in own]

    def _read(self, path: str, start: int, size: int) -> None:
        """Bring a part of a file into the page cache, by sending it to where nothing is kept: no byte is copied."""
        try:
            file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise FileFault(path, f"{error.strerror}; it was there when the run began") from error
        try:
            fetch(file, start, size)
            with open(os.devnull, "wb") as nowhere:
                while size > 0 and (count := _passed(file, start, size, nowhere.fileno())):
                    start, size = start + count, size - count
            if size:
                raise FileFault(path, f"ends at byte {start}, {size} early; it was longer when the run began")
        except OSError as error:
            raise FileFault(path, f"cannot be read at byte {start} ({error.strerror}); copy it again") from error
        finally:
            os.close(file)

    def _warn_of_size(self, numbers: Iterable[int]) -> None:
        """A word, once, where two groups are more than the machine has memory for."""
        if self.warned:
            return
        self.warned = True
        needed, left = sum(bytes_of(self.sources[number]) for number in numbers), available_memory()
        if needed > left:
            log.warning("order window holds %.1f GB of files in memory, and %.1f GB are free: reading will be slow; "
                        "use order = \"random\", or smaller files", needed / 1e9, left / 1e9)


def bytes_of(source: Source) -> int:
    """How many bytes the views of `source` hold."""
    return sum(prod(view.shape) * np.dtype(view.dtype).itemsize for view in source.views)


def release(source: Source) -> None:
    """Forget where the pages of the mapped views lie: a process that touches a terabyte has tables of gigabytes."""
    for view in source.views:
        if mapped_span(view) is not None:
            view._mmap.madvise(mmap.MADV_DONTNEED)


def _passed(file: int, start: int, size: int, nowhere: int) -> int:
    """How many bytes were brought into the page cache; read and dropped where a file system cannot send them."""
    try:
        return os.sendfile(nowhere, file, start, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        return len(os.pread(file, min(size, COPIED), start))


def _chunks(path: str, start: int, size: int) -> list[tuple[str, int, int]]:
    return [(path, start + done, min(CHUNK, size - done)) for done in range(0, size, CHUNK)]
