"""Reading and writing: the first bytes of a file, never its name, decide which module reads it.

Whatever is read is lazy: mapped into memory where the format allows it, decoded frame by frame where it is
packed. Slices may have negative strides or foreign byte order: `np.ascontiguousarray(views[...],
dtype=np.float32)` before torch sees them.
"""

import os
import resource
from contextlib import suppress
from pathlib import Path

import numpy as np

from deice.errors import FileFault, RecipeFault
from deice.image import Image
from deice.io.mrc_writing import writable_folder
from deice.io.ome_zarr import is_zarr, open_zarr
from deice.io.stored import Stored
from deice.io.writing import create, write, write_at_once

__all__ = ["create", "inspect", "is_zarr", "read", "read_ahead", "read_gain", "read_movie", "writable_folder", "write",
           "write_at_once"]  # fmt: skip

FOREIGN = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89HDF": "an HDF5 file",
    b"PK\x03\x04": "a ZIP archive",
    b"%PDF": "a PDF document",
}
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
DM4_MAGIC = b"\0\0\0\4\0\0\0\0"  # version 4, then the high half of a length; a big-endian MRC has its rows there

# Each mapped file holds a descriptor and a training set has thousands of files: use all that the system grants.
with suppress(ValueError, OSError):
    _, _granted = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_granted, _granted))


def read(path: Path | str, axes: str | None = None) -> Image:
    """A picture as (1, y, x), a volume as (1, z, y, x), the frames of a movie as (t, y, x) with axes="tyx".

    axes: "zyx" or "tyx" for three axes whose header does not say what they are; a file of one section is a
    picture whatever `axes` says.
    Raises FileFault for a file that cannot be read, for three axes that could be both, for a movie without "tyx".
    """
    if axes not in (None, "zyx", "tyx"):
        raise RecipeFault(
            f"axes {axes!r} are unknown; expected zyx (a volume) or tyx (the frames of a movie)"
        )
    stored = inspect(path)
    sections = stored.pixels.shape[0]
    serves_as = axes or stored.says
    if sections == 1 or axes == "tyx":
        return Image(stored.pixels, stored.geometry)
    if serves_as == "zyx":
        return Image(stored.pixels[None], stored.geometry)
    found = f"{stored.holds}, {sections} sections"
    if serves_as == "tyx":
        raise FileFault(
            Path(path),
            f"{found}: a movie or stack of images; expected a picture or volume: "
            "run deice split on it, or say --axes zyx if it is a volume",
        )
    raise FileFault(
        Path(path),
        f"{found}: a volume or a movie, the header does not say; say --axes zyx (volume) or --axes tyx (movie)",
    )


def read_movie(
    path: Path | str, eer_frames: int | None = None, eer_superres: int = 0, pixel_size: float | None = None
) -> Image:
    """A movie's frames (t, y, x), read one at a time when sliced; `pixel_size` in Å replaces the header's.

    eer_frames: how many frames an EER file's raw fractions are summed into, floor(fractions / eer_frames)
    each; the remainder at the end is dropped, as RELION does; None keeps every fraction.  eer_superres: 0, 1,
    2 for 4k, 8k, 16k.
    Raises FileFault for a file that cannot be read, RecipeFault for impossible EER options.
    """
    stored = inspect(path, eer_frames, eer_superres)
    geometry = stored.geometry if pixel_size is None else stored.geometry.with_pixel_size(pixel_size)
    return Image(stored.pixels, geometry)


def read_gain(
    path: Path | str,
    movie: Image | tuple[int, ...] | None = None,
    rotation: int = 0,
    flip: int = 0,
) -> np.ndarray:
    """A gain reference (y, x), float32, to multiply frames by; 0 marks a defect. From .mrc, .tif, .gain or .dm4.

    movie: the movie, or its shape, that the gain must fit.  rotation: quarter turns clockwise (RELION's --gain_rot);
    flip, after it: 1 upside down, 2 left to right (--gain_flip).
    An EER .gain is a mean picture, not a factor: it is brought to the movie's grid, then mean / gain is taken.
    Raises UserError where the gain does not fit the movie, FileFault where it cannot be read.
    """
    from deice.io import gain as references

    path = Path(path)
    stored = inspect(path)
    mean_picture = path.suffix.lower() == ".gain"
    if stored.pixels.shape[0] != 1:
        raise FileFault(path, f"{stored.holds}, {stored.pixels.shape[0]} sections; expected a gain reference of one")
    picture = np.asarray(stored.pixels[0], dtype=np.float32)
    if mean_picture:  # EER frames are not flipped on reading, so neither is what belongs to them
        picture = picture[::-1]
    picture = references.turn(picture, rotation, flip)
    if movie is not None:
        rows, columns = (movie.views.shape if isinstance(movie, Image) else movie)[-2:]
        picture = references.match_grid(picture, (rows, columns)) if mean_picture else picture
        references.check_shape(path, picture, (rows, columns), rotation)
    return references.cleaned(path, references.inverted(path, picture) if mean_picture else picture)


def inspect(path: Path | str, eer_frames: int | None = None, eer_superres: int = 0) -> Stored:
    """What the file holds, before it is decided what it serves as: pixels (sections, y, x), geometry,
    header."""
    path = Path(path)
    if is_zarr(path):
        return open_zarr(path)
    magic = _magic(path)
    for start, name in FOREIGN.items():
        if magic.startswith(start):
            raise FileFault(path, f"{name}, whatever its name says; expected MRC, TIFF, EER or DM4")
    if magic[:4] in TIFF_MAGIC:
        from deice.io.eer import is_eer, open_eer
        from deice.io.tiff import open_tiff

        return open_eer(path, eer_frames, eer_superres) if is_eer(path) else open_tiff(path)
    if magic == DM4_MAGIC:
        from deice.io.dm4 import open_dm4

        return open_dm4(path)
    from deice.io.mrc import open_mrc

    return open_mrc(path)


def read_ahead(path: Path) -> None:
    """Ask the system to fetch a file that will be read whole: a map fetches it page by page, at half the rate."""
    with suppress(OSError), path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def _magic(path: Path) -> bytes:
    """The first bytes of a file that exists, can be read and holds something; FileFault otherwise."""
    try:
        with path.open("rb") as file:
            magic = file.read(8)
    except FileNotFoundError as error:
        raise FileFault(path, "no such file; check the name") from error
    except IsADirectoryError as error:
        raise FileFault(path, "a folder; expected a file, or a folder of OME-Zarr") from error
    except OSError as error:
        raise FileFault(path, f"cannot be read ({error.strerror})") from error
    if not magic:
        raise FileFault(path, "empty, 0 bytes; expected a micrograph, movie or tomogram: copy it again")
    return magic
