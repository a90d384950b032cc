"""Legs: rows one after the other, each kept as DIR/rows/NAME.json when it is done, until the minutes are spent."""

import logging
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deice.bench.legs import kept_row, legs_noted, note_leg
from deice.bench.speed.rows import ROWS, Plan, Row, Site
from deice.bench.speed.tables import write_all
from deice.bench.suite import write_json
from deice.devices import choose_device, machine
from deice.errors import BatchFailure
from deice.io import writable_folder
from deice.version import __version__

OPERATIONS = "cnn", "unet", "unet3d"  # how the names of their rows begin
log = logging.getLogger(__name__)


def run(out: Path | str, plan: Plan) -> dict[str, Any]:
    """Work on the rows that are left, write the tables of whatever rows there are; → the document with what is "left".

    A row whose result is wrong states its error and no speed. BatchFailure, at the end, names it and every row that
    failed otherwise.
    """
    out = Path(out)
    writable_folder(out)
    began, failures, done = time.time_ns(), [], 0
    waiting = [row for row in plan.chosen() if kept(out, row, plan) is None]
    with _site(out, plan) as site:
        for row in waiting:
            spent = (time.time_ns() - began) / 1e9
            if plan.minutes is not None and spent + row.seconds > 60 * plan.minutes:
                continue
            failure = _do_row(row, site)
            failures += [(row.name, failure)] if failure else []
            done += not failure
            note_leg(out, began, (time.time_ns() - began) / 1e9, rows=done)
            tables(out, plan)
    document = tables(out, plan)
    if failures:
        raise BatchFailure(failures, done)
    return document


def kept(out: Path, row: Row, plan: Plan) -> dict[str, Any] | None:
    """The row that was kept, if it was measured as it would be now; a wrong result is looked at again."""
    found = kept_row(_file(out, row), "measured_as", identity(row, plan))
    return None if found is None or found["failure"] else found


def identity(row: Row, plan: Plan) -> dict[str, Any]:
    """What a row depends on besides the machine."""
    about: dict[str, Any] = {"scale": plan.scale, "device": choose_device(plan.device).type, "deice": __version__}
    kind = row.name.partition("_")[0]
    if kind == "files":
        about |= {"count": plan.count, "size": plan.size}
    return about | ({"compiled": plan.compiled} if kind in OPERATIONS else {})


def tables(out: Path, plan: Plan) -> dict[str, Any]:
    """Write the tables of the rows there are; → the document."""
    found = ((row, kept_row(_file(out, row), "measured_as", identity(row, plan))) for row in ROWS)
    rows = {row: answer for row, answer in found if answer is not None}
    heading = {"deice": __version__, "machine": "; ".join(dict.fromkeys(one["machine"] for one in rows.values()))
               or machine(), "scale": plan.scale, "legs": len(legs_noted(out)),
               "left": [row.name for row in plan.chosen() if kept(out, row, plan) is None]}
    return write_all(out, plan.door, rows, heading)


def _do_row(row: Row, site: Site) -> str:
    """Work on a row and keep it; why it failed, empty if it did not."""
    begun = time.perf_counter()
    log.info("%s: %s", row.name, row.title)
    try:
        answer = row.work(site)
    except Exception as error:  # whatever ended one row, the others go on; it is named at the end
        log.debug("%s", row.name, exc_info=True)
        return f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - begun
    about = {"row": row.name, "measured_as": identity(row, site.plan), "machine": machine(), "seconds": seconds}
    write_json(_file(site.out, row), about | answer.kept())
    log.info("%s: %s, %.0f s", row.name, answer.failure or "done", seconds)
    return answer.failure


@contextmanager
def _site(out: Path, plan: Plan) -> Generator[Site]:
    """Where a leg works; its files are removed at the end."""
    site = Site(out, plan)
    try:
        yield site
    finally:
        for in_memory in (True, False):
            shutil.rmtree(site.folder(in_memory), ignore_errors=True)


def _file(out: Path, row: Row) -> Path:
    return out / "rows" / f"{row.name}.json"
