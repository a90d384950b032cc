"""MRC/CCP4 files, written: block by block under a temporary name, then renamed, so that no half-written file exists.

Volume: ISPG 1, mz = nz. Micrograph, or stack of frames: ISPG 0, mz = 1 (MRC2014). Voxel size, origin, start and axis
order are those of the geometry given, so that pickers find the same place in the denoised file.
"""

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from mrcfile.utils import machine_stamp_from_byte_order

from deice.errors import FileFault, UserError
from deice.image import Geometry
from deice.io.statistics import Statistics, statistics
from deice.version import __version__

SUFFIXES = (".mrc", ".mrcs", ".map", ".rec", ".st", ".ali")
MRC_VERSION = 20141  # the revision of MRC2014 that has mode 12, float16
FLOAT16_END = 65504
MODES = {1: 0, 2: 12, 4: 2}  # bytes per pixel: int8, float16, float32


@contextmanager
def create_mrc(
    path: Path | str,
    shape: tuple[int, ...],
    geometry: Geometry | None = None,
    float16: bool = False,
    label: str = "",
    axes: str | None = None,
    int8: bool = False,
) -> Generator[np.ndarray, None, None]:
    """The writable, mapped pixels (*shape) of a new MRC file, to be filled block by block inside a `with`.

    shape: (y, x), (z, y, x), or (t, y, x) with axes="tyx".  At the block's end the statistics are computed in
    float64 over the file, the header is completed, and the file gets its name; if the block fails it never does.
    Raises FileFault where the file cannot be written, before any pixel is asked for.
    """
    dtype = np.dtype("i1" if int8 else "<f2" if float16 else "<f4")
    path, shape = Path(path), tuple(int(n) for n in shape)
    with _appearing(path, shape, dtype) as temporary:
        data = np.memmap(temporary, dtype, "r+", offset=HEADER_DTYPE.itemsize, shape=shape)
        yield data
        data.flush()
        header = _header(path, data, geometry or Geometry(), label, axes, statistics(data))
        with temporary.open("r+b") as file:
            file.write(header.tobytes())
            file.flush()
            os.fsync(file.fileno())


def write_mrc(
    path: Path | str, pixels: np.ndarray, geometry: Geometry | None = None, label: str = "",
    found: Statistics | None = None,
) -> None:
    """Write `pixels`, (y, x) or (z, y, x) of float32 or float16, in one go: twice as fast as through a map.

    found: their statistics, where they are known already.
    Raises FileFault where the file cannot be written.
    """
    path = Path(path)
    pixels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    header = _header(path, pixels, geometry or Geometry(), label, None, found or statistics(pixels))
    with _appearing(path, pixels.shape, pixels.dtype) as temporary, temporary.open("r+b") as file:
        file.write(header.tobytes())
        file.write(pixels.reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _appearing(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> Generator[Path, None, None]:
    """A file large enough for the pixels, under another name until the block ends well."""
    if path.suffix.lower() not in SUFFIXES:
        endings = ", ".join((*SUFFIXES, ".zarr"))
        raise FileFault(path, f"deice writes MRC and OME-Zarr; expected a name that ends in one of {endings}")
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise UserError(
            f"{path}: an image of shape {shape} has no place in an MRC file; expected (y, x) or (z, y, x)"
        )
    temporary = _reserve(path, HEADER_DTYPE.itemsize + int(np.prod(shape)) * dtype.itemsize)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def writable_folder(path: Path | str) -> Path:
    """The folder `path`, made where it is missing; FileFault if nothing can be written into it."""
    folder = Path(path)
    _reserve(folder / "probe.mrc", 0).unlink()
    return folder


def _reserve(path: Path, size: int) -> Path:
    """A new file of `size` bytes beside `path`, its space taken at once: a full disk is found here, not half-way."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise FileFault(path, "a folder stands where the file should; expected another name")
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    except OSError as error:
        raise FileFault(path, f"cannot be written ({error.strerror}); choose another folder") from error
    try:
        if size:
            os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        temporary.unlink()
        raise FileFault(path, f"no room for {size / 1e6:.0f} MB ({error.strerror}); free some or choose "
                              "another folder") from error  # fmt: skip
    finally:
        os.close(descriptor)
    return temporary


def _header(
    path: Path, data: np.ndarray, geometry: Geometry, label: str, axes: str | None, found: Statistics
) -> np.ndarray:
    volume = data.ndim == 3 and axes != "tyx"
    header: Any = np.zeros((), HEADER_DTYPE.newbyteorder("<"))
    sections, rows, columns = (1, *data.shape)[-3:]
    header["nx"], header["ny"], header["nz"] = columns, rows, sections
    header["mx"], header["my"], header["mz"] = columns, rows, sections if volume else 1
    header["mode"] = MODES[data.dtype.itemsize]
    header["ispg"] = 1 if volume else 0
    for axis, start, voxel, origin in zip(
        "xyz", geometry.nstart, _voxel_size(geometry), geometry.origin, strict=True
    ):
        header[f"n{axis}start"], header["origin"][axis] = start, origin
        header["cella"][axis] = voxel * float(header["m" + axis])
    header["mapc"], header["mapr"], header["maps"] = geometry.map_order
    header["cellb"] = geometry.cell_angles
    header["nversion"], header["map"] = MRC_VERSION, b"MAP "
    header["machst"] = machine_stamp_from_byte_order("<")
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = _figures(path, data, found)
    header["nlabl"], header["label"][0] = 1, _label(label)
    return header


def _voxel_size(geometry: Geometry) -> tuple[float, float, float]:
    return geometry.stated_voxel_size if geometry.voxel_size is None else geometry.voxel_size


def _figures(path: Path, data: np.ndarray, found: Statistics) -> tuple[float, float, float, float]:
    """dmin, dmax, dmean, rms; MRC2014's mark for "not determined" where no value is finite."""
    if found.infinite and data.dtype.itemsize == 2:
        raise FileFault(
            path, f"{found.infinite} values lie beyond float16's ±{FLOAT16_END}; write float32 instead"
        )
    if np.isnan(found.mean):
        return 0.0, -1.0, -2.0, -1.0
    return found.minimum, found.maximum, found.mean, found.sd


def _label(label: str) -> bytes:
    """`deice <version> <label> <date>` in MRC's 80 characters; the label is cut, never the date."""
    before, after = f"deice {__version__} ", f" {datetime.now():%Y-%m-%d %H:%M:%S}"
    text = label.encode("ascii", "replace").decode()[: 80 - len(before) - len(after)]
    return f"{before}{text}{after}".encode()
