"""DM4, Gatan's format, as far as a gain reference needs it: the largest picture in the file.

A tree of tags: headers big-endian, values in the byte order that the file states. Gatan does not publish the
format; this follows the description by C. Boothroyd (www3.ntu.edu.sg/home/cbb/info/dmformat).
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from deice.errors import FileFault
from deice.image import Geometry
from deice.io.stored import Stored

DIRECTORY, VALUE = 20, 21
ARRAY = 20
NUMBERS = {2: "i2", 3: "i4", 4: "u2", 5: "u4", 6: "f4", 7: "f8", 8: "u1", 9: "i1", 10: "u1", 11: "i8", 12: "u8"}


def open_dm4(path: Path) -> Stored:
    """The file's largest picture as pixels (sections, y, x), mapped; first row at the bottom: DM4 is upside down.

    Raises FileFault for a file cut short or without a picture.
    """
    content = np.memmap(path, dtype=np.uint8, mode="r").data
    try:
        little = struct.unpack_from(">i", content, 12)[0]
        tags = dict(_walk(content, 16, (), "<" if little else ">"))
    except (struct.error, IndexError, ValueError, RecursionError) as error:
        raise FileFault(path, f"a DM4 that cannot be read ({error}); copy it again") from error
    pictures = {name[:-1]: data for name, data in tags.items() if name[-2:] == ("ImageData", "Data")}
    pictures = {name: data for name, data in pictures.items() if isinstance(data, np.ndarray)}
    if not pictures:
        raise FileFault(path, "a DM4 without a picture; expected a gain reference")
    place = max(pictures, key=lambda name: pictures[name].size)
    dimensions = place + ("Dimensions",)
    sizes = [int(tags[name]) for name in sorted(tags) if name[:-1] == dimensions]
    shape = (1, *reversed(sizes))[-3:]
    if len(sizes) not in (2, 3) or pictures[place].size != np.prod(shape):
        raise FileFault(path, f"a DM4 of {pictures[place].size} pixels whose header says {sizes}; expected a picture")
    return Stored(pictures[place].reshape(shape)[:, ::-1], Geometry(), "", "DM4")


def _walk(content: memoryview, at: int, name: tuple, order: str) -> Iterator[tuple[tuple, np.ndarray | float | int]]:
    """(path of names, value) of every number and array of numbers in the directory at byte `at`.

    A tag without a name goes by its place in its directory.
    """
    (count,) = struct.unpack_from(">q", content, at + 2)
    at += 10
    for number in range(count):
        kind, length = struct.unpack_from(">BH", content, at)
        label = bytes(content[at + 3 : at + 3 + length]).decode("latin-1")
        at += 3 + length
        (size,) = struct.unpack_from(">q", content, at)
        at += 8
        if kind not in (DIRECTORY, VALUE) or size < 0 or at + size > len(content):
            raise ValueError(f"tag {label!r} reaches beyond the file's {len(content)} bytes")
        path = (*name, label or number)
        if kind == DIRECTORY:
            yield from _walk(content, at, path, order)
        elif (value := _value(content, at, order)) is not None:
            yield path, value
        at += size


def _value(content: memoryview, at: int, order: str) -> np.ndarray | float | int | None:
    """A number, or a mapped array of numbers; None for strings and structures, which a gain does not need."""
    marker, words = struct.unpack_from(">4sq", content, at)
    if marker != b"%%%%" or words < 1:
        raise ValueError("a value without its mark")
    info = struct.unpack_from(f">{min(words, 3)}q", content, at + 12)
    first = at + 12 + 8 * words
    if words == 1 and info[0] in NUMBERS:
        return np.frombuffer(content, order + NUMBERS[info[0]], 1, first)[0]
    if words == 3 and info[0] == ARRAY and info[1] in NUMBERS:
        return np.frombuffer(content, order + NUMBERS[info[1]], info[2], first)
    return None
