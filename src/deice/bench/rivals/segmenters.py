"""Membranes by a trained net: one for each kind of input, a method at a level, which never saw the scene it judges."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deice.bench.rivals.figures import MEMBRANE, TOLERANCE
from deice.checkpoint import Model
from deice.devices import machine
from deice.image import Geometry, Image
from deice.membranes import Labelling, choose_threshold, scores, segment
from deice.recipe import from_table, merged
from deice.training import train

HELD_OUT = 0.25  # of each scene along x, for validation and for the threshold
SEGMENTER: dict[str, Any] = {
    "scheme": {"name": "segmentation"}, "net": {"name": "unet", "size": 16, "depth": 3},
    "data": {"window": [48], "axes": "zyx", "validation": HELD_OUT},
    "training": {"batch": 8, "lr": 2e-3, "validate_every": 50},
}  # fmt: skip
Labelled = tuple[np.ndarray, np.ndarray]  # an answer (z, y, x) and the scene's labels


def segmented(
    own: Labelled, others: Sequence[Labelled], geometry: Geometry, seconds: float, device: torch.device, seed: int
) -> dict[str, Any]:
    """{"figures": Dice and surface-Dice of `own`, "threshold", "training", …} by a net that learnt from `others`.

    It learns from the first three quarters of each of the others, and its best weights and its threshold are chosen on
    their rest. Figures are None where one of the three, own, what is learnt from and their rest, has no membrane.
    """
    about = {"machine": machine(), "device": device.type, "budget": seconds}
    parts = [own[1]], [learnt_part(labels) for _, labels in others], [held_out(labels) for _, labels in others]
    if not all(any((labels == MEMBRANE).any() for labels in part) for part in parts):
        return {**about, "figures": {"net_dice": None, "net_surface_dice": None}, "threshold": None, "training": {}}
    begun = time.perf_counter()
    model = learnt(others, geometry, seconds, device, seed)
    training = {"seconds": time.perf_counter() - begun, "best_step": model.facts["step"],
                "validation": model.facts["validation"]}
    threshold = frozen_threshold(model, others, geometry, device)
    answer, truth = own
    pixel_size = geometry.pixel_size or 1.0
    found = segment(Image(answer[None], geometry), model, labelling=Labelling(threshold), device=str(device))
    given = scores(found.labels, truth, TOLERANCE / pixel_size, (MEMBRANE,))
    figures = {f"net_{name}": given[name] for name in ("dice", "surface_dice")}
    return {**about, "figures": figures, "threshold": threshold, "training": training}


def learnt(
    others: Sequence[Labelled], geometry: Geometry, seconds: float, device: torch.device, seed: int
) -> Model:
    """A net of SEGMENTER. The scenes lie side by side along x, first what is learnt from, then what is held out."""
    recipe = from_table(merged(SEGMENTER, {"training": {"minutes": seconds / 60, "seed": seed}}))
    volume, labels = (np.concatenate([*(learnt_part(each[kind]) for each in others),
                                      *(held_out(each[kind]) for each in others)], axis=2) for kind in (0, 1))
    return train([Image(volume[None], geometry)], None, recipe, target=[labels], device=str(device))


def frozen_threshold(model: Model, others: Sequence[Labelled], geometry: Geometry, device: torch.device) -> float:
    """The threshold of highest Dice on what was held out of `others`."""
    found = [segment(Image(answer[None], geometry), model, device=str(device)) for answer, _ in others]
    return choose_threshold([held_out(each.probability) for each in found], [held_out(labels) for _, labels in others],
                            (MEMBRANE,))


def learnt_part(volume: np.ndarray) -> np.ndarray:
    """What is learnt from, of (z, y, x)."""
    return volume[..., : -_width(volume)]


def held_out(volume: np.ndarray) -> np.ndarray:
    """What is held out, of (z, y, x)."""
    return volume[..., -_width(volume) :]


def _width(volume: np.ndarray) -> int:
    return round(HELD_OUT * volume.shape[2])


def save_answer(path: Path, answer: torch.Tensor) -> None:
    """Keep an answer (z, y, x) as float16 of mean 0 and standard deviation 1."""
    scaled = (answer - answer.mean()) / answer.std().clamp_min(torch.finfo(answer.dtype).tiny)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    with temporary.open("wb") as file:
        np.save(file, scaled.half().numpy())
    temporary.replace(path)


def read_answer(path: Path) -> np.ndarray:
    """What `save_answer` kept: (z, y, x) float32."""
    return np.load(path).astype(np.float32)
