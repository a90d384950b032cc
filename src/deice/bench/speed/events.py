"""EER movies of random electrons: no library writes the format, and its decoding wants to be timed.

An electron is a run of empty pixels (7 bits), then its place inside the pixel (2 bits each way); a run of 127 says "go
on counting" and has no place. Bits are filled from the low end of a byte (Guo et al. 2020, IUCrJ 7:860).
"""

import struct
from pathlib import Path

import numpy as np

LONGEST, RUN_BITS, PLACE_BITS = 127, 7, 4
COMPRESSION = 65001


def write_eer(path: Path, frames: int, shape: tuple[int, int], rate: float, seed: int = 0) -> None:
    """A BigTIFF of `frames` fractions of (y, x) pixels, each pixel with an electron by chance `rate`."""
    generator = np.random.default_rng(seed)
    content = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
    link = 8  # where the next directory's offset is to be written
    for _ in range(frames):
        at, frame = len(content), encoded(np.flatnonzero(generator.random(shape, np.float32) < rate), shape, generator)
        content += frame
        tags = [(256, 4, 1, shape[1]), (257, 4, 1, shape[0]), (258, 3, 1, 8), (259, 3, 1, COMPRESSION), (262, 3, 1, 1),
                (273, 16, 1, at), (277, 3, 1, 1), (278, 4, 1, shape[0]), (279, 16, 1, len(frame))]
        struct.pack_into("<Q", content, link, len(content))
        content += struct.pack("<Q", len(tags)) + b"".join(struct.pack("<HHQQ", *tag) for tag in tags)
        link = len(content)
        content += struct.pack("<Q", 0)
    path.write_bytes(content)


def encoded(pixels: np.ndarray, shape: tuple[int, int], generator: np.random.Generator) -> bytes:
    """The bytes of one fraction with electrons at the flat indices `pixels`, ascending, anywhere inside each."""
    runs = np.diff(pixels, prepend=-1, append=shape[0] * shape[1]) - 1
    symbols = runs // LONGEST + 1  # the last one of each run comes before a place
    values = np.full(int(symbols.sum()), LONGEST)
    last = np.cumsum(symbols) - 1
    values[last] = runs % LONGEST
    places = np.full(values.size, -1)
    places[last[:-1]] = generator.integers(0, 1 << PLACE_BITS, pixels.size)
    bits = (values[:, None] >> np.arange(RUN_BITS) & 1, places[:, None] >> np.arange(PLACE_BITS) & 1)
    used = np.concatenate([np.ones((values.size, RUN_BITS), bool), np.repeat(places[:, None] >= 0, PLACE_BITS, 1)], 1)
    packed = np.packbits(np.concatenate(bits, axis=1)[used].astype(np.uint8), bitorder="little").tobytes()
    return packed + b"\0" * (len(packed) % 2)  # strips of an odd number of bytes are not read everywhere
