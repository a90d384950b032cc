"""A suite on disk: scenes to train on and other scenes to judge on, each at several noise levels; drawn once.

DIR/data/train|test/
├── truth/NAME.mrc                               noiseless, the same for all levels (test only)
├── coordinates/NAME.csv                         x, y[, z] in pixels, the particle's name and its radius in Å
├── snr_LEVEL/halves/NAME_EVN.mrc, NAME_ODD.mrc
├── snr_LEVEL/full/NAME.mrc                      the average of all frames (test only)
├── snr_LEVEL/truth_with_ice/NAME.mrc            the truth with the structure of the ice (test only, micrographs)
└── scenes/NAME.json                             written last: what the levels came out as
"""

import csv
import json
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from deice.bench.cases import Case
from deice.errors import RecipeFault
from deice.image import Geometry
from deice.io import writable_folder, write

log = logging.getLogger(__name__)

LEVELS = (0.3, 0.1, 0.05, 0.02, 0.01)
PARTS = ("train", "test")
APART = 1000  # families of proteins between two seeds: training takes the first ones, the test those from the middle


@dataclass(frozen=True)
class Extent:
    """How large a suite is. train, test: number of scenes.  size: pixels along the last axes.  levels: signal/noise
    variance per pixel of the full average.  seed: other seeds, other scenes and other proteins."""

    train: int = 90
    test: int = 8
    size: int = 1024
    seed: int = 0
    levels: tuple[float, ...] = LEVELS

    def __post_init__(self) -> None:
        if self.size < 32:
            raise RecipeFault(f"size {self.size}; expected 32 pixels or more")
        if self.train < 0 or self.test < 1 or self.seed < 0:
            raise RecipeFault(f"train {self.train}, test {self.test}, seed {self.seed}; expected train and seed of 0 "
                              "or more, test of 1 or more")
        if not self.levels or not all(0 < level < 1e3 for level in self.levels):
            raise RecipeFault(f"levels {self.levels}; expected signal/noise ratios above 0, as 0.02")


@dataclass(frozen=True, eq=False)
class Counted:
    """A scene at one level: the means over the even and over the odd frames, each (*space).

    facts: what is to be known of it: measured signal_to_noise, dose.  truth_with_ice: where the ice has a structure.
    """

    even: np.ndarray
    odd: np.ndarray
    facts: dict[str, float]
    truth_with_ice: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Drawn:
    """One scene: truth (*space), particles with x, y[, z], name and radius (Å), and what was counted at each level."""

    truth: np.ndarray
    particles: Sequence[dict[str, Any]]
    geometry: Geometry
    levels: dict[float, Counted]


class Scenery(Protocol):
    """What a suite is drawn from. axes: "zyx" for volumes.  knows_ice: truths with ice are drawn too."""

    @property
    def axes(self) -> str | None: ...

    @property
    def knows_ice(self) -> bool: ...

    def settings(self, extent: Extent) -> dict[str, Any]:
        """All that is set, for the record and to tell suites apart."""
        ...

    def draw(self, extent: Extent, part: str, index: int, levels: Sequence[float]) -> Drawn:
        """Scene number `index` of a part at these levels; the same arguments give the same scene."""
        ...


@dataclass(frozen=True)
class Suite:
    """A suite's scenery, extent and folder."""

    kind: str
    scenery: Scenery
    extent: Extent
    folder: Path

    def build(self, workers: int = 1) -> Iterator[tuple[int, int]]:
        """Draw what is missing, `workers` scenes at a time; yields (scenes drawn, scenes that were missing).

        RecipeFault for the folder of another suite.
        """
        writable_folder(self.folder)
        self._refuse_another()
        scenes = [(part, index) for part in PARTS for index in range(getattr(self.extent, part))]
        missing = [(part, index) for part, index in scenes if self._missing(part, index)]
        if workers == 1:
            for done, (part, index) in enumerate(missing, 1):
                self._draw(part, index)
                yield done, len(missing)
            return
        with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            drawn = [pool.submit(self._draw, part, index) for part, index in missing]
            for done, scene in enumerate(as_completed(drawn), 1):
                scene.result()
                yield done, len(missing)

    def cases(self, level: float, with_ice: bool = False) -> list[Case]:
        """The test scenes at a level; with_ice: judged against the truth with the structure of the ice."""
        folder = self._part("test")
        at_level = folder / level_name(level)
        truth = at_level / "truth_with_ice" if with_ice else folder / "truth"
        return [
            Case(name, at_level / "full" / f"{name}.mrc",
                 (at_level / "halves" / f"{name}_EVN.mrc", at_level / "halves" / f"{name}_ODD.mrc"),
                 truth / f"{name}.mrc", folder / "coordinates" / f"{name}.csv", self.scenery.axes)
            for name in map(scene_name, range(self.extent.test))
        ]

    def training_halves(self, level: float) -> list[str]:
        """The files of the training halves at a level."""
        folder = self._part("train") / level_name(level) / "halves"
        names = map(scene_name, range(self.extent.train))
        return [str(folder / f"{name}_{half}.mrc") for name in names for half in ("EVN", "ODD")]

    def facts(self, level: float) -> dict[str, float]:
        """Means over the test scenes of what a level came out as."""
        found = [self._done("test", index)[f"{level:g}"] for index in range(self.extent.test)]
        return {key: float(np.mean([facts[key] for facts in found])) for key in found[0]}

    def _done(self, part: str, index: int) -> dict[str, dict[str, float]]:
        """What the levels of a scene came out as that were drawn before."""
        record = self._record(part, index)
        return json.loads(record.read_text())["levels"] if record.exists() else {}

    def _missing(self, part: str, index: int) -> list[float]:
        done = self._done(part, index)
        return [level for level in self.extent.levels if f"{level:g}" not in done]

    def _draw(self, part: str, index: int) -> None:
        drawn = self.scenery.draw(self.extent, part, index, self._missing(part, index))
        folder, name, done = self._part(part), scene_name(index), self._done(part, index)
        pictures = {folder / "truth" / f"{name}.mrc": (drawn.truth, "truth")} if part == "test" else {}
        for level, counted in drawn.levels.items():
            at_level = folder / level_name(level)
            for half, picture in (("EVN", counted.even), ("ODD", counted.odd)):
                pictures[at_level / "halves" / f"{name}_{half}.mrc"] = picture, f"half {half}"
            if part == "test":
                pictures[at_level / "full" / f"{name}.mrc"] = (counted.even + counted.odd) / 2, "average"
            if part == "test" and counted.truth_with_ice is not None:
                pictures[at_level / "truth_with_ice" / f"{name}.mrc"] = counted.truth_with_ice, "truth with ice"
            done[f"{level:g}"] = counted.facts
        for path, (picture, about) in pictures.items():
            write(path, picture, drawn.geometry, label=about)
        _write_particles(folder / "coordinates" / f"{name}.csv", drawn.particles)
        write_json(self._record(part, index), {"name": name, "particles": len(drawn.particles), "levels": done})

    def _refuse_another(self) -> None:
        path = self.folder / "data" / "suite.json"
        wanted = json.loads(json.dumps({"kind": self.kind, "size": self.extent.size, "seed": self.extent.seed,
                                        "world": self.scenery.settings(self.extent)}, default=str))
        if not path.exists():
            write_json(path, wanted)
        elif json.loads(path.read_text()) != wanted:
            raise RecipeFault(f"{path} describes another suite; expected the same kind, size and seed: "
                              "choose another -o")

    def _part(self, part: str) -> Path:
        return self.folder / "data" / part

    def _record(self, part: str, index: int) -> Path:
        return self._part(part) / "scenes" / f"{scene_name(index)}.json"


def scene_name(index: int) -> str:
    """The name of scene `index` in its files."""
    return f"scene_{index + 1:04d}"


def level_name(level: float) -> str:
    """The folder of a level."""
    return f"snr_{level:g}"


def family(extent: Extent, part: str, index: int, scenes_each: int) -> int:
    """Which family of proteins lies in a scene: every `scenes_each` scenes another; no two parts share one."""
    first = APART * extent.seed + (0 if part == "train" else APART // 2)
    return first + (index // scenes_each) % (APART // 2)


def scene_seed(extent: Extent, part: str) -> int:
    """The seed of a part's places, poses, lenses and noise."""
    return 2 * extent.seed + PARTS.index(part)


def write_json(path: Path, content: Any) -> None:
    """Write plain values whole or not at all."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)


def _write_particles(path: Path, particles: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(particles[0]) if particles else ["x", "y", "name", "radius"]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(particles)


def plain(settings: Any, drop: Sequence[str] = ()) -> dict[str, Any]:
    """A dataclass of settings as plain values, without what each scene draws for itself."""
    return {key: value for key, value in asdict(settings).items() if key not in drop}
