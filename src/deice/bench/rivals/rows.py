"""What is run: rows, a method on a scene at a level, and the segmentations of their answers.

DIR/rows/METHOD__scene_N__snr_L.json       one row, never computed again while its method's settings are the same
DIR/answers/….npy                          its answer, float16 in standard deviations, for the nets that segment
DIR/segments/METHOD__scene_N__snr_L.json   membranes of that answer by a net trained on the other scenes' answers
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deice.bench.legs import kept_row
from deice.bench.rivals.methods import METHODS, ORDER
from deice.bench.rivals.scenes import Scenes
from deice.bench.rivals.segmenters import SEGMENTER
from deice.bench.rivals.work import settings
from deice.errors import RecipeFault

FIRST = ("recorrupted", "noise2noise", "f2fd")  # their rows come before all others,
LAST = ("noise2void_z", "self2self_blocks")  # those of variants after them
ROW, SEGMENTS = "rows", "segments"  # what is done with a method on a scene: the folders of their figures


@dataclass(frozen=True)
class Plan:
    """What is run. minutes: of this leg, no row is begun that would not fit (0: tables only; None: all rows).

    size: voxels (z, y, x) of 10 Å.  levels: signal/noise variance per voxel.  budget: seconds that ours may train for,
    a rival three times as many.  parallel: rows at a time, of several each in a process of its own, over all GPUs.
    segmenter: seconds that a net is trained to find membranes in each kind of input (0: by the ridge only).
    """

    minutes: float | None = None
    scenes: int = 3
    size: tuple[int, ...] = (64, 192, 192)
    levels: tuple[float, ...] = (0.15, 0.05)
    methods: tuple[str, ...] = ()
    budget: float = 25.0
    parallel: int = 1
    device: str = "auto"
    seed: int = 0
    segmenter: float = 20.0

    def __post_init__(self) -> None:
        for name in self.methods:
            if name not in METHODS:
                raise RecipeFault(f"method {name!r} is unknown; expected among {', '.join(METHODS)}")
        if len(self.size) != 3 or min(self.size) < 32:
            raise RecipeFault(f"size {self.size}; expected three numbers of 32 or more, depth, rows and columns")
        if not self.levels or not all(0 < level < 1e3 for level in self.levels):
            raise RecipeFault(f"levels {self.levels}; expected signal/noise ratios above 0, as 0.15")
        if self.scenes < 1 or self.parallel < 1 or self.seed < 0 or not self.budget > 0 or not self.segmenter >= 0:
            raise RecipeFault(f"scenes {self.scenes}, parallel {self.parallel}, seed {self.seed}, budget "
                              f"{self.budget:g}, segmenter {self.segmenter:g}; expected 1 or more, 1 or more, 0 or "
                              "more, seconds above 0, seconds of 0 or more")
        if self.minutes is not None and not self.minutes >= 0:
            raise RecipeFault(f"minutes is {self.minutes:g}; expected 0 or more")

    def scenes_in(self, out: Path) -> Scenes:
        """The scenes of this plan."""
        z, y, x = self.size
        return Scenes(out / "data", (z, y, x), self.scenes, self.levels, self.seed)

    def rows(self) -> list["Row"]:
        """All rows, in the order in which they are begun: what decides, level by level and scene by scene; filters
        last, as they fit where no training fits any more."""
        chosen = [name for name in ORDER if name in (self.methods or ORDER)]
        rows = [Row(name, index, level) for level in self.levels for index in range(self.scenes) for name in chosen]
        return sorted(rows, key=lambda row: (METHODS[row.method].table is None, row.method in LAST,
                                             row.method not in FIRST))

    def segmentations(self) -> list["Row"]:
        """Of every row's answer, by a net trained on the other scenes'; none where there is no other scene."""
        if self.scenes == 1 or not self.segmenter:
            return []
        return [Row(row.method, row.scene, row.level, SEGMENTS) for row in self.rows()]


@dataclass(frozen=True)
class Row:
    """One method on one scene at one level: its answer (`of` is ROW), or the membranes in it (SEGMENTS)."""

    method: str
    scene: int
    level: float
    of: str = ROW

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.method}__scene_{self.scene + 1}__snr_{self.level:g}"

    def file(self, out: Path) -> Path:
        """Where its figures are kept."""
        return out / self.of / f"{self.name}.json"

    def answer(self, out: Path) -> Path:
        """Where the method's answer is kept."""
        return out / "answers" / f"{self.name}.npy"

    def settings(self) -> dict[str, Any]:
        """What its figures depend on."""
        return settings(METHODS[self.method]) | ({"segmenter": SEGMENTER} if self.of == SEGMENTS else {})

    def kept(self, out: Path) -> dict[str, Any] | None:
        """What was kept of it, if its settings are still the same."""
        return kept_row(self.file(out), "settings", self.settings())

    def seconds(self, plan: Plan) -> float:
        """How long it may train."""
        return plan.segmenter if self.of == SEGMENTS else METHODS[self.method].budget(plan.budget)

    def answers(self, plan: Plan) -> list["Row"]:
        """The rows whose answers a segmentation learns from or judges: those of all scenes, its own first."""
        scenes = [self.scene, *(index for index in range(plan.scenes) if index != self.scene)]
        return [Row(self.method, index, self.level) for index in scenes] if self.of == SEGMENTS else []


def left(out: Path, plan: Plan) -> list[Row]:
    """What is still to be done, in order. A row whose answer is gone is done again if a segmentation needs it."""
    segmentations = [row for row in plan.segmentations() if row.kept(out) is None]
    needed = {row for each in segmentations for row in each.answers(plan) if not row.answer(out).exists()}
    return [row for row in plan.rows() if row in needed or row.kept(out) is None] + segmentations
