"""The pages of a TIFF container, which TIFF stacks and EER movies share: all there, or a clear word."""

import logging
import struct
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from tifffile import TiffFile, TiffPage

from deice.errors import FileFault

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it would log of a broken file, a FileFault says

FAULTS = (ValueError, IndexError, KeyError, OSError, RuntimeError, TypeError, struct.error)


@contextmanager
def open_container(path: Path) -> Generator[TiffFile, None, None]:
    """The TIFF container `path`, all its pages there; what goes wrong inside the block is a FileFault."""
    try:
        with TiffFile(path) as tif:
            _check_chain(path, tif)
            yield tif
    except FAULTS as error:
        raise FileFault(path, f"a TIFF that cannot be read ({error}); copy or convert it again") from error


def check_strips(path: Path, pages: Iterable[TiffPage], size: int) -> None:
    """FileFault where a page's pixels reach beyond the file's `size` in bytes."""
    ends = (first + n for page in pages for first, n in zip(page.dataoffsets, page.databytecounts, strict=True))
    check_end(path, max(ends, default=0), size)


def check_end(path: Path, needed: int, size: int) -> None:
    """FileFault where the pixels end at byte `needed` of a file of `size` bytes."""
    if size < needed:
        raise FileFault(path, f"cut short: {size} bytes, its pages end at {needed}; copy it again")


def _check_chain(path: Path, tif: TiffFile) -> None:
    """The last page must name no successor: tifffile stops without a word where a directory lies beyond the end."""
    last, file = tif.pages[len(tif.pages) - 1].aspage(), tif.filehandle
    count, pointer, entry = ("Q", "Q", 20) if tif.is_bigtiff else ("H", "I", 12)
    count_bytes, pointer_bytes = struct.calcsize("=" + count), struct.calcsize("=" + pointer)
    file.seek(last.offset)
    (tags,) = struct.unpack(tif.byteorder + count, file.read(count_bytes))
    file.seek(last.offset + count_bytes + tags * entry)
    (successor,) = struct.unpack(tif.byteorder + pointer, file.read(pointer_bytes))
    if successor:
        raise FileFault(path, f"cut short: {file.size} bytes, its next page is at {successor}; copy it again")
