"""Methods that learn on the suite's own training halves before they answer: deice by its recipes, Topaz by itself."""

import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deice.bench.cost import metered
from deice.bench.judge import GIGABYTE
from deice.bench.methods import Learnt, Method, Topaz, given_of, topaz_of, weights_of, without_given
from deice.bench.suite import write_json
from deice.checkpoint import load_model
from deice.devices import machine
from deice.errors import RecipeFault
from deice.io import read
from deice.peers import train_topaz
from deice.recipe import Recipe, from_table, merged, parse_component, read_table, to_table
from deice.training import run

log = logging.getLogger(__name__)

OURS, TRAINED_TOPAZ = "deice", "topaz:trained"
SAY_EVERY = 30.0  # seconds between lines while a model trains
DONE = "done.json"


@dataclass(frozen=True)
class Lesson:
    """What a method may learn from, and how long. recipe: of the method `deice`.  minutes: instead of the recipe's."""

    halves: Sequence[str]
    device: torch.device
    recipe: Path | None = None
    minutes: float | None = None
    seed: int = 0
    topaz: Path | None = None


def learns(text: str) -> bool:
    """Whether the method is trained by the suite: deice, a recipe's file (.toml), topaz:trained."""
    name = without_given(text)
    return name == OURS or name.endswith(".toml") or name.split(",")[0] == TRAINED_TOPAZ


def identity(text: str, lesson: Lesson) -> dict[str, Any]:
    """All that the method's answers depend on, besides the scenes: equal, and they need not be computed again."""
    if not learns(text) or text.startswith(TRAINED_TOPAZ):
        weights = weights_of(text)
        return {"method": text} | ({"weights": weights} if weights else {})
    return {"method": text, "pairs": len(lesson.halves) // 2, "recipe": to_table(recipe_for(text, lesson))}


def learnt(text: str, lesson: Lesson, folder: Path) -> tuple[Method, dict[str, Any]]:
    """The trained method, and what its training took: {"training_seconds", "training_gigabytes", …}.

    `folder`: of the run; a finished one is not trained again, an unfinished one is begun anew.
    """
    wanted = {"identity": identity(without_given(text), lesson)}
    done = json.loads((folder / DONE).read_text()) if (folder / DONE).exists() else {}
    if done.get("identity") != wanted["identity"]:
        shutil.rmtree(folder, ignore_errors=True)
        train = _train_topaz if text.startswith(TRAINED_TOPAZ) else _train_ours
        done = wanted | {"training": train(text, lesson, folder) | {"trained_on": machine()}}
        write_json(folder / DONE, done)
    if text.startswith(TRAINED_TOPAZ):
        method: Method = Topaz(topaz_of("unet", lesson.topaz).python, str(folder / "topaz.sav"))
    else:
        method = Learnt(load_model(folder), given_of(text))
    return method, done["training"]


def recipe_for(text: str, lesson: Lesson) -> Recipe:
    """The recipe behind a method: a file's, or that of --recipe for `deice`, with the suite's own seed and length."""
    name = without_given(text)
    path = lesson.recipe if name == OURS else Path(name)
    table = {} if path is None else read_table(path)
    return from_table(merged(table, {"training": {"minutes": lesson.minutes, "seed": lesson.seed}}))


def _train_ours(text: str, lesson: Lesson, folder: Path) -> dict[str, Any]:
    recipe = recipe_for(text, lesson)
    steps = said = 0
    best = None
    with metered(lesson.device) as cost:
        for step in run(recipe, lesson.halves, folder, device=str(lesson.device)):
            steps, best = step.step, step.validation if step.best else best
            if time.monotonic() - said >= SAY_EVERY:
                said = time.monotonic()
                log.info("%s: %.0f %% trained, best validation %s", text, 100 * step.fraction,
                         "–" if best is None else f"{best:.6g}")
    parameters = sum(p.numel() for p in load_model(folder).module.parameters())
    return {"training_seconds": cost.seconds, "training_gigabytes": cost.bytes / GIGABYTE, "steps": steps,
            "validation": best, "parameters": parameters}


def _train_topaz(text: str, lesson: Lesson, folder: Path) -> dict[str, Any]:
    settings = parse_component(f"topaz:{text.partition(',')[2]}")
    epochs = settings.pop("epochs", 100)
    if len(settings) > 1 or not isinstance(epochs, int) or epochs < 1:
        raise RecipeFault(f"{text}: expected at most epochs=NUMBER, as topaz:trained,epochs=100")
    python = topaz_of("unet", lesson.topaz).python
    files = [read(path).views[0] for path in lesson.halves]
    started = time.perf_counter()
    train_topaz(python, list(zip(files[::2], files[1::2], strict=True)), folder,
                epochs=epochs, cuda=lesson.device.type == "cuda")
    return {"training_seconds": time.perf_counter() - started}
