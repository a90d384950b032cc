"""Pictures for a page: planes cut, stretched and packed as 8-bit PNG.

Each picture is stretched for itself, from its 0.5th to its 99.5th percentile: a noisy average and its denoised version
differ tenfold in their spread, so that one stretch for both would show the one as flat grey.
"""

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np

CROP = 448  # pixels: large enough for some particles, small enough to send four of them by mail
OVERVIEW = 288
STRETCH = (0.5, 99.5)  # percentiles


def central_planes(space: Sequence[int]) -> dict[str, tuple[slice | int, ...]]:
    """The planes that show an image of `space`: itself for two axes, the three central ones for three, by name."""
    whole: list[slice | int] = [slice(None)] * len(space)
    if len(space) == 2:
        return {"": tuple(whole)}
    planes = {}
    for axis, name in enumerate("zyx"):
        at = space[axis] // 2
        planes[f"{name} = {at}"] = tuple(at if other == axis else whole[other] for other in range(3))
    return planes


def central_crop(plane: np.ndarray, size: int = CROP) -> np.ndarray:
    """The middle of a plane (y, x), at most `size` pixels a side, at full resolution."""
    starts = [max(0, (length - size) // 2) for length in plane.shape]
    return plane[tuple(slice(start, start + size) for start in starts)]


def binned(plane: np.ndarray, size: int = OVERVIEW) -> np.ndarray:
    """A plane (y, x) averaged over square blocks until its longer side has at most `size` pixels."""
    factor = -(-max(plane.shape) // size)
    height, width = (max(1, length // factor) for length in plane.shape)
    steps = [min(factor, length) for length in plane.shape]  # a plane thinner than a block
    kept = plane[: height * steps[0], : width * steps[1]]
    return kept.reshape(height, steps[0], width, steps[1]).mean(axis=(1, 3))


def stretched(plane: np.ndarray) -> np.ndarray:
    """A plane (y, x) as uint8, its 0.5th percentile black, its 99.5th white."""
    low, high = np.percentile(plane, STRETCH)
    if high <= low:
        return np.full(plane.shape, 128, np.uint8)
    return (np.clip((plane - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)


def png(grey: np.ndarray) -> bytes:
    """uint8 (y, x) → a greyscale PNG (W3C PNG specification): each row as itself or less the row above it."""
    height, width = grey.shape
    above = np.vstack([np.zeros((1, width), np.uint8), grey[:-1]])
    rows = {0: grey, 2: grey - above}  # filter type: filtered bytes, modulo 256
    filtered = min(rows, key=lambda kind: int(np.abs(rows[kind].astype(np.int8).astype(np.int64)).sum()))
    data = np.hstack([np.full((height, 1), filtered, np.uint8), rows[filtered]]).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(data, 9)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def inline(plane: np.ndarray) -> str:
    """A plane (y, x), stretched, as the address of an inlined PNG."""
    return "data:image/png;base64," + base64.b64encode(png(stretched(plane))).decode()
