"""The work of one row: a method trained on one tomogram, its answer, and the figures that are kept of it."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deice.bench.cost import metered
from deice.bench.judge import GIGABYTE
from deice.bench.rivals.figures import judged
from deice.bench.rivals.methods import HALVES, METHODS, TRUTH, Method
from deice.bench.rivals.scenes import Scene
from deice.bench.tegunov import best_tegunov
from deice.checkpoint import Model
from deice.devices import machine
from deice.errors import UserError
from deice.filters.fitted import best_gaussian, radial_wiener
from deice.image import Image
from deice.inference import denoise
from deice.learner import Learner
from deice.recipe import to_table
from deice.training import run

FLAT, TIME = "flat", "time"  # why a training ended
FILTERS: dict[str, Callable[[Scene], Tensor]] = {
    "raw": lambda scene: scene.average,
    "gaussian": lambda scene: best_gaussian(scene.average, scene.truth)[0],
    "tegunov": lambda scene: best_tegunov(scene.average, scene.truth, scene.geometry.pixel_size)[0],
    "wiener": lambda scene: radial_wiener(scene.average, scene.truth),
    TRUTH: lambda scene: scene.truth,
}


def work(name: str, scene: Scene, budget: float, device: torch.device, seed: int) -> tuple[dict[str, Any], Tensor]:
    """What is kept of a row, {"machine", "device", "training", "figures", "curves", "membranes"}, and the
    answer (z, y, x). budget: seconds of training of ours; a rival has three times as many.

    Raises UserError where a method cannot work on such a tomogram.
    """
    method, begun = METHODS[name], time.perf_counter()
    training: dict[str, Any] = {}
    with metered(torch.device("cpu")) as memory, metered(device) as cost:
        if method.table is None:
            answer = FILTERS[name](scene).float()
        else:
            views = np.stack([view.numpy() for view in given(method, scene)])
            image = Image(views, scene.geometry)
            model, training = learnt(method, image, scene.tilt_range, budget, device, seed)
            trained = time.perf_counter() - begun
            answer = torch.from_numpy(denoise(image, model, device=str(device)).views[0])
            training |= {"seconds": trained, "estimate_seconds": time.perf_counter() - begun - trained}
    found = judged(answer, scene, device)
    found["figures"] |= {"minutes": cost.seconds / 60, "ram": memory.bytes / GIGABYTE,
                         "gpu": cost.bytes / GIGABYTE if device.type == "cuda" else None}
    about = {"machine": machine(), "device": device.type, "budget": budget}
    return {**about, "training": training, **found, "seconds": time.perf_counter() - begun}, answer


def settings(method: Method) -> dict[str, Any]:
    """What a method's answer depends on, but for the length of its training: changed, and rows are computed anew."""
    if method.table is None:
        return {}
    table = to_table(method.recipe(60.0, (-60.0, 60.0), 0))
    return {section: {k: v for k, v in part.items() if k not in ("minutes", "seed", "tilt_range")}
            for section, part in table.items()}


def given(method: Method, scene: Scene) -> tuple[Tensor, ...]:
    """The views that a method is given: both halves, or the average of all frames."""
    return (scene.even, scene.odd) if method.given == HALVES else (scene.average,)


def learnt(
    method: Method, image: Image, tilt_range: tuple[float, float], budget: float, device: torch.device, seed: int
) -> tuple[Model, dict[str, Any]]:
    """The best model by validation of a training on `image` (v, z, y, x), and how the training went.

    validations: [seconds, step, value].  stopped: "flat" where the method's patience ended it, else "time".
    """
    seconds = method.budget(budget)
    recipe = method.recipe(seconds, tilt_range, seed)
    kept: list[Learner] = []
    steps, validations = 0, []
    for step in run(recipe, [image], None, device=str(device), keep=kept):
        steps = step.step
        if step.validation is not None and math.isfinite(step.validation):
            validations.append([round(step.seconds, 2), step.step, float(f"{step.validation:.6g}")])
    if not validations:
        raise UserError("no validation was finite; expected a training that converges")
    learner, patience = kept[0], recipe.training.patience
    said = {"steps": steps, "stopped": FLAT if patience and learner.since_best >= patience else TIME,
            "best_step": learner.best_step, "validations": validations, "allowed": seconds}
    return learner.model(), said


def save_slices(path: Path, volume: Tensor) -> None:
    """Keep the central planes of `volume` (z, y, x): xy (y, x) and xz (z, x), float16 in standard deviations."""
    scaled = (volume - volume.mean()) / volume.std().clamp_min(torch.finfo(volume.dtype).tiny)
    z, y = volume.shape[0] // 2, volume.shape[1] // 2
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, xy=scaled[z].half().numpy(), xz=scaled[:, y].half().numpy())
