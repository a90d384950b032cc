"""A worker of `deice.bench.speed.training`: trains what a file asks for, by itself or as a rank of torchrun."""

import fcntl
import json
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deice.bench.speed.disk import bytes_from_disk
from deice.bench.speed.training import PAUSE, Lesson, Measured
from deice.devices import anonymous_memory, memory_peak
from deice.ranks import Ranks, joined
from deice.recipe import from_table
from deice.runs import Step
from deice.training import run

SMALL = (4, 2, 1024, 1024)  # scenes, halves, y, x of the set in memory


def work(path: Path) -> None:
    """Train each lesson of the job in `path`, when no other worker does; rank 0 writes what was found."""
    job = json.loads(path.read_text())
    lessons, asked = [Lesson(**lesson) for lesson in job["lessons"]], Measured(**job["asked"])
    found = {}
    with joined(job["device"]) as ranks:
        while not Path(job["gate"]).exists():
            time.sleep(PAUSE)
        steps = begun(lessons[0], job["device"], asked)
        with _turn(Path(job["turn"]), ranks):
            for number, lesson in enumerate(lessons):
                steps = begun(lesson, job["device"], asked) if number else steps
                found[lesson.name] = taught(lesson, steps, asked, ranks)
    if ranks.first:
        Path(job["out"]).write_text(json.dumps(found))


@contextmanager
def _turn(path: Path, ranks: Ranks) -> Generator[None]:
    """One worker at a time."""
    with path.open("w") as lock:
        if ranks.first:
            fcntl.flock(lock, fcntl.LOCK_EX)
        ranks.of_first(0.0)
        yield
        ranks.of_first(0.0)


def begun(lesson: Lesson, device: str, asked: Measured) -> Generator[Step]:
    """The steps of a training of the default net that has no end; the first is done, so all is open."""
    recipe = from_table({
        "data": {"order": "window" if lesson.files else "random"},
        "training": {"batch": lesson.batch, "steps": 1 << 40, "validate_every": 1 << 40, "validation_batches": 1,
                     "schedule": "constant", "warmup": 0.0},
    })
    inputs = [lesson.files] if lesson.files else list(np.random.default_rng(0).standard_normal(SMALL, np.float32))
    steps = run(recipe, inputs, None, device=device, max_memory=asked.cap)
    next(steps)
    return steps


def taught(lesson: Lesson, steps: Generator[Step], asked: Measured, ranks: Ranks) -> dict[str, Any]:
    """Windows a second over `asked.seconds`, memory at its most, bytes that came from the disk meanwhile."""
    began, marks = time.perf_counter(), []
    with _largest(anonymous_memory) as anonymous:
        for step in steps:
            if step.loss is None:  # it is looked at now and then, and that waits for the GPU
                continue
            passed = ranks.of_first(time.perf_counter() - began)
            if passed >= asked.warm:
                marks.append((passed, step.step, bytes_from_disk() or 0))
            if passed >= asked.warm + asked.seconds and len(marks) > 1:
                break
    (start, first, read), (stop, last, read_then) = marks[0], marks[-1]
    steps.close()
    peak = memory_peak(torch.device("cuda", torch.cuda.current_device())) if torch.cuda.is_available() else (0, 0)
    reserved, allocated = (ranks.largest(value) for value in peak)
    return {"windows_s": (last - first) * lesson.batch / (stop - start), "batch": lesson.batch, "gpus": ranks.world,
            "steps": last, "from_disk_mb_s": (read_then - read) / 1e6 / (stop - start), "loss": float(step.loss or 0),
            "anonymous": anonymous[0], "gpu_reserved": reserved, "gpu_allocated": allocated}


@contextmanager
def _largest(look: Any) -> Generator[list[int]]:
    """The largest answer of `look` while the block lasts, looked at twenty times a second."""
    found, over = [look()], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            found[0] = max(found[0], look())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


if __name__ == "__main__":
    work(Path(sys.argv[1]))
