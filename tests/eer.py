"""A small EER encoder for tests: no library writes the format.

EER (Guo et al. 2020, IUCrJ 7:860): an electron is a run of empty pixels (`skip` bits), then its place inside
the pixel (2 bits in x, 2 in y, each with its high bit inverted); a run of the greatest number says "go on
counting". Bits are filled from the low end of each byte. In a TIFF container each page is one frame:
compression 65000 has runs of 8 bits, 65001 of 7.
"""

import struct
from pathlib import Path

import numpy as np


def encode_frame(electrons: np.ndarray, skip_bits: int = 7) -> bytes:
    """`electrons` (4 y, 4 x) of 0 and 1, at most one per 4 × 4 block → the compressed bytes of one frame."""
    rows, columns = (n // 4 for n in electrons.shape)
    place = {}
    for y, x in np.argwhere(electrons):
        number = (y // 4) * columns + x // 4
        assert number not in place, "EER has at most one electron per pixel and frame"
        place[number] = (y % 4) << 2 | (x % 4)
    longest = (1 << skip_bits) - 1
    bits: list[int] = []

    def put(value: int, width: int) -> None:
        bits.extend(value >> bit & 1 for bit in range(width))

    def skip(run: int) -> None:
        while run >= longest:
            put(longest, skip_bits)
            if skip_bits == 8:  # the older coding keeps its 4 bits of place even here
                put(0, 4)
            run -= longest
        put(run, skip_bits)

    at = 0
    for number in sorted(place):
        skip(number - at)
        put(place[number] ^ 0b1010, 4)
        at = number + 1
    skip(rows * columns - at)
    packed = np.packbits(bits, bitorder="little").tobytes()
    return packed + b"\0" * (len(packed) % 2)


def write_eer(path: Path, movie: np.ndarray, skip_bits: int = 7, metadata: bytes = b"") -> None:
    """`movie` (t, 4 y, 4 x) of 0 and 1 → an EER file (BigTIFF) of t frames of (y, x) pixels.

    metadata: the XML of tag 65001.
    """
    rows, columns = (n // 4 for n in movie.shape[1:])
    content = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
    link = 8  # where the next directory's offset is to be written
    for electrons in movie:
        frame_at, frame = len(content), encode_frame(electrons, skip_bits)
        content += frame
        metadata_at = len(content)
        content += metadata + b"\0" * (len(metadata) % 2)
        tags = [
            (256, 4, 1, columns),
            (257, 4, 1, rows),
            (258, 3, 1, 8),
            (259, 3, 1, 65000 if skip_bits == 8 else 65001),
            (262, 3, 1, 1),
            (273, 16, 1, frame_at),
            (277, 3, 1, 1),
            (278, 4, 1, rows),
            (279, 16, 1, len(frame)),
        ]
        if metadata:
            tags.append((65001, 7, len(metadata), metadata_at))
        struct.pack_into("<Q", content, link, len(content))
        content += struct.pack("<Q", len(tags)) + b"".join(struct.pack("<HHQQ", *tag) for tag in tags)
        link = len(content)
        content += struct.pack("<Q", 0)
    path.write_bytes(content)


def random_events(frames: int, rows: int, columns: int, rate: float, seed: int = 0) -> np.ndarray:
    """(frames, 4 rows, 4 columns) of 0 and 1: at most one electron per pixel and frame, somewhere inside it."""
    random = np.random.default_rng(seed)
    events = np.zeros((frames, rows, 4, columns, 4), np.uint8)
    for t, y, x in np.argwhere(random.random((frames, rows, columns)) < rate):
        events[t, y, random.integers(4), x, random.integers(4)] = 1
    return events.reshape(frames, 4 * rows, 4 * columns)
