"""TIFF and BigTIFF stacks, read through tifffile: mapped where stored plainly, decoded page by page where packed.

TIFF's first row is the top of the picture, MRC's the bottom: pages are flipped along y on reading, as RELION,
IMOD and MotionCor do, so that coordinates, gains and halves agree between the two formats.
"""

import logging
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from tifffile import TiffFile, TiffPage, TiffPageSeries

from deice.errors import FileFault
from deice.image import Geometry
from deice.io.pages import check_end, check_strips, open_container
from deice.io.stored import Frames, Stored

log = logging.getLogger(__name__)

SAYS = {"Z": "zyx", "T": "tyx"}  # tifffile's letters for ImageJ's slices, OME's Z; ImageJ's frames, OME's T
ANGSTROM = {"Å": 1.0, "A": 1.0, "angstrom": 1.0, "pm": 0.01, "nm": 10.0, "µm": 1e4, "um": 1e4, "micron": 1e4}


def open_tiff(path: Path) -> Stored:
    """The pages of `path` as pixels (sections, y, x), first row at the bottom of the picture.

    The pixel size comes from ImageJ's (unit, spacing, XResolution) or OME's (PhysicalSizeX) description, else
    it is unknown.  Raises FileFault for a file cut short, colours, more than three axes, pixels that are no numbers.
    """
    with open_container(path) as tif:
        series = tif.series[0]
        if len(tif.series) > 1:
            log.warning("%s: holds %d series of pages; the first is read", path, len(tif.series))
        _check(path, series)
        pages = [page.aspage() for page in series.pages if page is not None]
        for page in pages:
            _ = page.decode  # finds its codec while the file is open
        pixels = _pixels(path, tif, series, pages)
        geometry = Geometry(voxel_size=_imagej_voxel(tif) or _ome_voxel(tif))
    axes = series.axes if series.ndim > 2 else "YX"
    return Stored(pixels, geometry, SAYS.get(axes[0], ""), f"TIFF, axes {axes}")


def _check(path: Path, series: TiffPageSeries) -> None:
    if series.axes[-2:] != "YX" or series.ndim > 3:
        raise FileFault(path, f"a TIFF of axes {series.axes}, shape {series.shape}; expected grey pages of one stack")
    if series.dtype is None or series.dtype.kind not in "uif":
        raise FileFault(path, f"a TIFF of {series.dtype} pixels; expected integers or floats")


def _pixels(path: Path, tif: TiffFile, series: TiffPageSeries, pages: list[TiffPage]) -> Any:
    """(sections, y, x): one mapped array where all pages lie in one piece, else frames read from the mapped file."""
    shape = (1, *series.shape)[-3:]
    dtype = np.dtype(series.dtype).newbyteorder(tif.byteorder)
    content = np.memmap(path, dtype=np.uint8, mode="r")
    if series.dataoffset is not None:
        check_end(path, series.dataoffset + int(np.prod(shape)) * dtype.itemsize, content.size)
        return np.memmap(path, dtype, "r", series.dataoffset, shape)[:, ::-1]
    check_strips(path, pages, content.size)

    def decode(number: int) -> np.ndarray:
        return _decode(path, content, pages[number], series.dtype)[::-1]

    return Frames(shape, series.dtype, decode)


def _decode(path: Path, content: np.ndarray, page: TiffPage, dtype: np.dtype) -> np.ndarray:
    """One page (y, x) from the bytes of its strips or tiles; no file is touched, so threads need no lock."""
    if page.is_final and page.is_contiguous:
        first, end = page.dataoffsets[0], page.dataoffsets[0] + page.nbytes
        return content[first:end].view(np.dtype(page.dtype).newbyteorder(page.parent.byteorder)).reshape(page.shape)
    frame = np.zeros(page.shape, dtype)
    for number, (first, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        try:
            segment, (_, _, y, x, _), _ = page.decode(content[first : first + count].tobytes(), number)
        except Exception as error:  # each codec has exceptions of its own
            raise FileFault(path, f"page {page.index} is damaged ({error}); copy it again") from error
        if segment is not None:
            part = segment[0, : frame.shape[0] - y, : frame.shape[1] - x, 0]
            frame[y : y + part.shape[0], x : x + part.shape[1]] = part
    return frame


def _imagej_voxel(tif: TiffFile) -> tuple[float, float, float] | None:
    """(x, y, z) in Å from ImageJ's unit, its pixels per unit (XResolution, YResolution) and its slice spacing."""
    found = tif.imagej_metadata or {}
    scale = _angstrom(found.get("unit", ""))
    tags = tif.pages.first.tags
    if scale is None or "XResolution" not in tags:
        return None
    x, y = (_length(tags.valueof(name, (0, 1))) * scale for name in ("XResolution", "YResolution"))
    if x <= 0:
        return None
    return x, y if y > 0 else x, float(found.get("spacing", 0)) * scale or x


def _length(resolution: tuple[int, int]) -> float:
    """Units per pixel from TIFF's fraction of pixels per unit; 0 where it says nothing."""
    pixels, units = resolution
    return units / pixels if pixels else 0.0


def _ome_voxel(tif: TiffFile) -> tuple[float, float, float] | None:
    """(x, y, z) in Å from OME's PhysicalSizeX, Y, Z; µm where the unit is not said (OME schema)."""
    if not tif.is_ome or not tif.ome_metadata:
        return None
    root = ElementTree.fromstring(tif.ome_metadata)
    pixels = next((element for element in root.iter() if element.tag.endswith("}Pixels")), None)
    if pixels is None or "PhysicalSizeX" not in pixels.attrib:
        return None
    sizes = []
    for axis in "XYZ":
        scale = _angstrom(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        size = pixels.get(f"PhysicalSize{axis}")
        sizes.append(float(size) * scale if size and scale else 0.0)
    x, y, z = sizes
    return (x, y or x, z or x) if x > 0 else None


def _angstrom(unit: str) -> float | None:
    """Å in one `unit`; both signs for micro and Å's two spellings, ImageJ's escapes among them; None if unknown."""
    unit = unit.replace("\\u00B5", "µ").replace("\u03bc", "µ").replace("\u212b", "Å").replace("\\u00C5", "Å").strip()
    return ANGSTROM.get(unit, ANGSTROM.get(unit.lower().rstrip("s")))
