"""OME-Zarr volumes, written: NGFF 0.4 on Zarr 2, which most programs read, with a pyramid of halved levels.

Pixels are collected in a scratch file of float32 and go from there into chunks, so that a volume never has to fit into
memory; the folder gets its name when it is complete.
"""

import os
import secrets
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from deice.errors import FileFault, UserError
from deice.image import Geometry
from deice.io.ome_zarr import has_metadata, the_zarr_package
from deice.version import __version__

CHUNK = {2: (1024, 1024), 3: (64, 128, 128)}  # about 4 MB of float32
SMALLEST_LEVEL = 128  # pixels: a level whose axes are all that short has no smaller one
ROOM = 1 + 8 / 7  # bytes of disk for a byte of pixels: the scratch file, and the levels as if nothing could be packed


@contextmanager
def create_zarr(
    path: Path, shape: tuple[int, ...], geometry: Geometry | None = None, float16: bool = False, label: str = "",
    int8: bool = False,
) -> Generator[np.ndarray, None, None]:
    """The writable, mapped pixels (y, x) or (z, y, x), zeros of float32 or int8, of a new OME-Zarr folder.

    At the end of a `with` they are written in chunks, with levels halved along each axis, voxel size and origin in Å,
    and the folder gets its name, in place of an older OME-Zarr folder; if the block fails it never does.
    Raises FileFault where it cannot be written or a value does not fit into float16, UserError for other axes and
    without the package zarr.
    """
    zarr = the_zarr_package(path)
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise UserError(f"{path}: an image of shape {shape}; expected (y, x) or (z, y, x)")
    if path.exists() and not has_metadata(path):
        raise FileFault(path, "something else stands where the OME-Zarr folder should; expected another name")
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield (pixels := _scratch(path, temporary, shape, np.dtype(np.int8 if int8 else np.float32)))
        try:
            with zarr.config.set({"array.write_empty_chunks": True}):  # else zeros look like missing chunks
                group = zarr.create_group(str(temporary / "volume"), zarr_format=2)
                _write_levels(path, group, pixels, float16)
            group.attrs["multiscales"] = [_description(path.stem, pixels, geometry or Geometry(), label)]
            _put_in_place(temporary / "volume", path, temporary / "older")
        except OSError as error:
            raise _cannot(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(folder: Path, path: Path, older: Path) -> None:
    """Give `folder` the name `path`; what bears it is moved to `older`, and back again if that fails."""
    if path.exists():
        os.replace(path, older)
    try:
        os.replace(folder, path)
    except OSError:
        if older.exists():
            os.replace(older, path)
        raise


def _cannot(path: Path, error: OSError) -> FileFault:
    return FileFault(path, f"cannot be written ({error.strerror or error}); choose another folder")


def _scratch(path: Path, temporary: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros (*shape), mapped; their space is taken at once and that of the chunks is looked for."""
    size = dtype.itemsize * int(np.prod(shape))
    try:
        temporary.mkdir(parents=True)
        if shutil.disk_usage(temporary).free < ROOM * size:
            raise FileFault(path, f"no room for {ROOM * size / 1e6:.0f} MB; free some or choose another folder")
        with (temporary / "pixels").open("w+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise _cannot(path, error) from error


def _write_levels(path: Path, group: Any, pixels: np.ndarray, float16: bool) -> None:
    """Level 0 as it is, each further one of 2 x 2 (x 2) voxels of the one before: their mean, or one label."""
    finer: Any = pixels
    dtype = np.dtype(np.float16) if float16 else pixels.dtype
    for number, (shape, _) in enumerate(_levels(pixels.shape)):
        chunk = tuple(min(n, size) for n, size in zip(shape, CHUNK[len(shape)]))
        level = group.create_array(
            str(number), shape=shape, chunks=chunk, dtype=dtype.newbyteorder("<"), fill_value=0,
            compressors=_compressor(), chunk_key_encoding={"name": "v2", "separator": "/"},
        )
        for place in product(*(range(0, n, size) for n, size in zip(shape, chunk))):
            spans = tuple(slice(first, min(first + size, n)) for first, size, n in zip(place, chunk, shape))
            block = np.asarray(finer[spans]) if number == 0 else _halved(finer, spans)
            if float16 and (np.abs(block[np.isfinite(block)]) > np.finfo(np.float16).max).any():
                raise FileFault(path, "values lie beyond float16's ±65504; write float32 instead")
            level[spans] = block.astype(level.dtype)
        finer = level


def _levels(shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each level's shape, and its voxel's width in voxels of level 0; an axis of one voxel stays as it is."""
    widths = (1,) * len(shape)
    yield shape, widths
    while max(shape) > SMALLEST_LEVEL:
        widths = tuple(width if n == 1 else 2 * width for width, n in zip(widths, shape))
        shape = tuple((n + 1) // 2 for n in shape)
        yield shape, widths


def _halved(finer: Any, spans: tuple[slice, ...]) -> np.ndarray:
    """The part `spans` of the next level; at an odd end the last voxel stands for the one that is missing."""
    block = np.asarray(finer[tuple(slice(2 * s.start, 2 * s.stop) for s in spans)])
    if block.dtype.kind == "i":  # labels have no mean
        return block[(slice(None, None, 2),) * block.ndim]
    block = block.astype(np.float32)
    block = np.pad(block, [(0, 2 * (s.stop - s.start) - n) for s, n in zip(spans, block.shape)], mode="edge")
    for axis in range(block.ndim):
        pairs = np.moveaxis(block, axis, 0)
        block = np.moveaxis((pairs[0::2] + pairs[1::2]) / 2, 0, axis)
    return block


def _compressor() -> Any:
    from numcodecs import Blosc

    return Blosc(cname="zstd", clevel=3, shuffle=Blosc.SHUFFLE)


def _description(name: str, pixels: np.ndarray, geometry: Geometry, label: str) -> dict[str, Any]:
    """NGFF 0.4's metadata: axes, and for each level its voxel size and where its first voxel's value lies."""
    letters, known, labels = "zyx"[-pixels.ndim :], geometry.voxel_size is not None, pixels.dtype.kind == "i"
    voxel, origin = [
        np.array(lengths[::-1][-pixels.ndim :])  # a geometry's are (x, y, z)
        for lengths in (geometry.voxel_size or (1.0, 1.0, 1.0), geometry.origin if known else (0.0, 0.0, 0.0))
    ]
    datasets = []
    for number, (_, widths) in enumerate(_levels(pixels.shape)):
        width = np.array(widths)
        shift = origin if labels else origin + (width - 1) / 2 * voxel
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": (width * voxel).tolist()}]
        if shift.any():
            steps.append({"type": "translation", "translation": shift.tolist()})
        datasets.append({"path": str(number), "coordinateTransformations": steps})
    return {
        "version": "0.4",
        "name": name,
        "axes": [{"name": letter, "type": "space"} | ({"unit": "angstrom"} if known else {}) for letter in letters],
        "datasets": datasets,
        "type": "nearest" if labels else "mean",
        "metadata": {"description": f"deice {__version__} {label} {datetime.now():%Y-%m-%d %H:%M:%S}"},
    }
