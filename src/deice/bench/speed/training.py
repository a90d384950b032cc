"""Training at scale: from files larger than the memory beside a few in memory, and on several GPUs beside one.

The files are written here, random float32 halves. A worker is a process, or a torchrun of several, that trains as
`deice train` does and states windows a second; workers start up at the same time and train one after the other.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from deice.bench.speed.answer import Answer
from deice.bench.speed.disk import BLOCK, forget, in_threads, random_numbers, refuse_little_room, sync
from deice.io import write

log = logging.getLogger(__name__)

MEMORY, COLD = "1 GPU, a small set in memory", "1 GPU, files out of the cache"
HEADER, HALVES = 1024, ("EVN", "ODD")
AIMS = {MEMORY: 0.95, "8 GPUs, a batch for each": 7.0}
PAUSE = 0.1  # seconds between two looks at whether files have appeared


@dataclass(frozen=True)
class Measured:
    """What is measured: gigabytes of files of `shape`, or what `writing` seconds suffice for; `gpus` to train on, with
    `batch` windows for each; `seconds` of each training after `warm` more; `cap`: bytes of each GPU.  patience: seconds
    that a worker may take to end, from the end of the one before.
    """

    gigabytes: float
    shape: tuple[int, int]
    gpus: tuple[int, ...] = (1, 2, 4, 8)
    batch: int = 64
    writing: float = 75.0
    seconds: float = 8.0
    warm: float = 3.0
    cap: int = 8_000_000_000
    patience: float = 75.0


@dataclass(frozen=True)
class Lesson:
    """One training of a worker: from `files`, or from a small set in memory; `batch` windows a step in all."""

    name: str
    files: str | None
    batch: int


SIZES = {"full": Measured(80.0, (7676, 7420), seconds=7.0, warm=2.5),
         "small": Measured(0.02, (300, 320), gpus=(1, 2), batch=2, seconds=2.0, warm=0.5)}


def row(folder: Path, scale: str, device: str) -> Answer:
    """The row of a table: SIZES of the scale, on as many GPUs as there are; the files are removed."""
    asked, there = SIZES[scale], torch.cuda.device_count()
    if there:
        asked = replace(asked, gpus=tuple(gpus for gpus in asked.gpus if gpus <= there))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return measure(folder, device, asked)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(folder: Path, device: str, asked: Measured) -> Answer:
    """Windows a second of each training; `folder`, in which the files lie, is the caller's to remove."""
    answer = Answer(COLD)
    several = [_worker(folder, device, asked, gpus, _lessons(folder, asked, gpus), "ready") for gpus in asked.gpus]
    cold = _worker(folder, device, asked, 1, [Lesson(MEMORY, None, asked.batch),
                                              Lesson(COLD, str(folder / "halves"), asked.batch)], "cold")
    begun = time.perf_counter()
    with ThreadPoolExecutor(1) as background:
        try:
            paths = written(folder / "halves", asked)
            answer.facts |= asdict(asked) | {"gigabytes": sum(path.stat().st_size for path in paths) / 1e9,
                                             "files": len(paths), "writing_s": time.perf_counter() - begun}
            on_disk = background.submit(in_threads, sync, paths, os.cpu_count() or 1)
            (folder / "ready").touch()
            for worker in several:
                _wait(worker, answer, asked.patience)
            on_disk.result()
            forget(paths)
            (folder / "cold").touch()
            _wait(cold, answer, asked.patience)
        finally:
            for process, _ in (*several, cold):
                _end(process)
    return _compared(answer, asked)


def written(folder: Path, asked: Measured) -> list[Path]:
    """The halves of as many scenes as the gigabytes ask for and the time allows: random numbers, other ones in each."""
    folder.mkdir()
    values = asked.shape[0] * asked.shape[1]
    scenes = max(2, round(asked.gigabytes * 1e9 / (2 * 4 * values)))
    refuse_little_room(folder, 2 * 4 * values * scenes)
    latest = time.perf_counter() + asked.writing
    template = folder / "m0000_EVN.mrc"
    write(template, np.random.default_rng(0).standard_normal(asked.shape, np.float32))
    header = template.read_bytes()[:HEADER]

    def scene(number: int) -> list[Path]:
        if number > 1 and time.perf_counter() > latest:
            return []
        paths = [folder / f"m{number:04d}_{half}.mrc" for half in HALVES]
        for half, path in enumerate(paths):
            generator = np.random.default_rng([number, half])
            with path.open("wb") as file:
                file.write(header)
                for begin in range(0, values, BLOCK):
                    random_numbers(generator, min(BLOCK, values - begin), np.dtype(np.float32)).tofile(file)
        return paths

    return [path for paths in in_threads(scene, range(scenes), min(scenes, os.cpu_count() or 1)) for path in paths]


def _lessons(folder: Path, asked: Measured, gpus: int) -> list[Lesson]:
    files = str(folder / "halves")
    if gpus == 1:
        return [Lesson(_of(1, "a batch for each"), files, asked.batch)]
    return [Lesson(_of(gpus, "a batch for each"), files, gpus * asked.batch),
            Lesson(_of(gpus, "a batch for all"), files, asked.batch)]


def _of(gpus: int, how: str) -> str:
    return f"{gpus} GPU{'s' * (gpus > 1)}, {how}"


def _worker(folder: Path, device: str, asked: Measured, gpus: int, lessons: Sequence[Lesson], gate: str
            ) -> tuple[subprocess.Popen, Path]:
    """A worker on its way, which waits for the file `gate` to appear, and the file that will hold its results."""
    name = f"{gate}_{gpus}"
    job = {"lessons": [asdict(lesson) for lesson in lessons], "device": device, "asked": asdict(asked),
           "gate": str(folder / gate), "turn": str(folder / "turn"), "out": str(folder / f"{name}.json")}
    (folder / f"{name}.job").write_text(json.dumps(job))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(gpus)] if gpus > 1 else []
    command = [sys.executable, *launcher, "-m", "deice.bench.speed.lessons", str(folder / f"{name}.job")]
    with (folder / f"{name}.log").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    return process, folder / f"{name}.json"


def _wait(worker: tuple[subprocess.Popen, Path], answer: Answer, patience: float) -> None:
    """Add what a worker found to `answer`; one that fails or is too slow is noted there, and ended."""
    process, path = worker
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        _end(process)
    if path.exists():
        answer.lines |= json.loads(path.read_text())
        return
    said = path.with_suffix(".log").read_text().strip()
    how = f"exit code {process.returncode}"
    log.warning("%s: %s: %s", path.stem, how, said)
    answer.notes.append(f"{path.stem} has no result: {how}: {said.splitlines()[-1] if said else 'nothing said'}")


def _end(process: subprocess.Popen) -> None:
    """End a worker: torchrun ends its processes when it is asked to, and leaves them behind when it is killed."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    process.kill()


def _compared(answer: Answer, asked: Measured) -> Answer:
    """With the ratios: of the files to the memory, and of several GPUs to one."""
    lines, one = answer.lines, answer.lines.get(_of(1, "a batch for each"))
    if COLD not in lines:
        answer.failure = "; ".join(answer.notes)
        return answer
    answer.ratios[MEMORY] = lines[COLD]["windows_s"] / lines[MEMORY]["windows_s"]
    for name in (_of(gpus, how) for gpus in asked.gpus[1:] for how in ("a batch for each", "a batch for all")):
        if one and name in lines:
            answer.ratios[name] = lines[name]["windows_s"] / one["windows_s"]
    answer.facts["anonymous_memory_beyond_the_small_set"] = lines[COLD]["anonymous"] - lines[MEMORY]["anonymous"]
    for line in lines.values():
        line["ms"] = 1e3 * line["batch"] / line["windows_s"]
    return answer
