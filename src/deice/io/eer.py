"""EER, the electron-event movies of Falcon cameras: fractions summed into frames on a grid of 4k, 8k or 16k.

A TIFF container with one page per camera frame, each electron a place on a grid four times finer than the
pixels (Guo et al. 2020, IUCrJ 7:860). Pages are found by tifffile, electrons counted by imagecodecs. Rows are
not flipped: RELION and MotionCor read EER from the first row on.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from imagecodecs import eer_decode

from deice.errors import FileFault, RecipeFault
from deice.image import Geometry
from deice.io.pages import check_strips, open_container
from deice.io.stored import Frames, Stored

log = logging.getLogger(__name__)

FIXED, SHORT, STATED = 65000, 65001, 65002  # TIFF's compression: runs of 8 bits, of 7, of tag 65007's number
STATED_BITS = ((65007, 7), (65008, 2), (65009, 2))  # tag and default: bits of a run, of the place in x and in y
MANY_FRACTIONS = 255  # one electron per pixel and fraction: up to here a byte cannot overflow
METRES = 1e10  # Å in a metre


@dataclass(frozen=True)
class Coding:
    """How the fractions are stored: TIFF compression, (y, x) of the camera, bits of run, x place and y place."""

    compression: int
    shape: tuple[int, int]
    bits: tuple[int, int, int]


def is_eer(path: Path) -> bool:
    """Whether the TIFF `path` holds electron events, be it behind a first page with their sum."""
    with open_container(path) as tif:
        first = [tif.pages[number].aspage() for number in range(min(2, len(tif.pages)))]
    return any(page.compression in (FIXED, SHORT, STATED) for page in first)


def open_eer(path: Path, frames: int | None = None, superres: int = 0) -> Stored:
    """The movie as pixels (t, y, x), decoded when asked for: `frames` frames of floor(fractions / frames) each.

    The remainder at the end is dropped, as RELION does; frames=None keeps every fraction.  superres: 0, 1 or
    2 halvings of the pixel.
    Raises FileFault for a file cut short, RecipeFault for more frames than fractions or another superres.
    """
    if superres not in (0, 1, 2):
        raise RecipeFault(f"--eer-superres {superres}: expected 0 (4k), 1 (8k) or 2 (16k)")
    content = np.memmap(path, dtype=np.uint8, mode="r")
    coding, places, voxel = _directory(path, content.size, superres)
    fractions = len(places)
    if frames is not None and not 1 <= frames <= fractions:
        raise RecipeFault(f"--eer-frames {frames}: {path} holds {fractions} fractions; expected 1 to {fractions}")
    frames = fractions if frames is None else frames
    group, dropped = divmod(fractions, frames)
    if dropped:
        log.info("%s: %d frames of %d fractions; the last %d are dropped", path, frames, group, dropped)
    shape = (coding.shape[0] << superres, coding.shape[1] << superres)
    dtype = np.dtype(np.uint8 if group <= MANY_FRACTIONS else np.uint16)

    def decode(number: int) -> np.ndarray:
        total = np.zeros(shape, dtype)
        for fraction in range(number * group, (number + 1) * group):
            try:
                _count(content, places[fraction], coding, superres, total)
            except RuntimeError as error:
                raise FileFault(path, f"fraction {fraction} is damaged ({error}); copy it again") from error
        return total

    pixels = Frames((frames, *shape), dtype, decode)
    return Stored(pixels, Geometry(voxel_size=voxel), "tyx", f"EER of {fractions} fractions")


def _directory(path: Path, size: int, superres: int) -> tuple[Coding, list, tuple[float, float, float] | None]:
    """How the fractions are coded, where their strips lie as (byte, bytes), and the pixel size."""
    with open_container(path) as tif:
        pages = [page for page in (p.aspage() for p in tif.pages) if page.compression != 1]
        first = pages[0]
        skip, across, down = (int(first.tags.valueof(tag, bits)) for tag, bits in STATED_BITS)
        bits = (7, 2, 2) if first.compression == SHORT else (skip, across, down)
        coding = Coding(int(first.compression), (first.imagelength, first.imagewidth), bits)
        voxel = _voxel(first.tags.valueof(65001), superres)
        places = [list(zip(page.dataoffsets, page.databytecounts, strict=True)) for page in pages]
    check_strips(path, pages, size)
    return coding, places, voxel


def _count(content: np.ndarray, strips: list, coding: Coding, superres: int, total: np.ndarray) -> None:
    """Add the electrons of one fraction to `total` (y, x)."""
    events = b"".join(content[first : first + count].tobytes() for first, count in strips)
    if coding.compression == FIXED:
        rows, columns = _fixed_length(events, coding.shape, superres)
        total[rows, columns] += 1  # no place twice: one electron per pixel and fraction
        return
    skip, across, down = coding.bits
    eer_decode(events, total.shape, skip, across, down, superres=superres, out=total)


def _fixed_length(events: bytes, shape: tuple[int, int], superres: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) of the electrons of a fraction of the first cameras' coding, two symbols in three bytes.

    Each symbol is a run (8 bits) and a place (4 bits: y, x, high bits inverted); a run of 255 holds no
    electron, yet has its 4 bits. RELION reads it so; imagecodecs expects them left out.
    """
    triples = np.frombuffer(events, np.uint8)[: len(events) // 3 * 3].reshape(-1, 3).astype(np.int64)
    low, middle, high = triples.T
    runs = np.stack([low, middle >> 4 | (high & 15) << 4], axis=1).ravel()
    places = np.stack([middle & 15, high >> 4], axis=1).ravel() ^ 0b1010
    electrons = runs < 255
    pixels = np.cumsum(runs + electrons) - electrons
    kept = electrons & (pixels < shape[0] * shape[1])
    pixels, places = pixels[kept], places[kept]
    y, x = np.divmod(pixels, shape[1])
    return (y << superres) + (places >> 2 >> 2 - superres), (x << superres) + ((places & 3) >> 2 - superres)


def _voxel(metadata: bytes | None, superres: int) -> tuple[float, float, float] | None:
    """Å per pixel of the grid chosen, from `sensorPixelSize.width` (m, at the specimen) in the metadata's XML."""
    try:
        items = ElementTree.fromstring(metadata or "<metadata/>").iterfind("item[@name='sensorPixelSize.width']")
        size = next((float(item.text or 0) * METRES for item in items), 0.0) / (1 << superres)
    except (ElementTree.ParseError, ValueError):
        return None
    return (size, size, size) if size > 0 else None
