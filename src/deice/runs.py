"""What a run is, and what it leaves in its folder: recipe, metrics, state and models."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from deice.checkpoint import MODEL, STATE, load_state, save_model, save_state
from deice.errors import UserError
from deice.learner import Learner
from deice.ranks import ALONE, Ranks
from deice.recipe import Recipe, name_of, to_toml

RECIPE, METRICS, MODELS = "recipe.toml", "metrics.jsonl", "models"


@dataclass(frozen=True)
class Step:
    """One step of the run; `loss` where it was looked at, `validation` where it was made, `best` if it improved.

    `terms`, `validation_terms`: each term of the loss by itself, without its weight, where it has several.
    `gpu_reserved`, `gpu_allocated`: of the last step, the most bytes that PyTorch's allocator took from the GPU and
    gave to tensors (of the GPU that took most, where there are several). The CUDA context is not in it.
    """

    step: int
    total: int | None
    fraction: float
    seconds: float
    loss: float | None = None
    lr: float | None = None
    windows_per_second: float | None = None
    validation: float | None = None
    best: bool = False
    terms: dict[str, float] | None = None
    validation_terms: dict[str, float] | None = None
    gpu_reserved: int | None = None
    gpu_allocated: int | None = None


@dataclass(frozen=True)
class Run:
    """Where a run lives and what it runs on; `out` None keeps nothing on disk. Only the first of `ranks` writes."""

    recipe: Recipe
    out: Path | None
    device: torch.device
    precision: torch.dtype
    axes: int
    pixel_size: float | None
    ranks: Ranks = field(default=ALONE)


def prepare_folder(plan: Run, learner: Learner, resume: bool) -> None:
    """A new folder, or the state of an old one; a run is never overwritten."""
    if plan.out is None:
        return
    state = plan.out / STATE
    if resume:
        learner.load(load_state(state, plan.device))
    if not plan.ranks.first:
        return
    if resume:
        _cut_metrics(plan.out / METRICS, learner.step)
        _drop(path for step, path in kept_models(plan.out) if step > learner.step)
    elif state.exists() or (plan.out / MODEL).exists():
        raise UserError(f"{plan.out}: holds a run already; go on with it by --resume, or choose another -o")
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        (plan.out / RECIPE).write_text(to_toml(plan.recipe))
        if not resume:
            (plan.out / METRICS).write_text("")
    except OSError as error:
        raise UserError(f"{plan.out}: cannot write there ({error.strerror}); choose another -o") from error


def _cut_metrics(path: Path, step: int) -> None:
    """Drop what a killed run wrote after the state that is resumed."""
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    path.write_text("".join(f"{line}\n" for line in kept))


def kept_models(folder: Path) -> list[tuple[int, Path]]:
    """The models of single validations in the folder of a run, as (step, file), oldest first."""
    found = {path: path.stem.removeprefix("step_") for path in (folder / MODELS).glob("step_*.safetensors")}
    return sorted((int(step), path) for path, step in found.items() if step.isdecimal())


def _drop(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink()


def record(plan: Run, learner: Learner, step: Step, last: bool) -> None:
    """Write the best model, the state and the metrics that belong to `step`."""
    if plan.out is None or not plan.ranks.first:
        return
    if step.loss is not None or step.validation is not None:
        line = {key: value for key, value in asdict(step).items() if value is not None and key != "best"}
        if step.validation is not None:
            line["best"] = step.best
        with open(plan.out / METRICS, "a") as file:
            file.write(json.dumps(line) + "\n")
    facts = {"pixel_size": plan.pixel_size, "step": learner.step, "validation": step.validation,
             "scheme": name_of(plan.recipe.scheme), "device": str(plan.device), "precision": str(plan.precision)}
    if step.best:
        save_model(plan.out / MODEL, learner.best_weights, plan.recipe, plan.axes, facts)
    if step.validation is not None and plan.recipe.training.keep:
        (plan.out / MODELS).mkdir(exist_ok=True)
        path = plan.out / MODELS / f"step_{learner.step:06d}.safetensors"
        save_model(path, learner.weights(), plan.recipe, plan.axes, facts)
        _drop(path for _, path in kept_models(plan.out)[: -plan.recipe.training.keep])
    if step.loss is not None and (last or learner.seconds - learner.saved_at >= plan.recipe.training.save_seconds):
        learner.saved_at = learner.seconds
        save_state(plan.out / STATE, learner.state())
