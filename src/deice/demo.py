"""The whole road on a laptop's CPU: movies simulated, split, trained on, denoised, measured, reported.

The pictures that are judged show other proteins than those that were learnt from. Every stage is skipped where its
files are complete, so a demo that was stopped goes on.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deice.batch import denoise_files, finish
from deice.checkpoint import STATE, load_model
from deice.conditions import Conditions
from deice.judgement import measure
from deice.movies import Splitting, raise_failures, split_files
from deice.recipe import from_table
from deice.report import write_page
from deice.scenes import expand, group
from deice.training import run
from deice.worlds import World, exposures

RECIPE = {
    "scheme": {"name": "noise2noise"},
    "net": {"name": "unet", "size": 16, "depth": 4},
    "data": {"window": 128},
    "training": {"batch": 8, "lr": 2e-3, "average": 0.98},
}


@dataclass(frozen=True)
class Demo:
    """How large the demo is: pictures learnt from, unseen pictures judged, their size, and the training's length."""

    training: int = 12
    unseen: int = 4
    size: int = 768
    frames: int = 20
    coverage: float = 0.08
    minutes: float | None = 3.0
    steps: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Stage:
    """Where the road stands: `done` of `total` of the stage called `name`, and figures worth showing."""

    name: str
    done: float
    total: float
    figures: dict[str, float]


def road(out: Path, demo: Demo) -> Iterator[Stage]:
    """Walk the road in the folder `out`; the last stage leaves out/report.html."""
    learnt, unseen = out / "simulated" / "learnt", out / "simulated" / "unseen"
    yield from _simulate(learnt, demo, demo.training, proteins=1, seed=demo.seed)
    yield from _simulate(unseen, demo, demo.unseen, proteins=2, seed=demo.seed + 1)
    yield from _split(learnt, out / "training_halves")
    yield from _split(unseen, out / "halves")
    _copy(unseen / "truth", out / "truth")
    yield from _train(out / "training_halves", out / "run", demo)
    yield from _denoise(out)
    yield Stage("measuring", 0, 1, {})
    table = judge(out)
    yield Stage("measuring", 1, 1, {"psnr": table["methods"]["deice"]["psnr"]})
    write_page(out, out / "report.html")
    yield Stage("report", 1, 1, {})


def _simulate(folder: Path, demo: Demo, count: int, proteins: int, seed: int) -> Iterator[Stage]:
    name = f"simulating {folder.name} movies"
    if _pictures(folder) == count:
        yield Stage(name, count, count, {})
        return
    world = World(size=(demo.size, demo.size), frames=demo.frames, coverage=demo.coverage, proteins=proteins)
    for number, exposure in enumerate(exposures("movies", count, folder, seed, world), 1):
        yield Stage(name, number, count, {"signal/noise": exposure.signal_to_noise})


def _pictures(folder: Path) -> int:
    """How many pictures of a simulated world are complete."""
    world = folder / "world.json"
    return len(json.loads(world.read_text())["pictures"]) if world.exists() else 0


def _split(world: Path, halves: Path) -> Iterator[Stage]:
    movies = expand(world / "movies")
    outcomes = []
    for outcome in split_files(movies, halves, Splitting(gain=world / "gain.mrc")):
        outcomes.append(outcome)
        yield Stage(f"splitting {world.name} movies", len(outcomes), len(movies), {})
    raise_failures(outcomes)


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in expand(source):
        partial = target / f".{path.name}.part"
        shutil.copyfile(path, partial)
        os.replace(partial, target / path.name)


def _train(halves: Path, folder: Path, demo: Demo) -> Iterator[Stage]:
    length = {"steps": demo.steps} if demo.steps else {"minutes": demo.minutes}
    training = {**RECIPE["training"], **length, "seed": demo.seed}
    recipe = from_table({**RECIPE, "data": {**RECIPE["data"], "inputs": [str(halves)]}, "training": training})
    for step in run(recipe, [halves], folder, device="cpu", resume=(folder / STATE).exists()):
        shown = {"loss": step.loss, "validation": step.validation}
        yield Stage("training", step.fraction, 1.0, {key: v for key, v in shown.items() if v is not None})


def _denoise(out: Path) -> Iterator[Stage]:
    scenes = group(expand(out / "halves"))
    outcomes = []
    conditions = Conditions(torch.device("cpu"))
    for outcome in denoise_files(scenes, out / "denoised", load_model(out / "run"), conditions,
                                 halves=out / "denoised_halves"):
        outcomes.append(outcome)
        yield Stage("denoising", len(outcomes), len(scenes), {})
    finish(outcomes)


def judge(out: Path) -> dict[str, Any]:
    """Measure the denoised pictures against truth and between halves; writes and returns out/table.json."""
    figures = measure(out / "denoised", truth=out / "truth", halves=out / "halves",
                      denoised_halves=out / "denoised_halves")
    methods = {("deice" if name == "measured" else name): row for name, row in figures["methods"].items()}
    table = {"methods": methods, "halves": figures["halves"]}
    partial = out / ".table.json.part"
    partial.write_text(json.dumps(table, indent=2) + "\n")
    os.replace(partial, out / "table.json")
    return table
