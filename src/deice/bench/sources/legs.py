"""Legs: rows are worked on one after the other or several at a time until the leg's minutes are spent.

A row is kept as DIR/rows/NAME.json when it is done, and never computed again; one that was killed begins anew.
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deice.bench.legs import kept_row, legs_noted, note_leg
from deice.bench.sources.data import SCALES, Pictures
from deice.bench.sources.rows import ROWS, Row
from deice.bench.sources.tables import TABLES, write_all
from deice.bench.sources.work import identity, work
from deice.bench.suite import write_json
from deice.devices import choose_device, machine
from deice.errors import BatchFailure, RecipeFault
from deice.version import __version__

log = logging.getLogger(__name__)
LOOK_EVERY = 0.2  # seconds between looks at what runs
SAID = 400  # characters of a failed row's last words


@dataclass(frozen=True)
class Plan:
    """What is run. only: names of tables or of their beginnings (v29, v33_clean); none: all.

    minutes: of this leg: no row is begun that would not fit.  parallel: rows at a time, each a process of its own.
    workers: scenes that are drawn at a time.
    """

    only: tuple[str, ...] = ()
    minutes: float | None = None
    scale: str = "full"
    parallel: int = 1
    device: str = "auto"
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise RecipeFault(f"scale {self.scale!r} is unknown; expected one of {', '.join(SCALES)}")
        least = {"parallel": 1, "workers": 1, "seed": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise RecipeFault(f"{name} is {getattr(self, name)}; expected {low} or more")
        if self.minutes is not None and not self.minutes > 0:
            raise RecipeFault(f"minutes is {self.minutes:g}; expected a number above 0")
        for name in self.only:
            if not any(table.name.startswith(name) for table in TABLES):
                raise RecipeFault(f"table {name!r} is unknown; expected among "
                                  f"{', '.join(table.name for table in TABLES)}, or how they begin, as v33")


@dataclass
class Leg:
    """What is under way: rows that wait, processes that run, how long rows took against what was expected."""

    out: Path
    plan: Plan
    waiting: list[Row]
    started: float = field(default_factory=time.monotonic)
    stamp: int = field(default_factory=time.time_ns)
    running: dict[str, tuple[Row, subprocess.Popen, float]] = field(default_factory=dict)
    ratios: list[float] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    done: int = 0

    def seconds(self) -> float:
        """Since the leg began."""
        return time.monotonic() - self.started

    def expected(self, row: Row) -> float:
        """How long a row will take here: as the rows before it, or, before any, as if all shared one device."""
        latest = self.ratios[-8:]
        pace = sum(latest) / len(latest) if latest else float(self.plan.parallel)
        return pace * row.seconds(SCALES[self.plan.scale])

    def next_row(self) -> Row | None:
        """The next row that may begin now: it fits into the leg, and one that states a time has all for itself."""
        if any(row.alone for row, _, _ in self.running.values()):
            return None
        for row in self.waiting:
            if row.alone and self.running:
                continue
            if self.plan.minutes is None or self.seconds() + self.expected(row) <= 60 * self.plan.minutes:
                return row
        return None

    def finish(self, row: Row, seconds: float) -> None:
        """Note that a row is done; one that was alone says nothing of rows that share a device."""
        if self.plan.parallel == 1 or not row.alone:
            self.ratios.append(seconds / row.seconds(SCALES[self.plan.scale]))
        self.done += 1


def run(out: Path | str, plan: Plan = Plan()) -> dict[str, Any]:
    """Draw what is missing, work on the rows that are left, write the tables; → sources.json with what is "left".

    BatchFailure, at the end, names the rows that failed; UserError for a folder of other pictures.
    """
    out = Path(out)
    choose_device(plan.device)
    pictures = pictures_in(out, plan)
    leg = Leg(out, plan, [])
    pictures.build(plan.workers)
    rows = chosen(plan)
    leg.waiting = [row for row in rows if finished(out, row, pictures) is None]
    leg.waiting.sort(key=lambda row: (not row.alone, -row.seconds(pictures.scale)))
    try:
        for row, seconds in _work(leg, pictures):
            leg.finish(row, seconds)
            _note(out, leg)
            log.info("%s done in %.0f s; %d rows left", row.name, seconds, len(leg.waiting) + len(leg.running))
    finally:
        _note(out, leg)
        for _, process, _ in leg.running.values():
            process.terminate()
    document = tables(out, plan)
    if leg.failures:
        raise BatchFailure(leg.failures, leg.done)
    return document


def pictures_in(out: Path, plan: Plan) -> Pictures:
    """The pictures of a plan in the folder of its tables."""
    return Pictures(out / "data", SCALES[plan.scale], plan.seed)


def chosen(plan: Plan) -> list[Row]:
    """The rows of the tables that were asked for."""
    wanted = plan.only or ("",)
    return [row for row in ROWS if any(table.startswith(wanted) for table in row.tables)]


def finished(out: Path, row: Row, pictures: Pictures) -> dict[str, Any] | None:
    """A row that was kept, if it is the row that would be computed now."""
    return kept_row(row_file(out, row), "identity", identity(row, pictures))


def tables(out: Path, plan: Plan) -> dict[str, Any]:
    """Write the tables of whatever rows there are, all of them, and say what is left of those asked for."""
    pictures = pictures_in(out, plan)
    kept = {row.name: finished(out, row, pictures) for row in ROWS}
    rows = {name: row for name, row in kept.items() if row is not None}
    legs = legs_noted(out)
    took = {"rows": len(rows), "row_seconds": sum(row["seconds"] for row in rows.values()), "legs": len(legs),
            "leg_seconds": sum(leg["seconds"] for leg in legs), "parallel": max(leg["parallel"] for leg in legs)}
    machines = dict.fromkeys(row["machine"] for row in rows.values()) or {machine(): None}
    heading = {"deice": __version__, "machine": "; ".join(machines), "scale": plan.scale, "rows": len(ROWS),
               "pictures": pictures.described(), "facts": pictures.facts(), "took": took,
               "left": [row.name for row in chosen(plan) if row.name not in rows]}
    return write_all(out, rows, heading)


def do_row(out: Path, name: str, plan: Plan) -> None:
    """Work on one row and keep it."""
    row = next(row for row in ROWS if row.name == name)
    answer = work(row, pictures_in(out, plan), out / "runs", choose_device(plan.device))
    write_json(row_file(out, row), answer)


def row_file(out: Path, row: Row) -> Path:
    """Where a row is kept."""
    return out / "rows" / f"{row.name}.json"


def _work(leg: Leg, pictures: Pictures) -> Iterator[tuple[Row, float]]:
    """Work on the waiting rows; yields each that is done with its seconds."""
    while True:
        row = leg.next_row() if len(leg.running) < leg.plan.parallel else None
        if row is None and not leg.running:
            return
        if row is not None:
            leg.waiting.remove(row)
        if row is not None and leg.plan.parallel == 1:
            begun = time.monotonic()
            do_row(leg.out, row.name, leg.plan)
            yield row, time.monotonic() - begun
        elif row is not None:
            leg.running[row.name] = (row, _start(leg, row), time.monotonic())
        else:
            yield from _ended(leg)
            time.sleep(LOOK_EVERY)


def _start(leg: Leg, row: Row) -> subprocess.Popen:
    """A row in a process of its own, with its share of the cores; what it says goes into rows/NAME.log."""
    plan, threads = leg.plan, max(1, (os.cpu_count() or 1) // leg.plan.parallel)
    command = [sys.executable, "-m", "deice.bench.sources", "--out", str(leg.out), "--row", row.name,
               "--scale", plan.scale, "--device", plan.device, "--seed", str(plan.seed)]
    said = row_file(leg.out, row).with_suffix(".log")
    said.parent.mkdir(parents=True, exist_ok=True)
    with said.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, "OMP_NUM_THREADS": str(threads)})


def _ended(leg: Leg) -> Iterator[tuple[Row, float]]:
    """The rows whose process has ended; one that failed is noted with its last words."""
    for name, (row, process, begun) in list(leg.running.items()):
        code = process.poll()
        if code is None:
            continue
        del leg.running[name]
        if code == 0 and row_file(leg.out, row).exists():
            yield row, time.monotonic() - begun
        else:
            said = row_file(leg.out, row).with_suffix(".log")
            words = " ".join(said.read_text(errors="replace").split())[-SAID:]
            leg.failures.append((name, f"exit code {code}, {said}: …{words}"))
            log.warning("%s failed: %s", name, leg.failures[-1][1])


def _note(out: Path, leg: Leg) -> None:
    """Keep how long this leg has lasted, so that a leg that is killed counts too."""
    device = choose_device(leg.plan.device)
    note_leg(out, leg.stamp, leg.seconds(), parallel=leg.plan.parallel, rows=leg.done, device=device.type)
