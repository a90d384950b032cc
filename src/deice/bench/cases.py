"""Cases: the pictures or volumes that methods are compared on, with whatever is known of each, read when needed."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deice.bench.picking import Places
from deice.errors import FileFault, PairFault
from deice.image import Geometry
from deice.io import read
from deice.scenes import Scene, match
from deice.subjects import load


@dataclass(frozen=True, eq=False)
class Pictures:
    """One case in memory: tensors (*space) float32, None where a thing is not known.

    noisy: what a user would denoise, the average of all frames.  halves: (even, odd).  places: the particles.
    pixel_size: Å.  geometry: of the noisy file, for what is written.
    """

    name: str
    noisy: Tensor
    halves: tuple[Tensor, Tensor] | None
    truth: Tensor | None
    places: Places | None
    pixel_size: float | None
    geometry: Geometry

    @property
    def reference(self) -> Tensor:
        """The truth, for what is fitted to it."""
        if self.truth is None:
            raise PairFault(f"{self.name}: no truth to fit to; expected --truth")
        return self.truth

    @property
    def fingerprint(self) -> str:
        """A hash of every pixel that figures depend on: equal figures are only claimed of equal pictures."""
        digest = hashlib.blake2b(digest_size=16)
        for picture in (self.noisy, *(self.halves or ()), *([] if self.truth is None else [self.truth])):
            digest.update(picture.numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Case:
    """Where the files of one scene lie. particles: csv of x, y[, z] in pixels and the radius in Å."""

    name: str
    noisy: Path | None
    halves: tuple[Path, Path] | None = None
    truth: Path | None = None
    particles: Path | None = None
    axes: str | None = None
    pixel_size: float | None = None

    def open(self) -> Pictures:
        """Read them; PairFault where their sizes differ, FileFault where one cannot be read."""
        even, odd = self.halves or (None, None)
        pictures = {"noisy": self.noisy, "even": even, "odd": odd, "truth": self.truth}
        read_in = {name: load(path, self.axes).pixels.float() for name, path in pictures.items() if path is not None}
        shapes = {tuple(pixels.shape) for pixels in read_in.values()}
        if len(shapes) > 1:
            raise PairFault(f"{self.name}: sizes {sorted(shapes)} among its files; expected one: check the pairing")
        halves = None if self.halves is None else (read_in["even"], read_in["odd"])
        noisy = read_in["noisy"] if halves is None or self.noisy else (halves[0] + halves[1]) / 2
        geometry = read(next(path for path in pictures.values() if path is not None), self.axes).geometry
        pixel_size = self.pixel_size or geometry.pixel_size
        places = None if self.particles is None or pixel_size is None else read_places(self.particles, pixel_size)
        return Pictures(self.name, noisy, halves, read_in.get("truth"), places, pixel_size, geometry)


def cases_of(
    scenes: Sequence[Scene], truth: Path | None, axes: str | None = None, pixel_size: float | None = None
) -> list[Case]:
    """A user's scenes as cases: lone pictures or (even, odd) halves, each with the truth of the same name.

    Raises PairFault where a truth is missing, and where there is neither truth nor halves to judge by.
    """
    truths = {} if truth is None else _truths(scenes, truth)
    for scene in scenes:
        if truth is None and len(scene.files) == 1:
            raise PairFault(f"{scene.files[0]}: neither truth nor halves; expected --truth, or its two halves "
                            "(_EVN and _ODD) among the inputs")
    return [
        Case(scene.name, scene.files[0] if len(scene.files) == 1 else None,
             (scene.files[0], scene.files[1]) if len(scene.files) == 2 else None,
             truths.get(scene.name), None, axes, pixel_size)
        for scene in scenes
    ]


def _truths(scenes: Sequence[Scene], folder: Path) -> dict[str, Path]:
    """The noiseless picture of each scene: of the same name, without what marks a half."""
    named = [Path(scene.files[0]).with_name(f"{scene.name}.mrc") for scene in scenes]
    lone = [scene.files[0] for scene in scenes if len(scene.files) == 1]
    found = {scene.name: scene.files[1] for scene in match(lone, folder)} if lone else {}
    for scene, path in zip(scenes, named, strict=True):
        if scene.name not in found:
            candidates = sorted(folder.glob(f"{path.stem}.*"))
            if len(candidates) != 1:
                raise PairFault(f"{scene.files[0]}: expected its truth {path.name} in {folder}, found "
                                f"{', '.join(c.name for c in candidates) or 'none'}")
            found[scene.name] = candidates[0]
    return found


def read_places(path: Path, pixel_size: float) -> Places:
    """The particles of a csv: centres (n, axes) in the order of the axes, radii; all in pixels of `pixel_size` Å."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        axes = [axis for axis in "zyx" if not rows or axis in rows[0]]
        centres = [[float(row[axis]) for axis in axes] for row in rows]
        radii = [float(row["radius"]) / pixel_size for row in rows]
    except (KeyError, ValueError) as error:
        raise FileFault(path, f"{error}; expected columns x, y (and z) in pixels and radius in Å") from error
    return Places(torch.tensor(centres, dtype=torch.float64).reshape(len(rows), len(axes)),
                  torch.tensor(radii, dtype=torch.float64))
