"""From files to denoised files: a batch through the public road, beside merely copying the files, and beside Topaz."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from deice.batch import denoise_files, finish
from deice.bench.speed.answer import Answer, Line
from deice.bench.speed.disk import copy_files, in_turn, line_of, make_files, on_cores
from deice.checkpoint import save_model
from deice.conditions import Conditions
from deice.errors import UserError
from deice.estimators import choose_estimator
from deice.image import Geometry
from deice.io import write
from deice.lanes import Clock
from deice.nets import Net
from deice.recipe import Recipe, completed
from deice.scenes import group

HEADER = 1024  # bytes of an MRC file before its pixels
OURS, COMMAND, COPY, TOPAZ = "ours", "ours, deice denoise as a command", "copying the files", "Topaz"
TOPAZ_DEFAULTS, ALIGNED_TOPAZ = "Topaz 0.3.20, its defaults", "Topaz 0.3.20, aligned pad-160"
COPIED_BY = 8  # threads
VOXEL = 0.83  # Å
SHIFT = 40.0  # the pictures' mean: no mean of 0 makes a statistic easy
ALIGNED = ("--patch-size", "1024", "--patch-padding", "160")  # tiles begin on its pooling grid of 32 and see enough
TOPAZ_COMMAND = ("import sys; from topaz.commands import denoise; "
                 "denoise.main(denoise.add_arguments().parse_args(sys.argv[1:]))")


@dataclass(frozen=True)
class Batch:
    """`count` micrographs (y, x) float32 in `folder`, and where the answers go."""

    folder: Path
    shape: tuple[int, int]
    count: int

    @cached_property
    def paths(self) -> list[Path]:
        """The files, made when they are first asked for."""
        def first(path: Path) -> None:
            numbers = np.random.default_rng(0).standard_normal(self.shape, np.float32)
            write(path, numbers + np.float32(SHIFT), Geometry(voxel_size=(VOXEL, VOXEL, VOXEL)))

        names = [f"micrograph_{number:03d}.mrc" for number in range(self.count)]
        return make_files(self.folder / "pictures", names, first, HEADER, np.dtype(np.float32))

    @property
    def megabytes(self) -> float:
        """Of a file."""
        return self.paths[0].stat().st_size / 1e6

    def emptied(self, name: str) -> Path:
        """An empty folder for answers."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return self.folder / name


def model_file(folder: Path, net: Net) -> Path:
    """A model of `net` on two axes with random weights: its speed is that of a trained one."""
    path = folder / f"{type(net).__name__.lower()}.safetensors"
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(path, net.build(2).state_dict(), completed(Recipe(net=net), 2), 2, {"pixel_size": None})
    return path


def from_memory(batch: Batch, net: Net, device: torch.device, topaz: Line | None) -> Answer:
    """Seconds a file of a folder in memory: ours within a process, as a command with its start, and Topaz's."""
    model = model_file(batch.folder, net)
    _ours(batch, batch.paths[:1], model, device)  # warms up, and the pages of the model
    answer = Answer(OURS)
    clock = Clock()
    answer.lines[OURS] = _line(_ours(batch, batch.paths, model, device, clock), batch)
    answer.notes.append(f"of the time: {clock.shares()}")
    seconds, within = _command(batch, model, device), answer.lines[OURS]["ms"] * batch.count / 1e3
    answer.lines[COMMAND] = _line(seconds, batch) | {"start_up_s": max(0.0, seconds - within)}
    answer.lines[COPY] = _line(_copy(batch), batch)
    if topaz is None:
        answer.notes.append("no Topaz here (DEICE_TOPAZ_PYTHON or --topaz)")
    else:
        answer.lines[TOPAZ] = topaz
        answer.ratios[TOPAZ_DEFAULTS] = topaz["ms"] / answer.lines[OURS]["ms"]
    answer.ratios[COPY] = answer.lines[COPY]["ms"] / answer.lines[OURS]["ms"]
    return answer


def from_disk_cold(batch: Batch, net: Net, device: torch.device) -> Answer:
    """Seconds a file on a disk, with cold reads and every answer on the disk at the end, beside copying the files."""
    model = model_file(batch.folder, net)
    _ours(batch, batch.paths[:1], model, device)
    answer = Answer(OURS)
    shares: list[str] = []

    def timed_ours() -> None:
        clock = Clock()
        _ours(batch, batch.paths, model, device, clock)
        shares.append(clock.shares())

    measured = in_turn({COPY: lambda: _copy(batch), OURS: timed_ours}, batch.paths,
                       lambda: [batch.emptied(name) for name in ("copies", "denoised")])  # fmt: skip
    ours = measured[OURS]
    answer.notes.append(f"of the time: {shares[-1]}")
    for name, found in measured.items():
        answer.lines[name] = _line(found["seconds"], batch) | line_of(found, batch.count)
    if "fetched" not in ours:
        answer.notes.append("the kernel does not say how much was read from the disk")
    elif ours["fetched"] < 0.9:
        answer.notes.append(f"the kernel kept files in memory: only {ours['fetched']:.0%} came from the disk")
    answer.ratios[COPY] = answer.lines[COPY]["ms"] / answer.lines[OURS]["ms"]
    return answer


def on_two_cores(batch: Batch, net: Net, topaz: Path | None) -> Answer:
    """One file by the command on two cores, start included; Topaz's command with tiles that fit its net."""
    answer, cpu = Answer(OURS), torch.device("cpu")
    model = model_file(batch.folder, net)
    with on_cores(2):
        answer.lines[OURS] = _line(_command(batch, model, cpu), batch)
        if topaz is None:
            answer.notes.append("no Topaz here (DEICE_TOPAZ_PYTHON or --topaz)")
            return answer
        answer.lines[TOPAZ] = _line(_topaz_seconds(topaz, batch, batch.paths, cpu, ALIGNED), batch)
    answer.ratios[ALIGNED_TOPAZ] = answer.lines[TOPAZ]["ms"] / answer.lines[OURS]["ms"]
    return answer


def topaz_line(python: Path, batch: Batch, device: torch.device, files: int) -> Line:
    """Milliseconds a file of Topaz's command with its defaults: of `files` files less one, so without its start."""
    files = min(files, batch.count)
    once = _topaz_seconds(python, batch, batch.paths[:1], device)
    several = _topaz_seconds(python, batch, batch.paths[:files], device) if files > 1 else once
    a_file = (several - once) / (files - 1) if several > once else several / files  # tiny pictures: all is start
    return {"ms": 1e3 * a_file, "start_up_s": once - a_file, "mb_s": 2 * batch.megabytes / a_file, "files": files}


def _ours(
    batch: Batch, paths: Sequence[Path], model: Path, device: torch.device, clock: Clock | None = None
) -> float:
    """Seconds of a batch by the function that `deice denoise` calls; `clock` takes those of each stage."""
    out, begun = batch.emptied("denoised"), time.perf_counter()
    finish(list(denoise_files(group(paths), out, choose_estimator(str(model), {}), Conditions(device), clock=clock)))
    seconds = time.perf_counter() - begun
    if len(list(out.glob("*.mrc"))) != len(paths):
        raise UserError(f"{out}: {len(list(out.glob('*.mrc')))} answers for {len(paths)} files; expected one each")
    return seconds


def _command(batch: Batch, model: Path, device: torch.device) -> float:
    """Seconds of the whole command, from its start to its end."""
    out = batch.emptied("denoised")
    return _run([sys.executable, "-m", "deice", "denoise", str(batch.paths[0].parent), "-m", str(model), "-o",
                 str(out), "--device", device.type], dict(os.environ))


def _copy(batch: Batch) -> float:
    out, begun = batch.emptied("copies"), time.perf_counter()
    copy_files(batch.paths, out, COPIED_BY)
    return time.perf_counter() - begun


def _topaz_seconds(
    python: Path, batch: Batch, paths: Sequence[Path], device: torch.device, options: Sequence[str] = ()
) -> float:
    number = str(device.index or 0) if device.type == "cuda" else "-1"
    return _run([str(python), "-c", TOPAZ_COMMAND, "--device", number, *options, "-o",
                 str(batch.emptied("by_topaz")), *map(str, paths)], dict(os.environ))


def _run(command: Sequence[str], environment: dict[str, str]) -> float:
    """Seconds of a command; UserError with its last line where it fails."""
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["nothing said"]
        raise UserError(f"{' '.join(command[:5])} failed: {said[-1].strip()}; expected it to run here")
    return time.perf_counter() - begun


def _line(seconds: float, batch: Batch) -> Line:
    """Of a whole batch: milliseconds a file, and megabytes read and written a second."""
    return {"ms": 1e3 * seconds / batch.count, "mb_s": 2 * batch.megabytes * batch.count / seconds,
            "files": batch.count}
