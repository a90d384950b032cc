"""Tilt angles: read from .tlt, .rawtlt and .mdoc files, found beside the tomogram that they belong to."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from deice.errors import FileFault, RecipeFault

log = logging.getLogger(__name__)

# of one tilt series, the refined angles first; acquisition programs append .mdoc to the series' own name
ENDINGS = (".tlt", ".rawtlt", ".mdoc", ".mrc.mdoc", ".st.mdoc", ".tif.mdoc")
FOLDERS = (".", "tilts", "../tilts")  # deice simulate keeps them in a folder of their own
# what programs add to the series' name for a tomogram: IMOD's _rec, AreTomo's _Vol, Warp's _10.00Apx, a prefix rec_
ADDED = re.compile(r"(_(full|rec|vol|bin\d+|\d+(\.\d+)?apx))+$", re.IGNORECASE)
STEEPEST = 89.0  # degrees: beyond it nothing, or everything, would be missing
IN_MDOC = re.compile(r"^\s*TiltAngle\s*=\s*(\S+)", re.MULTILINE)


def read_tilts(path: Path | str) -> tuple[float, ...]:
    """The tilt angles in degrees, in the order of the file: .mdoc by its TiltAngle lines, else the first column.

    FileFault for a file without two different angles, or with what is no angle within ±90°.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise FileFault(path, f"cannot be read as text ({type(error).__name__}); expected tilt angles") from error
    if path.suffix.lower() == ".mdoc":
        words = IN_MDOC.findall(text)
    else:
        words = [line.replace(",", " ").split()[0] for line in text.splitlines() if line.strip(" ,\t")]
    try:
        angles = tuple(float(word) for word in words)
    except ValueError as error:
        raise FileFault(path, f"{error}; expected a tilt angle in degrees on each line") from error
    if any(not abs(angle) <= 90 for angle in angles) or len(set(angles)) < 2:
        found = f"angles from {min(angles):g} to {max(angles):g}" if angles else "no angle"
        raise FileFault(path, f"{found}; expected tilt angles within ±90 degrees")
    return angles


def tilt_range_beside(tomogram: Path, name: str) -> tuple[float, float] | None:
    """First and last tilt (degrees) of the series called `name` as its tomogram is, or None where no file says.

    tomogram: one of its files. Looked for in its folder and in a folder tilts/ in it or beside it.
    """
    for folder in FOLDERS:
        for series in _series_names(name):
            for ending in ENDINGS:
                path = tomogram.parent / folder / (series + ending)
                if path.is_file():
                    angles = read_tilts(path)
                    log.info("%s: tilts from %g to %g degrees (%s)", name, min(angles), max(angles), path.name)
                    return checked_tilt_range((min(angles), max(angles)), str(path))
    return None


def checked_tilt_range(given: Sequence[float], where: str = "tilt_range") -> tuple[float, float]:
    """First and last tilt in degrees; RecipeFault unless they are two, grow, and lie within ±89."""
    values = tuple(float(value) for value in given)
    if len(values) != 2 or not -STEEPEST <= values[0] < values[1] <= STEEPEST:
        found = ", ".join(f"{value:g}" for value in values) or "nothing"
        raise RecipeFault(f"{where}: {found}; expected the first and the last tilt in degrees, within ±{STEEPEST:g}, "
                          "as -60,60")
    return values


def parse_tilt_range(text: str) -> tuple[float, float]:
    """"-60,60" → (-60.0, 60.0); RecipeFault for anything else."""
    try:
        return checked_tilt_range([float(word) for word in text.split(",")], f"--tilt-range {text}")
    except ValueError:
        raise RecipeFault(f"--tilt-range {text}: expected the first and the last tilt in degrees, as -60,60") from None


def _series_names(name: str) -> list[str]:
    """`name` as it is, then without what programs add to it."""
    shorter = ADDED.sub("", name)
    names = [name, shorter, name.removeprefix("rec_"), shorter.removeprefix("rec_")]
    return list(dict.fromkeys(names))
