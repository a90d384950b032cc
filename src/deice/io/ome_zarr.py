"""OME-Zarr volumes, read: the finest level of the first image, of NGFF 0.4 (Zarr 2) or 0.5 (Zarr 3).

Axes, transformations and units: the NGFF specification (ngff.openmicroscopy.org/0.4, /0.5). Rows are taken as stored,
as the tomograms of the CryoET Data Portal and copick are written from MRC.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deice.errors import FileFault, UserError
from deice.image import Geometry
from deice.io.chunks import Chunked
from deice.io.stored import Stored

log = logging.getLogger(__name__)

ANGSTROM = {"angstrom": 1.0, "picometer": 0.01, "nanometer": 10.0, "micrometer": 1e4, "millimeter": 1e7}
METADATA = (".zattrs", ".zgroup", ".zarray", "zarr.json")
SPACE = "zyx"


@dataclass(frozen=True)
class Level:
    """The finest level as the metadata describe it: one letter an axis; lengths in the axis's unit; what made it."""

    path: str
    version: str
    axes: str
    scale: tuple[float, ...]
    shift: tuple[float, ...]
    units: tuple[str | None, ...]
    labels: tuple[str, ...] = ()


def is_zarr(path: Path) -> bool:
    """Whether `path` is a folder that is one volume: Zarr's metadata lie in it, or its name says .zarr."""
    return path.is_dir() and (path.suffix.lower() == ".zarr" or has_metadata(path))


def has_metadata(path: Path) -> bool:
    """Whether Zarr's metadata lie in the folder."""
    return any((path / name).is_file() for name in METADATA)


def the_zarr_package(path: Path) -> Any:
    """The module zarr; UserError where it is not installed."""
    try:
        import zarr
    except ImportError as error:
        raise UserError(f'{path}: Zarr needs the package zarr; install it by: pip install "deice[zarr]"') from error
    return zarr


def open_zarr(path: Path) -> Stored:
    """The pixels (sections, y, x) of an OME-Zarr image or of a plain Zarr array, decoded chunk by chunk when sliced.

    Axes t and c of size 1 are dropped; z, y and x may be stored in any order. A plain array of three axes does not say
    whether it is a volume, nor its pixel size.
    Raises FileFault for metadata or chunks that are missing or damaged, for several times or channels, for pixels that
    are no numbers; UserError without the package zarr.
    """
    zarr = the_zarr_package(path)
    if not has_metadata(path):
        raise FileFault(path, f"a folder without Zarr's metadata ({', '.join(METADATA)}); copy it again")
    node = _opened(path, zarr)
    if isinstance(node, zarr.Array):
        if node.ndim not in (2, 3):
            raise FileFault(path, f"a Zarr array {node.shape} without OME metadata; expected two axes or three")
        axes = SPACE[-node.ndim :]
        holds = f"Zarr {node.metadata.zarr_format} array, no OME metadata"
        return Stored(_pixels(path, node, axes), Geometry(), "", f"{holds}, {_layout(node)}")
    level = _finest(path, node)
    try:
        array = node[level.path]
    except Exception as error:  # KeyError, or whatever its metadata's fault is called
        raise FileFault(path, f"its finest level {level.path!r} is missing or damaged ({_words(error)}); "
                              "copy it again") from error
    if not isinstance(array, zarr.Array) or array.ndim != len(level.axes):
        raise FileFault(path, f"its metadata say axes {level.axes}, but {level.path!r} is no such array; copy it again")
    says = "zyx" if "z" in level.axes else ""
    holds = f"OME-Zarr {level.version}, axes {level.axes}, {_layout(array)}"
    return Stored(_pixels(path, array, level.axes), _geometry(path, level), says, holds)


def _opened(path: Path, zarr: Any) -> Any:
    """The group or array; the group "0" of a collection that holds one image after the other (bioformats2raw)."""
    try:
        node = zarr.open(str(path), mode="r")
        if "bioformats2raw.layout" in _ome(node):
            log.warning("%s: a collection of images; the first is read", path)
            node = node["0"]
        return node
    except Exception as error:  # JSON, keys, codecs: each part of zarr has exceptions of its own
        raise FileFault(path, f"its Zarr metadata are damaged ({_words(error)}); copy it again") from error


def _ome(node: Any) -> dict[str, Any]:
    """The OME part of the attributes: under "ome" since NGFF 0.5, at the top before."""
    attributes = dict(node.attrs)
    return attributes.get("ome", attributes)


def _finest(path: Path, group: Any) -> Level:
    try:
        ome = _ome(group)
        if "multiscales" not in ome:
            inside = ", ".join(sorted(group.array_keys())) or "none"
            raise FileFault(path, f"a Zarr group without OME metadata (arrays: {inside}); expected multiscales: "
                                  f"name one of its arrays, as {path / '0'}")
        image = ome["multiscales"][0]
        if len(ome["multiscales"]) > 1:
            log.warning("%s: holds %d images; the first is read", path, len(ome["multiscales"]))
        version = str(ome.get("version") or image.get("version") or "of no version")
        axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in image["axes"]]
        names = "".join(axis["name"].lower() for axis in axes)
        finest = image["datasets"][0]
        steps = [*finest.get("coordinateTransformations", ()), *image.get("coordinateTransformations", ())]
        scale, shift = _affine(steps, len(axes))
        units = tuple(axis.get("unit") for axis in axes)
        made = image.get("metadata", {}).get("description")
        return Level(str(finest["path"]), version, names, scale, shift, units, (str(made),) if made else ())
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise FileFault(path, f"its OME metadata are damaged ({_words(error)}); expected multiscales with axes and "
                              "datasets, NGFF 0.4 or 0.5") from error


def _affine(steps: list[dict[str, Any]], axes: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and shift along each axis of the `steps`, one after the other; ValueError for what is neither."""
    scale, shift = np.ones(axes), np.zeros(axes)
    for step in steps:
        if step["type"] == "identity":
            continue
        numbers = np.array(step[step["type"]], dtype=np.float64)
        if step["type"] not in ("scale", "translation") or numbers.shape != (axes,) or not np.isfinite(numbers).all():
            raise ValueError(f"transformation {step}")
        if step["type"] == "scale":
            if numbers.min() <= 0:
                raise ValueError(f"scale {step['scale']}")
            scale, shift = scale * numbers, shift * numbers
        else:
            shift = shift + numbers
    return tuple(scale.tolist()), tuple(shift.tolist())


def _geometry(path: Path, level: Level) -> Geometry:
    """Voxel size and origin in Å; unknown where an axis in space has no unit of length."""
    found = {axis: n for n, axis in enumerate(level.axes) if axis in SPACE}
    units = {axis: level.units[n] for axis, n in found.items()}
    if not all(unit in ANGSTROM for unit in units.values()):
        if any(level.scale[n] != 1 for n in found.values()):
            said = ", ".join(f"{axis} {level.scale[n]:g} {units[axis] or 'without unit'}" for axis, n in found.items())
            log.warning("%s: pixel size unknown (%s); expected units of %s: give --pixel-size where it matters",
                        path, said, ", ".join(ANGSTROM))
        return Geometry(labels=level.labels)
    factor = {axis: ANGSTROM[str(unit)] for axis, unit in units.items()}
    voxel = {axis: level.scale[n] * factor[axis] for axis, n in found.items()}
    origin = {axis: level.shift[n] * factor[axis] for axis, n in found.items()}
    return Geometry(voxel_size=(voxel["x"], voxel["y"], voxel.get("z", voxel["x"])),
                    origin=(origin["x"], origin["y"], origin.get("z", 0.0)), labels=level.labels)


def _pixels(path: Path, array: Any, axes: str) -> Chunked:
    """The array as (sections, y, x), whatever the order of its axes."""
    _check(path, array, axes)
    order = [axes.index(axis) for axis in SPACE if axis in axes]
    others = [n for n in range(len(axes)) if n not in order]

    def in_order(sizes: tuple[int, ...]) -> tuple[int, ...]:
        return (1, *(int(sizes[n]) for n in order))[-3:]

    shape, chunk = in_order(array.shape), in_order(array.chunks)

    def decode(numbers: tuple[int, ...]) -> np.ndarray:
        where = [slice(0, 1)] * len(axes)
        spans = [slice(k * c, min((k + 1) * c, n)) for k, c, n in zip(numbers, chunk, shape)]
        for n, span in zip(order, spans[-len(order) :]):
            where[n] = span
        try:
            block = np.asarray(array[tuple(where)])
        except Exception as error:  # each codec has exceptions of its own
            name = " ".join(f"{axis} {k}" for axis, k in zip(SPACE, numbers))
            raise FileFault(path, f"chunk {name} is damaged ({_words(error)}); copy it again") from error
        return block.transpose(others + order).reshape([span.stop - span.start for span in spans])

    return Chunked(shape, array.dtype, chunk, decode)


def _check(path: Path, array: Any, axes: str) -> None:
    """FileFault for what is not one picture or volume of numbers, stored completely."""
    if len(set(axes)) != len(axes) or not set("yx") <= set(axes) <= set("tczyx"):
        raise FileFault(path, f"axes {axes}; expected y and x, perhaps z, and t or c of size 1")
    for name, n in zip(axes, array.shape):
        if name in "tc" and n != 1:
            raise FileFault(path, f"axes {axes} of {' x '.join(map(str, array.shape))}: {n} along {name}; "
                                  "expected one picture or volume: store them apart")
    if array.dtype.kind not in "uif":
        raise FileFault(path, f"{array.dtype} pixels; expected integers or floats")
    if min(array.shape) < 1:
        raise FileFault(path, f"a shape of {array.shape}; expected at least one pixel: the metadata are damaged")
    _check_chunks(path, array)


def _check_chunks(path: Path, array: Any) -> None:
    """A chunk that is not stored holds the fill value, by Zarr's rules, as where a volume was padded; say so."""
    stored, wanted = array.nchunks_initialized, array.nchunks
    if stored >= wanted:
        return
    fill = array.metadata.fill_value
    if stored == 0 or fill is None:
        raise FileFault(path, f"{stored} of {wanted} chunks of {array.path or 'the array'!r} are there; expected all: "
                              "copy it again")
    log.warning("%s: %d of %d chunks are not stored and read as %g, as where a volume is padded; if it is not, "
                "copy it again", path, wanted - stored, wanted, fill)


def _layout(array: Any) -> str:
    return f"{array.dtype} in chunks of {' x '.join(map(str, array.chunks))}"


def _words(error: Exception) -> str:
    """The error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
