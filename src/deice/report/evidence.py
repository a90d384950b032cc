"""What a folder holds that can be shown: a run, scenes before and after, a table. Nothing is required of it.

run/ (or the folder itself): metrics.jsonl, recipe.toml, model.safetensors. Scenes by file name: denoised/, halves/,
micrographs/, truth/, denoised_halves/. table.json. What is missing is named in `Evidence.absent`, in plain words.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from deice.errors import FileFault, UserError
from deice.io import read
from deice.scenes import expand, group, stem

log = logging.getLogger(__name__)

PLACES = ("denoised", "denoised_halves", "halves", "micrographs", "truth")


@dataclass(frozen=True)
class Run:
    """A training run: the lines of its metrics, its recipe as it stands in the file, what the model says of itself."""

    folder: Path
    metrics: list[dict[str, Any]] = field(default_factory=list)
    recipe: str = ""
    model: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Before:
    """Files that show one scene before and after; each may be missing. Halves are (even, odd)."""

    name: str
    noisy: Path | None = None
    halves: tuple[Path, ...] = ()
    denoised: Path | None = None
    denoised_halves: tuple[Path, ...] = ()
    truth: Path | None = None


@dataclass(frozen=True)
class Evidence:
    """All that was found in `folder`, and what was not."""

    folder: Path
    run: Run | None
    scenes: list[Before]
    table: dict[str, dict[str, Any]]
    absent: list[str]


def gather(folder: Path | str) -> Evidence:
    """Look through `folder`; UserError where it holds nothing that a report could show."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder · expected a run of deice train or a folder of deice demo")
    absent: list[str] = []
    runs = [place for place in (folder, folder / "run") if (place / "metrics.jsonl").exists()]
    run = _run(runs[0], absent) if runs else None
    scenes, table = _scenes(folder, absent), _table(folder, absent)
    if run is None and not scenes and not table:
        raise UserError(
            f"{folder}: nothing to report · expected metrics.jsonl of a run, pictures in denoised/, halves/ or "
            "micrographs/, or table.json · give the folder of deice train or deice demo"
        )
    if run is None:
        absent.append("no training run (metrics.jsonl, here or in run/), so there are no loss curves")
    return Evidence(folder, run, scenes, table, absent)


def _run(folder: Path, absent: list[str]) -> Run:
    metrics = []
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        try:
            metrics.append(json.loads(line))
        except ValueError:  # the last line of a run that was killed
            absent.append("one line of metrics.jsonl is cut off and left out")
    recipe = folder / "recipe.toml"
    if not recipe.exists():
        absent.append("no recipe.toml in the run, so what was trained is not shown")
    model = _model(folder / "model.safetensors")
    if not model:
        absent.append("no model.safetensors in the run")
    metrics = [row for row in metrics if isinstance(row, dict) and "step" in row]
    return Run(folder, metrics, recipe.read_text() if recipe.exists() else "", model)


def _model(path: Path) -> dict[str, str]:
    """What the model's file says: net, scheme, parameters, version; {} where there is no readable model."""
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 (not a dict)
        recipe, facts = (json.loads(metadata.get(key, "{}")) for key in ("recipe", "facts"))
    except (OSError, SafetensorError, ValueError):
        return {}
    said = {
        "net": recipe.get("net", {}).get("name"),
        "scheme": recipe.get("scheme", {}).get("name"),
        "parameters": f"{sum(prod(shape) for shape in shapes):,}",
        "axes": metadata.get("axes"),
        "pixel size": f"{facts['pixel_size']:.4g} Å" if facts.get("pixel_size") else None,
        "best at step": facts.get("step"),
        "its validation loss": f"{facts['validation']:.5g}" if facts.get("validation") is not None else None,
        "trained on": facts.get("device"),
        "precision": str(facts["precision"]).removeprefix("torch.") if facts.get("precision") else None,
        "trained with": f"deice {metadata['deice']}" if "deice" in metadata else None,
    }
    return {key: str(value) for key, value in said.items() if value is not None}


def _scenes(folder: Path, absent: list[str]) -> list[Before]:
    pictures = {place: _pictures(folder / place) for place in PLACES}
    halves = {place: _halves(pictures[place], absent) for place in ("halves", "denoised_halves")}
    singles = pictures["micrographs"] | pictures["halves"]
    names = list(pictures["denoised"]) or list(halves["halves"]) or list(pictures["micrographs"])
    if not names:
        absent.append("no pictures (denoised/, halves/ or micrographs/)")
        return []
    lost = {
        "denoised": "the mean of denoised_halves/ is shown" if pictures["denoised_halves"]
        else "nothing to compare the noisy pictures with",
        "truth": "no figure here is against a known truth",
        "halves": "nothing is compared between independent halves",
        "denoised_halves": "no correlation of the removed noise",
    }
    absent += [f"no {place}/: {consequence}" for place, consequence in lost.items() if not pictures[place]]
    return [
        Before(
            name,
            singles.get(name),
            halves["halves"].get(name, ()),
            pictures["denoised"].get(name),
            halves["denoised_halves"].get(name, ()),
            pictures["truth"].get(name),
        )
        for name in names
    ]


def _pictures(folder: Path) -> dict[str, Path]:
    try:
        return {stem(path): path for path in expand(folder)}
    except UserError:
        return {}


def _halves(pictures: dict[str, Path], absent: list[str]) -> dict[str, tuple[Path, ...]]:
    try:
        return {scene.name: scene.files for scene in group(list(pictures.values())) if len(scene.files) == 2}
    except UserError as error:
        absent.append(f"halves left out: {error}")
        return {}


def _table(folder: Path, absent: list[str]) -> dict[str, dict[str, Any]]:
    try:
        methods = json.loads((folder / "table.json").read_text())["methods"]
        return {name: dict(figures) for name, figures in methods.items()}
    except FileNotFoundError:
        absent.append("no table.json: no methods are compared in figures")
    except (ValueError, KeyError, TypeError, AttributeError):
        absent.append("table.json is left out: it does not hold {methods: {name: figures}}")
    return {}


def pixels(paths: Sequence[Path], where: tuple[slice | int, ...]) -> np.ndarray:
    """The mean of one or more pictures at `where`, (*space) float32: two halves give their full average.

    Raises FileFault for a picture that is not finite.
    """
    parts = []
    for path in paths:
        parts.append(np.asarray(read(path, "zyx").views[0][where], dtype=np.float32))
        if not np.isfinite(parts[-1]).all():
            raise FileFault(path, "holds pixels that are not finite")
    return np.mean(parts, axis=0)
