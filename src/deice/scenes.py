"""Scenes: which files belong together, by the names that the field's programs give to halves and pairs."""

import glob
import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deice.errors import PairFault, UserError
from deice.image import Image
from deice.io import is_zarr, read

log = logging.getLogger(__name__)

SUFFIXES = (".mrc", ".mrcs", ".map", ".rec", ".st", ".tif", ".tiff", ".eer", ".zarr")
PACKED = (".gz", ".bz2")
PIXEL_SIZE_TOLERANCE = 1e-3  # relative: headers round
# stem before, even or odd, stem after; and the name of the same file from all frames
HALF_NAMES = (
    re.compile(r"(?P<stem>.+)_(?P<half>EVN|ODD)(?P<tail>_Vol)?", re.IGNORECASE),
    re.compile(r"(?P<stem>.+)_half(?P<half>[12])(?P<tail>)", re.IGNORECASE),
)
EVEN = ("evn", "1", "even")
PARTNER = {"EVN": "ODD", "ODD": "EVN", "evn": "odd", "odd": "evn", "1": "2", "2": "1"}
PARTNER_FOLDER = {"even": "odd", "odd": "even", "Even": "Odd", "Odd": "Even", "EVEN": "ODD", "ODD": "EVEN"}


@dataclass(frozen=True)
class Scene:
    """Files that show one scene: a lone picture, (even, odd) halves, or (input, target). `name` names the output."""

    name: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Half:
    """One half by its name: the scene's name, its place (even 0, odd 1), where its partner and their average lie."""

    name: str
    place: int
    partner: Path
    averages: tuple[Path, ...]


def stem(path: Path) -> str:
    """The file's name without its ending: "rec_1" of "rec_1.mrc.gz"."""
    name = path.stem if path.suffix.lower() in PACKED else path.name
    return Path(name).stem


def expand(inputs: Path | str | Iterable[Path | str]) -> list[Path]:
    """Files, globs and folders → files, each once, in natural order (frame_2 before frame_10).

    In a folder, only files whose ending is a picture's count, and so do those in its even/ and odd/ folders (Warp).
    A folder of Zarr is one file.
    Raises UserError where one of the inputs holds nothing.
    """
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    if not given:
        raise UserError("no input; expected files, globs or folders")
    found = {Path(os.path.abspath(file)): file for one in given for file in _expand_one(one)}
    return sorted(found.values(), key=_natural)


def group(paths: Sequence[Path]) -> list[Scene]:
    """One scene per file, halves paired: even first. A full average among its own halves is left aside.

    Halves are `<stem>_EVN` and `_ODD`, `<stem>_half1` and `_half2`, `<stem>_EVN_Vol` and `_ODD_Vol`, or the same name
    in the folders even/ and odd/.
    Raises PairFault for a half without its partner, UserError for two scenes of one name.
    """
    known = {_absolute(path): path for path in paths}
    halves = {place: half for place, path in known.items() if (half := half_of(path)) is not None}
    averages = {_absolute(a) for half in halves.values() for a in half.averages} & known.keys()
    scenes = []
    for place, path in known.items():
        half = halves.get(place)
        if half is None:
            if place not in averages:
                scenes.append(Scene(stem(path), (path,)))
            continue
        partner = known.get(_absolute(half.partner))
        if partner is None:
            raise _missing_partner(path, half)
        if half.place == 0:
            scenes.append(Scene(half.name, (path, partner)))
    if averages:
        log.info("%d full averages left aside: their halves are among the inputs", len(averages))
    return _distinct(scenes)


def match(inputs: Path | str | Iterable[Path | str], targets_folder: Path | str) -> list[Scene]:
    """Each input with the file of the same name, else of the same stem, in `targets_folder`: files (input, target).

    Raises PairFault for an input without its target, UserError for two scenes of one name.
    """
    folder = Path(targets_folder)
    if not folder.is_dir():
        raise PairFault(f"{folder}: no such folder; expected the targets, named as the inputs")
    targets = [path for path in folder.iterdir() if _is_picture(path)]
    scenes = []
    for path in expand(inputs):
        same = [t for t in targets if t.name == path.name] or [t for t in targets if stem(t) == stem(path)]
        if len(same) != 1:
            found = ", ".join(sorted(t.name for t in same)) or "none"
            raise PairFault(f"{path}: expected one target {path.name} in {folder}, found {found}")
        scenes.append(Scene(stem(path), (path, same[0])))
    return _distinct(scenes)


def open_views(scene: Scene, axes: str | None = None) -> list[Image]:
    """Each file of the scene, opened; PairFault where their shapes or pixel sizes differ.

    A pixel size that only one of the headers knows is no contradiction.
    """
    images = [read(path, axes) for path in scene.files]
    for path, image in zip(scene.files[1:], images[1:], strict=True):
        first = images[0]
        if image.views.shape != first.views.shape:
            raise PairFault(
                f"{path}: {_size(image)}, but {scene.files[0]} has {_size(first)}; expected the same size"
            )
        if first.pixel_size is None or image.pixel_size is None:
            continue
        if abs(first.pixel_size - image.pixel_size) > PIXEL_SIZE_TOLERANCE * first.pixel_size:
            raise PairFault(
                f"{path}: {image.pixel_size:.4g} Å per pixel, but {scene.files[0]} has {first.pixel_size:.4g} Å; "
                "expected the same: pair files of one data set"
            )
    return images


def half_of(path: Path) -> Half | None:
    """What the file's name says of the half that it is, or None where it is no half's."""
    name, ending = stem(path), path.name[len(stem(path)) :]
    for pattern in HALF_NAMES:
        if found := pattern.fullmatch(name):
            word, (first, last) = found["half"], found.span("half")
            other = PARTNER.get(word, PARTNER[word.upper()])
            partner = path.with_name(name[:first] + other + name[last:] + ending)
            full = {found["stem"], found["stem"] + (found["tail"] or "")}
            averages = tuple(path.with_name(f + ending) for f in sorted(full))
            return Half(found["stem"], int(word.lower() not in EVEN), partner, averages)
    folder = path.parent.name
    if folder in PARTNER_FOLDER:
        partner = path.parent.parent / PARTNER_FOLDER[folder] / path.name
        return Half(name, int(folder.lower() == "odd"), partner, (path.parent.parent / path.name,))
    return None


def _expand_one(given: Path | str) -> list[Path]:
    path = Path(given).expanduser()
    if is_zarr(path):
        return [path]
    if path.is_dir():
        folders = [path, *(f for f in path.iterdir() if f.is_dir() and f.name in PARTNER_FOLDER)]
        files = [file for folder in folders for file in folder.iterdir() if _is_picture(file)]
        if not files:
            raise UserError(
                f"{path}: no picture in this folder; expected files that end in {', '.join(SUFFIXES)}"
            )
        return files
    if path.exists() or not glob.has_magic(str(path)):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder; check the name")
        return [path]
    found = [Path(name) for name in glob.glob(str(path), recursive=True)]
    found = [one for one in found if not any(folder.suffix.lower() == ".zarr" for folder in one.parents)]
    files = [file for one in found for file in (_expand_one(one) if one.is_dir() else [one])]
    if not files:
        raise UserError(f"{given}: no file matches; expected a file, a glob or a folder")
    return files


def _is_picture(path: Path) -> bool:
    name = Path(path.stem) if path.suffix.lower() in PACKED else path
    there = path.is_dir() if path.suffix.lower() == ".zarr" else path.is_file()
    return there and not path.name.startswith(".") and name.suffix.lower() in SUFFIXES


def _natural(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _missing_partner(path: Path, half: Half) -> PairFault:
    where = "exists but is not among the inputs: give both" if half.partner.exists() else "is missing"
    return PairFault(f"{path}: a half; its partner {half.partner} {where}")


def _distinct(scenes: list[Scene]) -> list[Scene]:
    seen: dict[str, Scene] = {}
    for scene in scenes:
        other = seen.setdefault(scene.name, scene)
        if other is not scene:
            raise UserError(f"{other.files[0]} and {scene.files[0]}: both would be named {scene.name}; "
                            "expected different names: run them one by one")  # fmt: skip
    return scenes


def _size(image: Image) -> str:
    return " x ".join(str(n) for n in reversed(image.space)) + " pixels"
