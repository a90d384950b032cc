"""Legs: rows are worked on several at a time until the leg's minutes are spent; each is kept when it is done."""

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

from deice.bench.legs import legs_noted, note_leg
from deice.bench.rivals.drawings import draw
from deice.bench.rivals.rows import SEGMENTS, Plan, Row, left
from deice.bench.rivals.scenes import Scenes
from deice.bench.rivals.segmenters import read_answer, save_answer, segmented
from deice.bench.rivals.tables import write_all
from deice.bench.rivals.work import save_slices, work
from deice.bench.suite import write_json
from deice.devices import choose_device, machine
from deice.errors import BatchFailure
from deice.io import writable_folder
from deice.version import __version__

log = logging.getLogger(__name__)
BESIDE = 15.0  # seconds that a row takes besides its training, before any row has told
TABLES_EVERY = 20.0  # seconds between tables of the rows there are


@dataclass
class Leg:
    """What is under way. beside: seconds that rows took besides their training, by method and what is done."""

    out: Path
    plan: Plan
    waiting: list[Row]
    started: float = field(default_factory=time.monotonic)
    stamp: int = field(default_factory=time.time_ns)
    beside: dict[tuple[str, str], float] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    done: int = 0

    def seconds(self) -> float:
        """Since the leg began."""
        return time.monotonic() - self.started

    def next_row(self) -> Row | None:
        """The first of the waiting rows that has what it needs and fits into the leg, taken from them."""
        for row in self.waiting:
            expected = row.seconds(self.plan) + self.beside.get((row.method, row.of), BESIDE)
            fits = self.plan.minutes is None or self.seconds() + expected <= 60 * self.plan.minutes
            if fits and self._ready(row):
                self.waiting.remove(row)
                return row
        return None

    def _ready(self, row: Row) -> bool:
        """Whether the answers are there that a segmentation needs, and will not be made anew."""
        return all(each not in self.waiting and each.answer(self.out).exists() for each in row.answers(self.plan))

    def finish(self, row: Row, result: "Future[float]") -> None:
        """Note what became of a row."""
        try:
            seconds = result.result()
        except Exception as error:  # whatever ended one row, the others go on; it is named at the end
            self.failures.append((f"{row.of}/{row.name}", f"{type(error).__name__}: {error}"))
            log.warning("%s failed: %s", *self.failures[-1])
            return
        self.done += 1
        self.beside[row.method, row.of] = max(self.beside.get((row.method, row.of), 0.0), seconds)
        log.info("%.0f s: %s/%s done; %d left", self.seconds(), row.of, row.name, len(self.waiting))


def run(out: Path | str, plan: Plan) -> dict[str, Any]:
    """Draw what is missing, work on the rows that are left, write tables and pictures of whatever rows there are.

    → tomograms.json with what is "left". BatchFailure, at the end, names the rows that failed; UserError for a folder
    of other scenes.
    """
    out = Path(out)
    writable_folder(out)
    device = choose_device(plan.device)
    scenes = plan.scenes_in(out)
    scenes.refuse_others()
    leg = Leg(out, plan, left(out, plan))
    if leg.waiting and plan.minutes != 0:
        written = time.monotonic()
        with _pool(plan) as pool:
            _draw_scenes(pool, scenes, leg)
            for _ in _work(pool, leg):
                note_leg(leg.out, leg.stamp, leg.seconds(), parallel=plan.parallel, rows=leg.done, device=device.type,
                         gpus=_gpus(plan))
                if time.monotonic() - written > TABLES_EVERY:
                    tables(out, plan)
                    written = time.monotonic()
    document = tables(out, plan)
    draw(out, document)
    if leg.failures:
        raise BatchFailure(leg.failures, leg.done)
    return document


def tables(out: Path, plan: Plan) -> dict[str, Any]:
    """Write the tables of whatever rows there are; → the document."""
    kept = {row: row.kept(out) for row in (*plan.rows(), *plan.segmentations())}
    rows = [_with_segments(row, found, kept) for row, found in kept.items()
            if found is not None and row.of != SEGMENTS]
    legs = legs_noted(out)
    took: dict[str, Any] = {"legs": len(legs), "rows": len(rows),
                            "parallel": max((leg["parallel"] for leg in legs), default=0),
                            "gpus": max((leg.get("gpus", 1) for leg in legs), default=0)}
    for kind in ("cuda", "cpu"):
        took[f"{kind}_seconds"] = sum(leg["seconds"] * max(1, leg.get("gpus", 1)) for leg in legs
                                      if leg["device"] == kind)
    machines = dict.fromkeys(str(row["machine"]) for row in rows) or [machine()]
    heading = {
        "deice": __version__, "machine": "; ".join(machines),
        "size": list(plan.size), "scenes": plan.scenes, "levels": list(plan.levels),
        "budgets": sorted({row["budget"] for row in rows} or {plan.budget}), "seed": plan.seed, "took": took,
        "left": [row.name if row.of != SEGMENTS else f"{row.of}/{row.name}"
                 for row, found in kept.items() if found is None],
    }
    return write_all(out, rows, heading)


def _with_segments(row: Row, found: dict[str, Any], kept: dict[Row, dict[str, Any] | None]) -> dict[str, Any]:
    """What was kept of a row, with the figures of the net that segmented its answer, where there are any."""
    segments = kept.get(Row(row.method, row.scene, row.level, SEGMENTS)) or {"figures": {}, "threshold": None}
    none = {"net_dice": None, "net_surface_dice": None}
    return {"method": row.method, "scene": row.scene, "level": row.level, **found,
            "figures": found["figures"] | none | segments["figures"], "net_threshold": segments["threshold"]}


def do_row(out: Path, row: Row, plan: Plan) -> float:
    """Work on one row and keep it; → seconds that it took besides the training it was allowed."""
    begun, device = time.monotonic(), choose_device(plan.device)
    scenes = plan.scenes_in(out)
    if row.of == SEGMENTS:
        labelled = [(read_answer(each.answer(out)), scenes.labels(each.scene)) for each in row.answers(plan)]
        found = segmented(labelled[0], labelled[1:], scenes.geometry, plan.segmenter, device, plan.seed)
    else:
        found, answer = work(row.method, scenes.open(row.scene, row.level), plan.budget, device, plan.seed)
        save_slices(out / "slices" / f"{row.name}.npz", answer)
        save_answer(row.answer(out), answer)
    write_json(row.file(out), {"settings": row.settings(), **found})
    return time.monotonic() - begun - row.seconds(plan)


def _gpus(plan: Plan) -> int:
    """Over how many GPUs the rows of a plan are spread."""
    if choose_device(plan.device).type == "cpu":
        return 0
    return torch.cuda.device_count() if plan.parallel > 1 and ":" not in plan.device else 1


def _pool(plan: Plan) -> Executor:
    """Processes with their share of the cores, spread over the GPUs; one row at a time needs none of its own."""
    if plan.parallel == 1:
        return ThreadPoolExecutor(1)
    context, cores = get_context("spawn"), max(1, (os.cpu_count() or 1) // plan.parallel)
    return ProcessPoolExecutor(plan.parallel, context, _begin, (cores, context.Value("i", 0), _gpus(plan)))


def _begin(cores: int, begun: Any, gpus: int) -> None:
    """A process of the pool takes its cores and, the i-th of them, GPU i modulo their number."""
    torch.set_num_threads(cores)
    with begun.get_lock():
        number, begun.value = begun.value, begun.value + 1
    if gpus > 1:
        torch.cuda.set_device(number % gpus)


def _draw_scenes(pool: Executor, scenes: Scenes, leg: Leg) -> None:
    missing = scenes.missing()
    for drawn in [pool.submit(_draw_scene, scenes, *one) for one in missing]:
        drawn.result()
    if missing:
        log.info("%.0f s: %d tomograms drawn", leg.seconds(), len(missing))


def _draw_scene(scenes: Scenes, index: int, level: float) -> None:
    """Draw one scene by one core: more of them wait for each other longer than they help."""
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        scenes.draw(index, level)
    finally:
        torch.set_num_threads(cores)


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
