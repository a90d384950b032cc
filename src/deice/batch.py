"""A batch of files: outputs planned before any work, finished ones skipped, faulty ones named, the rest done."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deice.checkpoint import Model
from deice.conditions import Conditions
from deice.errors import BatchFailure, UserError
from deice.filters import Filter
from deice.io import is_zarr, writable_folder
from deice.lanes import Clock, in_order
from deice.pipeline import Place, denoise_scene, places, uncertainty_of
from deice.scenes import Scene, stem
from deice.untrained import Untrained

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of one scene of a batch: written, skipped (finished before), or failed for a reason."""

    scene: Scene
    path: Path
    state: str
    reason: str = ""


def plan_outputs(scenes: Sequence[Scene], out: Path, inputs: Sequence[Path]) -> list[Path]:
    """Each scene's output, DIR/<same name>.mrc, of OME-Zarr .zarr, before any work.

    Raises UserError for an output that is, or lies in, one of the `inputs` (also of those left aside), or is another
    scene's output.
    """
    taken = {path.resolve() for path in inputs}
    if inside := taken & {out.resolve(), *out.resolve().parents}:
        raise UserError(f"{out}: lies in the input {inside.pop()}; choose another -o")
    writable_folder(out)
    outputs: dict[Path, Scene] = {}
    for scene in scenes:
        path = (out / output_name(scene)).resolve()
        if path in taken:
            raise UserError(f"{path}: the output would overwrite an input; choose another -o")
        if path in outputs:
            raise UserError(f"{scene.files[0]} and {outputs[path].files[0]} would both be written to {path}; "
                            "denoise them into different folders")
        outputs[path] = scene
    return list(outputs)


def output_name(scene: Scene) -> str:
    """NAME.zarr for what is read from OME-Zarr, NAME.mrc for all else."""
    return f"{scene.name}.zarr" if is_zarr(scene.files[0]) else f"{scene.name}.mrc"


@dataclass(frozen=True)
class Unit:
    """One scene of a batch, its output, and what is still to be written of it: itself and its halves, and where."""

    scene: Scene
    path: Path
    wanted: tuple[tuple[Scene, Path], ...]


def denoise_files(
    scenes: Sequence[Scene], out: Path, estimator: Model | Filter | Untrained, conditions: Conditions, *,
    inputs: Sequence[Path] = (), overwrite: bool = False, halves: Path | None = None,
    devices: Sequence[torch.device] = (), clock: Clock | None = None, **how: Any,
) -> Iterator[Outcome]:
    """Denoise the scenes, a few at the same time (`deice.pipeline`); what became of each, in their order.

    Finished outputs are skipped, a faulty scene fails by itself. halves: a folder for each half denoised by itself,
    which the correlation of the removed noise is measured on. devices: those that share the files; the one of the
    conditions if none is given. clock: counts the seconds of each stage.
    """
    units = _planned(scenes, out, inputs, halves, overwrite, conditions.uncertainty)
    clock = clock or Clock()
    if isinstance(estimator, Untrained):
        for unit in units:
            yield _worked(unit, lambda scene: estimator.model(scene, how.get("axes")), conditions, how)
        return
    waiting = [unit.scene for unit in units if unit.wanted]
    if not waiting:
        yield from (Outcome(unit.scene, unit.path, "skipped") for unit in units)
        return
    at = places(estimator, conditions, devices or [conditions.device], waiting, clock, how.get("axes"))

    def work(unit: Unit, place: Place) -> Outcome:
        return _worked(unit, lambda scene: place.estimator, place.conditions, how)

    if len(waiting) < 2:
        yield from (work(unit, at[0]) for unit in units)
    else:
        yield from in_order(work, units, at, at[0].stop)
        log.info("%d files in %.1f s: %s", len(waiting), clock.passed(), clock.shares())


def _planned(
    scenes: Sequence[Scene], out: Path, inputs: Sequence[Path], halves: Path | None, overwrite: bool, uncertainty: bool
) -> list[Unit]:
    """What is to be written of each scene, before any work."""
    files = [*inputs, *(path for scene in scenes for path in scene.files)]
    outputs = plan_outputs(scenes, out, files)
    alone = [[Scene(stem(file), (file,)) for file in scene.files] if len(scene.files) > 1 else [] for scene in scenes]
    if halves is not None:
        plan_outputs([half for pair in alone for half in pair], halves, [*files, *outputs])
    units = []
    for scene, path, pair in zip(scenes, outputs, alone):
        jobs = [(scene, path)]
        if halves is not None:
            jobs += [(half, halves / output_name(half)) for half in pair]
        units.append(Unit(scene, path, tuple(job for job in jobs if overwrite or not _done(job[1], uncertainty))))
    return units


def _done(path: Path, uncertainty: bool) -> bool:
    """Whether an output is there, with its uncertainty where that is wanted."""
    return path.exists() and (not uncertainty or uncertainty_of(path).exists())


def _worked(
    unit: Unit, estimator_of: Callable[[Scene], Model | Filter], conditions: Conditions, how: Mapping[str, Any]
) -> Outcome:
    """Write what is wanted of one scene; its own fault is its outcome."""
    if not unit.wanted:
        return Outcome(unit.scene, unit.path, "skipped")
    try:
        estimator = estimator_of(unit.scene)
        for part, target in unit.wanted:
            denoise_scene(part, target, estimator, conditions, **how)
    except UserError as error:
        return Outcome(unit.scene, unit.path, "failed", str(error))
    return Outcome(unit.scene, unit.path, "written")


def finish(outcomes: Sequence[Outcome]) -> None:
    """Say what was skipped; raise the one failure of a single file, BatchFailure for a part of a batch."""
    skipped = sum(outcome.state == "skipped" for outcome in outcomes)
    if skipped:
        log.info("%d finished before, skipped (--overwrite denoises them again)", skipped)
    failures = [(str(outcome.scene.files[0]), outcome.reason) for outcome in outcomes if outcome.state == "failed"]
    if failures and len(outcomes) == 1:
        name, reason = failures[0]
        raise UserError(reason if reason.startswith(name) else f"{name}: {reason}")
    if failures:
        raise BatchFailure(failures, len(outcomes) - len(failures))
