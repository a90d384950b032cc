"""Writing: the name's ending decides between OME-Zarr and MRC; complete under its own name, or not there at all."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from deice.errors import UserError
from deice.image import Geometry, Image
from deice.io.mrc_writing import create_mrc, write_mrc
from deice.io.statistics import BLOCK, Statistics


def create(
    path: Path | str,
    shape: tuple[int, ...],
    geometry: Geometry | None = None,
    float16: bool = False,
    label: str = "",
    axes: str | None = None,
    int8: bool = False,
) -> AbstractContextManager[np.ndarray]:
    """The writable, mapped pixels (*shape), zeros, of a new file, to be filled block by block inside a `with`.

    shape: (y, x), (z, y, x), or (t, y, x) with axes="tyx" for MRC.  At the block's end the file is completed and gets
    its name; if the block fails it never does.
    Raises FileFault where the file cannot be written, before any pixel is asked for; UserError for frames in OME-Zarr.
    """
    path, shape = Path(path), tuple(int(n) for n in shape)
    if path.suffix.lower() != ".zarr":
        return create_mrc(path, shape, geometry, float16, label, axes, int8)
    if axes == "tyx":
        raise UserError(f"{path}: frames are written as MRC only; expected a name that ends in .mrc")
    from deice.io.ome_zarr_writing import create_zarr

    return create_zarr(path, shape, geometry, float16, label, int8)


def write(
    path: Path | str,
    image: Any,
    geometry: Geometry | None = None,
    float16: bool = False,
    label: str = "",
    axes: str | None = None,
    int8: bool = False,
) -> None:
    """Write `image`, an Image of one view or an array (y, x) or (z, y, x), as float32 or float16 MRC or OME-Zarr.

    path: NAME.zarr for OME-Zarr, any of MRC's endings for MRC.  int8: signed bytes (MRC's mode 0), for labels of 0 to
    127.  A movie (t, y, x) is written as an MRC stack of frames with axes="tyx".  geometry: the Image's own where not
    given.  label: what made the picture; version and date are added.
    Raises FileFault where the file cannot be written, UserError for several views without axes="tyx".
    """
    if isinstance(image, Image):
        geometry = geometry or image.geometry
        image = image.views if axes == "tyx" else _only_view(path, image)
    elif not hasattr(image, "shape"):
        image = np.asarray(image)
    with create(path, image.shape, geometry, float16, label, axes, int8) as data, np.errstate(over="ignore"):
        rows = max(1, BLOCK // max(1, image.shape[-1]))
        for number in np.ndindex(*image.shape[:-2]):
            frame = image[number] if number else image
            for first in range(0, image.shape[-2], rows):
                data[number][first : first + rows] = frame[first : first + rows]


def write_at_once(
    path: Path | str, pixels: np.ndarray, geometry: Geometry, label: str = "", found: Statistics | None = None
) -> None:
    """Write `pixels` that lie in memory, (y, x) or (z, y, x) of float32 or float16; `found`: their statistics.

    Raises FileFault where the file cannot be written.
    """
    if Path(path).suffix.lower() == ".zarr":
        write(path, pixels, geometry, pixels.dtype == np.float16, label)
    else:
        write_mrc(path, pixels, geometry, label, found)


def _only_view(path: Path | str, image: Image) -> Any:
    if image.views.shape[0] != 1:
        raise UserError(f"{path}: {image.views.shape[0]} views for one file; expected one: write them one by one, "
                        'or as a stack of frames with axes="tyx"')  # fmt: skip
    return image.views[0]
