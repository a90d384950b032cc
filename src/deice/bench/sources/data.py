"""The pictures of the source documents' tables: simulated once, as [0, 1] pictures with noise and as halves of movies.

DIR/data/train|test/
├── clean/input, clean/target/NAME.mrc           particles alone, and with Gaussian noise
├── shot/input, shot/target/NAME.mrc             a target with shot noise of its own, and with Gaussian noise on top
├── levels/input/NAME.mrc                        the same target with less Gaussian noise
├── movies/NAME_EVN.mrc, NAME_ODD.mrc            means over the even and over the odd frames
├── truth/NAME.mrc                               of the movies, particles in smooth ice (test only)
├── packed/                                      64² patches of the movies' halves (train only)
└── scenes/NAME.json                             written last: what the scene came out as
"""

import json
import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deice.bench.micrographs import Micrographs
from deice.bench.suite import PARTS, Drawn, Extent, scene_name, write_json
from deice.errors import RecipeFault
from deice.image import Geometry
from deice.io import read, writable_folder, write
from deice.metrics import correlation
from deice.ops.normalise import percentile
from deice.packing import Packing, is_packed, pack, plan
from deice.scenes import Scene
from deice.worlds import World

log = logging.getLogger(__name__)

MOVIES = 0.095  # signal/noise of the full average at which raw even/odd halves correlate at 0.067, as measured
ELECTRONS = 14.5  # a pixel of the shot-noise target: its pointwise rescale scores what the documents report
SIGMA = {"clean": 0.25, "shot": 0.262, "levels": 0.1}  # of the added noise; shot: so that the input is at 12.8 dB
TARGET = {"clean": "clean", "shot": "shot", "levels": "shot"}  # whose target an input has
PATCHES = Packing(patch=64, stride=128, normalize="standard")


@dataclass(frozen=True)
class Scale:
    """How large everything is. train, test: scenes.  size: pixels.  share: of the rows' steps.  batch: the largest."""

    train: int = 96
    test: int = 8
    size: int = 1024
    world: World = field(default_factory=World)
    share: float = 1.0
    batch: int = 1 << 20


SCALES = {"full": Scale(), "small": Scale(4, 2, 128, World(pixel_size=4.0, coverage=0.3), 0.004, 2)}


@dataclass(frozen=True)
class Pictures:
    """The simulated pictures in a folder."""

    folder: Path
    scale: Scale
    seed: int = 0

    def build(self, workers: int = 1) -> None:
        """Draw what is missing, `workers` scenes at a time. RecipeFault for the folder of another set."""
        writable_folder(self.folder)
        self._refuse_another()
        for done, total in self._scenes(workers):
            if done == total or done % 10 == 0:
                log.info("%d of %d scenes drawn", done, total)
        packing = plan([Scene(name, pair) for name, pair in self.halves("train")], PATCHES)
        if not is_packed(packing, self.packed):
            deque(pack(packing, self.packed), maxlen=0)

    @property
    def packed(self) -> Path:
        """The folder of the movies' patches."""
        return self.folder / "train" / "packed"

    def training(self, kind: str) -> tuple[list[str], Path | None]:
        """What a net learns from: inputs, and the folder of their targets (None: halves, or packed pairs)."""
        if kind == "packed":
            return [str(self.packed)], None
        if kind == "movies":
            return [str(path) for _, pair in self.halves("train") for path in pair], None
        inputs = [str(self._file("train", f"{kind}/input", name)) for name in self._names("train")]
        return inputs, self.folder / "train" / TARGET[kind] / "target"

    def pair(self, kind: str, name: str) -> tuple[Tensor, Tensor]:
        """Noisy input and target of a test scene, (y, x) float32 each."""
        parts = (f"{kind}/input", f"{TARGET[kind]}/target")
        noisy, target = (_pixels(self._file("test", part, name)) for part in parts)
        return noisy, target

    def movie(self, name: str) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Halves and truth of a test scene, (y, x) float32 each."""
        (even, odd) = (self._file("test", "movies", f"{name}_{half}") for half in ("EVN", "ODD"))
        return (_pixels(even), _pixels(odd)), _pixels(self._file("test", "truth", name))

    def halves(self, part: str) -> list[tuple[str, tuple[Path, Path]]]:
        """Each scene's name and the files of its halves."""
        return [(name, (self._file(part, "movies", f"{name}_EVN"), self._file(part, "movies", f"{name}_ODD")))
                for name in self._names(part)]

    def test_names(self) -> list[str]:
        """The test scenes."""
        return self._names("test")

    def facts(self) -> dict[str, float]:
        """Means over the test scenes of what they came out as."""
        found = [json.loads(self._record("test", name).read_text()) for name in self.test_names()]
        return {key: float(np.mean([facts[key] for facts in found])) for key in found[0]}

    def described(self) -> dict[str, Any]:
        """All that the pictures depend on."""
        scenery = Micrographs(self.scale.world).settings(self._extent)
        return {"train": self.scale.train, "test": self.scale.test, "size": self.scale.size, "seed": self.seed,
                "movies": MOVIES, "electrons": ELECTRONS, "sigma": SIGMA, "packing": asdict(PATCHES),
                "world": json.loads(json.dumps(scenery, default=str))}

    @property
    def _extent(self) -> Extent:
        return Extent(self.scale.train, self.scale.test, self.scale.size, self.seed, (MOVIES,))

    def _scenes(self, workers: int) -> Iterator[tuple[int, int]]:
        """Draw the missing scenes; yields (drawn, all that were missing)."""
        missing = [(part, index) for part in PARTS for index, name in enumerate(self._names(part))
                   if not self._record(part, name).exists()]
        if workers == 1:
            for done, scene in enumerate(missing, 1):
                self._draw(*scene)
                yield done, len(missing)
            return
        with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            drawn = [pool.submit(self._draw, *scene) for scene in missing]
            for done, scene in enumerate(as_completed(drawn), 1):
                scene.result()
                yield done, len(missing)

    def _draw(self, part: str, index: int) -> None:
        drawn = Micrographs(self.scale.world).draw(self._extent, part, index, (MOVIES,))
        counted, name = drawn.levels[MOVIES], scene_name(index)
        pictures = pictures_of(drawn, [self.seed, PARTS.index(part), index])
        pictures |= {"movies_EVN": counted.even, "movies_ODD": counted.odd}
        pictures |= {"truth": drawn.truth} if part == "test" else {}
        for kind, picture in pictures.items():
            place, _, half = kind.partition("_")
            self._write(part, place, f"{name}_{half}" if half else name, picture, drawn.geometry)
        even, odd = (torch.from_numpy(half) for half in (counted.even, counted.odd))
        facts = {**counted.facts, "even_odd": correlation(even, odd)}
        write_json(self._record(part, name), facts)

    def _write(self, part: str, place: str, name: str, picture: np.ndarray, geometry: Geometry) -> None:
        write(self._file(part, place, name), picture.astype(np.float32), geometry, label=f"simulated: {place}")

    def _refuse_another(self) -> None:
        path, wanted = self.folder / "pictures.json", self.described()
        if not path.exists():
            write_json(path, wanted)
        elif json.loads(path.read_text()) != wanted:
            raise RecipeFault(f"{path} describes other pictures; expected the same scale and seed: choose another -o")

    def _names(self, part: str) -> list[str]:
        return [scene_name(index) for index in range(getattr(self.scale, part))]

    def _file(self, part: str, place: str, name: str) -> Path:
        return self.folder / part / place / f"{name}.mrc"

    def _record(self, part: str, name: str) -> Path:
        return self.folder / part / "scenes" / f"{name}.json"


def pictures_of(drawn: Drawn, seeds: list[int]) -> dict[str, np.ndarray]:
    """Inputs and targets (y, x) in [0, 1], named as their folders.

    clean: particles bright on the mean of the picture, as programs of this field show them, divided by the 95th
    percentile of the positive values and clipped: a picture that fills [0, 1] without noise of its own.
    shot: electrons counted of particles and ice, divided and clipped alike; most of what it shows is counting.
    """
    rng = np.random.default_rng([*seeds, 17])
    relative = drawn.truth / drawn.truth.mean() - 1
    with_ice = next(iter(drawn.levels.values())).truth_with_ice
    assert with_ice is not None, "a micrograph's truth is known with its ice"
    counts = rng.poisson(np.clip(with_ice / with_ice.mean(), 0, None) * ELECTRONS).astype(np.float32)
    targets = {"clean": in_unit_range(-relative), "shot": in_unit_range(counts)}
    pictures = {f"{kind}/target": target for kind, target in targets.items()}
    for kind, sigma in SIGMA.items():
        target = targets[TARGET[kind]]
        pictures[f"{kind}/input"] = np.clip(target + sigma * rng.standard_normal(target.shape), 0, 1)
    return pictures


def in_unit_range(picture: np.ndarray) -> np.ndarray:
    """(y, x) divided by the 95th percentile of its positive values, then clipped to [0, 1]."""
    return percentile(picture).apply(picture)


def _pixels(path: Path) -> Tensor:
    return torch.from_numpy(np.array(read(path).views[0], dtype=np.float32))
