"""Pictures of the rows there are: central planes by every method, shell correlations, and how trainings went."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from deice.bench.rivals.methods import METHODS, TRUTH

log = logging.getLogger(__name__)


def draw(out: Path, document: dict[str, Any]) -> None:
    """Write tomograms.png, planes with curves, and trainings.png; says so where what draws them is missing."""
    try:
        from deice.report.panels import Panel, save_panels
        from deice.report.trainings import save_trainings
    except ImportError as error:
        log.warning("no pictures: %s; expected matplotlib and jinja2: install them, then run again with --minutes 0",
                    error)
        return
    panels = []
    for level in document["levels"]:
        for plane, curve, about in (("xy", "measured", "x-y"), ("xz", "wedge", "x-z")):
            crops, curves = _planes(out, level, plane), _curves(out, level, curve)
            if crops and curves:
                panels.append(Panel(f"signal/noise {level:g}, {about}; FSC, {curve}", crops, curves))
    if panels:
        save_panels(out / "tomograms.png", panels, "central planes of the first scene; FSC: its mean over scenes")
    trainings = _validations(out)
    if trainings:
        save_trainings(out / "trainings.png", trainings)


def _planes(out: Path, level: float, plane: str) -> dict[str, np.ndarray]:
    """The central planes of the first scene, by method."""
    crops = {}
    for name in METHODS:
        path = out / "slices" / f"{name}__scene_1__snr_{level:g}.npz"
        if path.exists():
            with np.load(path) as kept:
                crops[name] = kept[plane].astype(np.float32)
    return crops


def _curves(out: Path, level: float, curve: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean shell correlations by method: (cycles per voxel, correlation)."""
    found = {}
    for name in filter(lambda name: name != TRUTH, METHODS):
        kept = [row["curves"] for row in _rows(out, f"{name}__*__snr_{level:g}")]
        if kept:
            found[name] = np.array(kept[0]["frequency"]), np.mean([each[curve] for each in kept], axis=0)
    return found


def _validations(out: Path) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """{method: (seconds, validation) of each training}."""
    found = {}
    for name in METHODS:
        kept = [np.array(row["training"]["validations"]) for row in _rows(out, f"{name}__*") if row["training"]]
        if kept:
            found[name] = [(each[:, 0], each[:, 2]) for each in kept]
    return found


def _rows(out: Path, pattern: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((out / "rows").glob(f"{pattern}.json"))]
