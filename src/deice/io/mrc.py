"""MRC/CCP4 files, read: mapped into memory, every mode that holds pictures, a clear word for those that do not.

The header's layout, byte-order stamps and mode numbers are mrcfile's; this file adds what the field's files need
beyond them: IMOD's unsigned bytes and 4-bit frames, truncated files, and a header that lies about its size.
"""

import bz2
import gzip
import logging
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from mrcfile.utils import byte_order_from_machine_stamp, dtype_from_mode

from deice.errors import FileFault
from deice.image import Geometry
from deice.io.stored import Frames, Stored

log = logging.getLogger(__name__)
T = TypeVar("T")

HEADER_BYTES = HEADER_DTYPE.itemsize
PICTURE_MODES = (0, 1, 2, 6, 12, 101)
REFUSED_MODES = {3: "complex 16-bit integers", 4: "complex floats (a Fourier transform)", 16: "RGB colours"}
# IMOD's mrc_format.txt: a stamp at byte 152, then bit flags: 1 = mode 0 is signed, 16 = two 4-bit values per byte
IMOD_STAMP, IMOD_SIGNED, IMOD_NIBBLES = 1146047817, 1, 16


def open_mrc(path: Path) -> Stored:
    """Map `path`'s pixels (sections, y, x), read-only; .gz and .bz2 are decompressed in memory.

    Raises FileFault for a header or data block cut short, impossible sizes, complex or unknown modes.
    """
    content = _content(path)
    header = _header(path, content)
    mode, shape = int(header["mode"]), tuple(int(header[n]) for n in ("nz", "ny", "nx"))
    _check(path, header, mode, shape)
    pixels = _pixels(path, content, header, mode, shape)
    holds = f"MRC mode {mode}, ISPG {header['ispg']}, mz {header['mz']}"
    return Stored(pixels, _geometry(header), _says(header), holds)


def _content(path: Path) -> np.ndarray:
    """Every byte of the file, mapped; decompressed where the first bytes say gzip or bzip2."""
    with path.open("rb") as file:
        magic = file.read(3)
    openers = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open}
    if magic[:2] not in openers:
        return np.memmap(path, dtype=np.uint8, mode="r")
    log.debug("%s: decompressed in memory", path)
    try:
        with openers[magic[:2]](path, "rb") as file:
            return np.frombuffer(file.read(), dtype=np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise FileFault(path, f"its compressed stream is broken ({error}); copy the file again") from error


def _header(path: Path, content: np.ndarray) -> np.void:
    """The header in the byte order under which mode and sizes make sense: the stamp's first, then the other."""
    if content.size < HEADER_BYTES:
        raise FileFault(
            path, f"cut short: {content.size} bytes, an MRC header alone has {HEADER_BYTES}; copy it again"
        )
    raw = content[:HEADER_BYTES].tobytes()
    little = np.frombuffer(raw, HEADER_DTYPE.newbyteorder("<"))[0]
    big = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(">"))[0]
    try:
        big_first = byte_order_from_machine_stamp(little["machst"]) == ">"
    except ValueError:
        big_first = False
    headers = (big, little) if big_first else (little, big)
    sensible = (h for h in headers if int(h["mode"]) in (*PICTURE_MODES, *REFUSED_MODES))
    header = next(sensible, headers[0])
    if bytes(header["map"])[:3] != b"MAP" and not 1 <= int(header["mapc"]) <= 3:
        raise FileFault(
            path, "neither MRC, TIFF, EER nor DM4; expected a micrograph, movie or tomogram in one of these"
        )
    return header


def _check(path: Path, header: np.void, mode: int, shape: tuple[int, ...]) -> None:
    if mode in REFUSED_MODES:
        raise FileFault(
            path, f"mode {mode}, {REFUSED_MODES[mode]}; expected real pixels (modes 0, 1, 2, 6, 12, 101)"
        )
    if mode not in PICTURE_MODES:
        raise FileFault(
            path, f"mode {mode} is unknown; expected one of 0, 1, 2, 6, 12, 101: the header is damaged"
        )
    if min(shape) < 1 or int(header["nsymbt"]) < 0:
        sizes = " x ".join(str(n) for n in reversed(shape))
        raise FileFault(path, f"the header says {sizes} pixels after an extended header of {header['nsymbt']} bytes; "
                              "expected positive sizes: the header is damaged")  # fmt: skip


def _pixels(
    path: Path, content: np.ndarray, header: np.void, mode: int, shape: tuple[int, ...]
) -> np.ndarray | Frames:
    """(z, y, x), mapped; 4-bit frames are unpacked when asked for."""
    imod_flags = _imod_flags(header)
    nibbles = mode == 101 or (mode == 0 and imod_flags is not None and imod_flags & IMOD_NIBBLES)
    if mode == 0 or nibbles:
        unsigned = imod_flags is not None and not imod_flags & IMOD_SIGNED
        dtype = np.dtype(np.uint8 if unsigned or nibbles else np.int8)
    else:
        dtype = dtype_from_mode(mode).newbyteorder(_order(header))
    stored = (*shape[:2], (shape[2] + 1) // 2) if mode == 101 else shape
    first = HEADER_BYTES + int(header["nsymbt"])
    needed = first + int(np.prod([int(n) for n in stored], dtype=object)) * dtype.itemsize
    if content.size < needed:
        sizes = " x ".join(str(n) for n in reversed(shape))
        raise FileFault(path, f"cut short: {content.size} bytes, but {sizes} pixels of mode {mode} need {needed}; "
                              "copy it again")  # fmt: skip
    data = content[first:needed].view(dtype).reshape(stored)
    if not nibbles:
        return data
    width = shape[2] if mode == 101 else 2 * shape[2]
    return Frames((*shape[:2], width), np.dtype(np.uint8), lambda number: _unpack(data[number], width))


def _unpack(packed: np.ndarray, width: int) -> np.ndarray:
    """4-bit values (y, ceil(x / 2)) → (y, x): low half of each byte first, each row padded to a whole byte (IMOD)."""
    values = np.empty((packed.shape[0], 2 * packed.shape[1]), dtype=np.uint8)
    values[:, 0::2] = packed & 15
    values[:, 1::2] = packed >> 4
    return values[:, :width]


def _imod_flags(header: np.void) -> int | None:
    """IMOD's bit flags, or None where IMOD did not write the file; they stand at bytes 152 to 159."""
    stamp, flags = np.frombuffer(header.tobytes()[152:160], dtype=f"{_order(header)}i4")
    return int(flags) if stamp == IMOD_STAMP else None


def _order(header: np.void) -> Literal["<", ">"]:
    return ">" if header.dtype["nx"].newbyteorder(">") == header.dtype["nx"] else "<"


def _geometry(header: np.void) -> Geometry:
    """A voxel of 0 or 1 Å is what programs write that do not know it: unknown."""
    stated = _three(_length(header["cella"][a], int(header["m" + a])) for a in "xyz")
    unknown = min(stated[:2]) <= 0 or all(abs(s - 1) < 1e-6 for s in stated[:2])
    labels = (
        bytes(line).decode("latin-1").strip("\0 ") for line in header["label"][: max(0, int(header["nlabl"]))]
    )
    return Geometry(
        voxel_size=None if unknown else stated,
        stated_voxel_size=stated,
        origin=_three(float(header["origin"][a]) for a in "xyz"),
        nstart=_three(int(header[f"n{a}start"]) for a in "xyz"),
        map_order=_three(int(header[m]) for m in ("mapc", "mapr", "maps")),
        cell_angles=_three(float(header["cellb"][a]) for a in ("alpha", "beta", "gamma")),
        labels=tuple(labels),
    )


def _three(values: Iterable[T]) -> tuple[T, T, T]:
    first, second, third = values
    return first, second, third


def _length(cell: float, samples: int) -> float:
    """Å per sample along one axis of the cell; 0, unknown, where the header makes no sense."""
    return float(cell) / samples if samples and np.isfinite(cell) else 0.0


def _says(header: np.void) -> str:
    """MRC2014: ISPG 0 is images (mz 1: each section one), 1–230 a volume, 401–630 a stack of nz/mz volumes.

    Many programs leave ISPG 0 and mz = nz for stacks and volumes alike: then the header says nothing.
    """
    ispg, mz, nz = int(header["ispg"]), int(header["mz"]), int(header["nz"])
    if (1 <= ispg <= 230 and mz != 1) or (401 <= ispg <= 630 and mz == nz):
        return "zyx"
    return "tyx" if ispg == 0 and mz == 1 else ""
