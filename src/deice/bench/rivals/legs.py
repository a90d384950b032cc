"""Legs: rows are worked on several at a time until the leg's minutes are spent; each is kept when it is done.

DIR/rows/METHOD__scene_N__snr_L.json    one row, never computed again while its method's settings are the same
DIR/slices/….npz                        central planes of its answer
"""

import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from deice.bench.legs import kept_row, legs_noted, note_leg
from deice.bench.rivals.drawings import draw
from deice.bench.rivals.methods import METHODS, ORDER
from deice.bench.rivals.scenes import Scenes
from deice.bench.rivals.tables import write_all
from deice.bench.rivals.work import save_slices, settings, work
from deice.bench.suite import write_json
from deice.devices import choose_device, machine
from deice.errors import BatchFailure, RecipeFault
from deice.io import writable_folder
from deice.version import __version__

log = logging.getLogger(__name__)
BESIDE = 15.0  # seconds that a row takes besides its training, before any row has told
FIRST = ("recorrupted", "noise2noise", "f2fd")  # their rows come before all others,
LAST = ("noise2void_z", "self2self_blocks")  # those of variants after them


@dataclass(frozen=True)
class Plan:
    """What is run. minutes: of this leg, no row is begun that would not fit (0: tables only; None: all rows).

    size: voxels (z, y, x) of 10 Å.  levels: signal/noise variance per voxel.  budget: seconds that ours may train for,
    a rival three times as many.  parallel: rows at a time, of several each in a process of its own.
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

    def __post_init__(self) -> None:
        for name in self.methods:
            if name not in METHODS:
                raise RecipeFault(f"method {name!r} is unknown; expected among {', '.join(METHODS)}")
        if len(self.size) != 3 or min(self.size) < 32:
            raise RecipeFault(f"size {self.size}; expected three numbers of 32 or more, depth, rows and columns")
        if not self.levels or not all(0 < level < 1e3 for level in self.levels):
            raise RecipeFault(f"levels {self.levels}; expected signal/noise ratios above 0, as 0.15")
        if self.scenes < 1 or self.parallel < 1 or self.seed < 0 or not self.budget > 0:
            raise RecipeFault(f"scenes {self.scenes}, parallel {self.parallel}, seed {self.seed}, budget "
                              f"{self.budget:g}; expected 1 or more, 1 or more, 0 or more, seconds above 0")
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


@dataclass(frozen=True)
class Row:
    """One method on one scene at one level."""

    method: str
    scene: int
    level: float

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.method}__scene_{self.scene + 1}__snr_{self.level:g}"

    def file(self, out: Path) -> Path:
        """Where it is kept."""
        return out / "rows" / f"{self.name}.json"

    def kept(self, out: Path) -> dict[str, Any] | None:
        """What was kept of it, if its method still has the same settings."""
        return kept_row(self.file(out), "settings", settings(METHODS[self.method]))


@dataclass
class Leg:
    """What is under way. beside: seconds that rows took besides their training, by method."""

    out: Path
    plan: Plan
    waiting: list[Row]
    started: float = field(default_factory=time.monotonic)
    stamp: int = field(default_factory=time.time_ns)
    beside: dict[str, float] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    done: int = 0

    def seconds(self) -> float:
        """Since the leg began."""
        return time.monotonic() - self.started

    def next_row(self) -> Row | None:
        """The first of the waiting rows that fits into the leg, taken from them."""
        for row in self.waiting:
            beside = self.beside.get(row.method, BESIDE)
            expected = METHODS[row.method].budget(self.plan.budget) + beside
            if self.plan.minutes is None or self.seconds() + expected <= 60 * self.plan.minutes:
                self.waiting.remove(row)
                return row
        return None

    def finish(self, row: Row, result: "Future[float]") -> None:
        """Note what became of a row."""
        try:
            seconds = result.result()
        except Exception as error:  # whatever ended one row, the others go on; it is named at the end
            self.failures.append((row.name, f"{type(error).__name__}: {error}"))
            log.warning("%s failed: %s", row.name, self.failures[-1][1])
            return
        self.done += 1
        self.beside[row.method] = max(self.beside.get(row.method, 0.0), seconds)
        log.info("%.0f s: %s done; %d rows left", self.seconds(), row.name, len(self.waiting))


def run(out: Path | str, plan: Plan = Plan()) -> dict[str, Any]:
    """Draw what is missing, work on the rows that are left, write tables and pictures of whatever rows there are.

    → tomograms.json with what is "left". BatchFailure, at the end, names the rows that failed; UserError for a folder
    of other scenes.
    """
    out = Path(out)
    writable_folder(out)
    device = choose_device(plan.device)
    scenes = plan.scenes_in(out)
    scenes.refuse_others()
    leg = Leg(out, plan, [row for row in plan.rows() if row.kept(out) is None])
    if leg.waiting and plan.minutes != 0:
        with _pool(plan.parallel) as pool:
            _draw_scenes(pool, scenes, leg)
            for _ in _work(pool, leg):
                _note(leg, device)
                tables(out, plan)
    document = tables(out, plan)
    draw(out, document)
    if leg.failures:
        raise BatchFailure(leg.failures, leg.done)
    return document


def tables(out: Path, plan: Plan) -> dict[str, Any]:
    """Write the tables of whatever rows there are; → the document."""
    kept = {row: row.kept(out) for row in plan.rows()}
    rows: list[dict[str, Any]] = [{"method": row.method, "scene": row.scene, "level": row.level, **found}
                                  for row, found in kept.items() if found is not None]
    legs = legs_noted(out)
    took: dict[str, Any] = {"legs": len(legs), "rows": len(rows),
                            "parallel": max((leg["parallel"] for leg in legs), default=0)}
    for kind in ("cuda", "cpu"):
        took[f"{kind}_seconds"] = sum(leg["seconds"] for leg in legs if leg["device"] == kind)
    machines = dict.fromkeys(str(row["machine"]) for row in rows) or [machine()]
    heading = {
        "deice": __version__, "machine": "; ".join(machines),
        "size": list(plan.size), "scenes": plan.scenes, "levels": list(plan.levels),
        "budgets": sorted({row["budget"] for row in rows} or {plan.budget}), "seed": plan.seed, "took": took,
        "left": [row.name for row, found in kept.items() if found is None],
    }
    return write_all(out, rows, heading)


def do_row(out: Path, row: Row, plan: Plan) -> float:
    """Work on one row and keep it; → seconds that it took besides the training it was allowed."""
    begun = time.monotonic()
    scene = plan.scenes_in(out).open(row.scene, row.level)
    found, answer = work(row.method, scene, plan.budget, choose_device(plan.device), plan.seed)
    save_slices(out / "slices" / f"{row.name}.npz", answer)
    write_json(row.file(out), found)
    return time.monotonic() - begun - METHODS[row.method].budget(plan.budget)


def _pool(parallel: int) -> Executor:
    """Processes with their share of the cores; one row at a time needs none of its own."""
    if parallel == 1:
        return ThreadPoolExecutor(1)
    cores = max(1, (os.cpu_count() or 1) // parallel)
    return ProcessPoolExecutor(parallel, get_context("spawn"), torch.set_num_threads, (cores,))


def _draw_scenes(pool: Executor, scenes: Scenes, leg: Leg) -> None:
    missing = scenes.missing()
    for drawn in [pool.submit(scenes.draw, *one) for one in missing]:
        drawn.result()
    if missing:
        log.info("%.0f s: %d tomograms drawn", leg.seconds(), len(missing))


def _work(pool: Executor, leg: Leg) -> Iterator[Row]:
    """Work on the waiting rows; yields each that has ended."""
    running: dict[Future[float], Row] = {}
    while True:
        while len(running) < leg.plan.parallel and (row := leg.next_row()) is not None:
            running[pool.submit(do_row, leg.out, row, leg.plan)] = row
        if not running:
            return
        for ended in wait(running, return_when=FIRST_COMPLETED).done:
            row = running.pop(ended)
            leg.finish(row, ended)
            yield row


def _note(leg: Leg, device: torch.device) -> None:
    """Keep how long this leg has lasted, so that a leg that is killed counts too."""
    note_leg(leg.out, leg.stamp, leg.seconds(), parallel=leg.plan.parallel, rows=leg.done, device=device.type)
