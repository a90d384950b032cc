"""Training: the loop, which knows schemes by their three questions and yields one Step per step."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deice.checkpoint import MODEL, STATE, Model, load_model, load_state, save_model, save_state
from deice.devices import autocast, cap_memory, choose_device, choose_precision, put
from deice.errors import UserError
from deice.learner import Learner
from deice.opening import Opened, open_for_training
from deice.ops.turns import random_turns, swappable_axes
from deice.recipe import Recipe, Training, completed, from_table, merged, name_of, to_table, to_toml
from deice.sources import fit_window, split_sources
from deice.stream import RandomOrder, Stream, make_order, steps_per_epoch

RECIPE, METRICS = "recipe.toml", "metrics.jsonl"
LOG_EVERY = 10  # steps between looks at the loss: each look waits for the GPU
VALIDATION_BYTES = 1 << 26  # at most so much memory for the fixed validation windows


@dataclass(frozen=True)
class Step:
    """One step of the run; `loss` where it was looked at, `validation` where it was made, `best` if it improved."""

    step: int
    total: int | None
    fraction: float
    seconds: float
    loss: float | None = None
    lr: float | None = None
    windows_per_second: float | None = None
    validation: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Run:
    """Where a run lives and what it runs on; `out` None keeps nothing on disk."""

    recipe: Recipe
    out: Path | None
    device: torch.device
    precision: torch.dtype
    axes: int
    pixel_size: float | None


def train(
    inputs: Any, out: Path | str | None = None, recipe: Recipe | Mapping[str, Any] | None = None, *,
    target: Any = None, device: str = "auto", resume: bool = False, **settings: Any,
) -> Model:
    """Train on files, folders, Images or arrays and return the best model.

    inputs: a path or a list of paths (halves are paired by name), or one array (v, *space) or Image per scene.
    recipe: a Recipe or its tables; `settings` override its [training] values, e.g. steps=500, batch=8.
    target: a folder of targets with the same names, or arrays (*space), one per scene.
    Raises UserError where the input is at fault.
    """
    table = to_table(recipe) if isinstance(recipe, Recipe) else dict(recipe or {})
    complete = from_table(merged(table, {"training": settings}))
    given = [inputs] if isinstance(inputs, str | Path) else inputs
    kept: list[Learner] = []
    for _ in run(complete, given, out, target=target, device=device, resume=resume, keep=kept):
        pass
    return kept[0].model() if out is None else load_model(Path(out))


def run(
    recipe: Recipe, inputs: Sequence[Any], out: Path | str | None, *, target: Any = None, device: str = "auto",
    resume: bool = False, start: Path | str | None = None, max_memory: int | None = None,
    keep: list[Learner] | None = None,
) -> Iterator[Step]:
    """Open the data, prepare the folder, then yield the steps of the loop.

    start: a model to begin from. max_memory: bytes of the GPU. keep: takes the learner, for callers without a folder.
    """
    where = choose_device(device)
    cap_memory(where, max_memory)
    opened = open_for_training(inputs, target, recipe.scheme, recipe.data)
    recipe = completed(replace(recipe, scheme=opened.scheme), opened.axes)
    window = fit_window([*opened.training, *opened.validation], recipe.data.window, recipe.network.stride)
    recipe = replace(recipe, data=replace(recipe.data, window=window))
    training, validation = _split(opened, recipe)
    plan = Run(recipe, None if out is None else Path(out), where,
               choose_precision(recipe.training.precision, where), opened.axes, opened.pixel_size)
    learner = Learner(recipe, opened.axes, where, start, opened.pixel_size)
    if keep is not None:
        keep.append(learner)
    _prepare_folder(plan, learner, resume)
    yield from loop(plan, learner, training, validation)


def _split(opened: Opened, recipe: Recipe) -> tuple[list, list]:
    if opened.validation:
        return opened.training, opened.validation
    data = recipe.data
    return split_sources(opened.training, data.validation, data.window, recipe.network.halo, recipe.training.seed)


def loop(plan: Run, learner: Learner, training: Sequence, validation: Sequence) -> Iterator[Step]:
    """Steps until the recipe's end; the best model by validation is kept, the state saved now and then."""
    recipe, settings = plan.recipe, plan.recipe.training
    order = make_order(recipe.data.order, training, recipe.data.window, settings.batch, settings.seed)
    epoch = steps_per_epoch(training, recipe.data.window, settings.batch)
    total = _total_steps(settings, epoch)
    every = settings.validate_every or max(50, epoch // 10)
    judged = validation_batches(plan, validation)
    stream = Stream(training, order, plan.device, start=learner.step, threads=recipe.data.threads)
    batches = stream.batches()
    swap = swappable_axes(recipe.data.window)
    clock = _Clock(learner.seconds)
    losses: list[Tensor] = []
    try:
        while not _finished(learner, settings, total, clock):
            views = next(batches)
            generator = generator_for(plan.device, settings.seed, learner.step)
            if settings.turns:
                views = random_turns(views, plan.axes, swap, generator)
            fraction = _fraction(learner, settings, total, clock)
            losses.append(learner.learn(views, fraction, plan.precision, generator))
            done = min(1.0, _fraction(learner, settings, total, clock))
            step = Step(learner.step, total, done, clock.seconds())
            last = _finished(learner, settings, total, clock)
            if learner.step % LOG_EVERY == 0 or last:
                step = replace(step, loss=_mean_finite(losses, learner), lr=learner.lr,
                               windows_per_second=clock.rate(len(losses) * settings.batch))
                losses.clear()
            if learner.step % every == 0 or last:
                value = validate(learner.judged_module(), recipe.scheme, judged, plan)
                step = replace(step, validation=value, best=learner.keep_if_best(value))
            learner.seconds = clock.seconds()
            _record(plan, learner, step, last)
            yield step
    finally:
        batches.close()


def _total_steps(settings: Training, epoch: int) -> int | None:
    """How many steps the run has; None where only its time is known."""
    if settings.epochs is not None:
        return max(1, round(settings.epochs * epoch))
    return settings.steps


def _fraction(learner: Learner, settings: Training, total: int | None, clock: "_Clock") -> float:
    """How much of the run is done, by steps where their number is known, else by time."""
    return learner.step / total if total else clock.seconds() / (60 * (settings.minutes or 1.0))


def _finished(learner: Learner, settings: Training, total: int | None, clock: "_Clock") -> bool:
    if settings.patience and learner.since_best >= settings.patience:
        return True
    return _fraction(learner, settings, total, clock) >= 1


def _mean_finite(losses: list[Tensor], learner: Learner) -> float:
    mean = float(torch.stack(losses).mean())
    if not np.isfinite(mean):
        raise UserError(f"the loss is {mean} at step {learner.step}: training stopped, the best model and the last "
                        "state before it are kept; lower --lr or use --precision fp32, and go on with --resume")
    return mean


def generator_for(device: torch.device, seed: int, step: int) -> torch.Generator:
    """The random numbers of one step, a function of (seed, step): none is saved. Dropout is seeded too."""
    mixed = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(mixed)
    return torch.Generator(device).manual_seed(mixed)


def validation_batches(plan: Run, sources: Sequence) -> list[Tensor]:
    """The same windows every time, so that two validations differ by the weights alone; kept within a fixed memory."""
    settings, window = plan.recipe.training, plan.recipe.data.window
    size = 4 * len(sources[0].views) * int(np.prod(window)) * settings.batch
    count = max(1, min(settings.validation_batches, VALIDATION_BYTES // size))
    order = RandomOrder(sources, window, settings.batch, settings.seed + 1)
    places = [order.batch(i) for i in range(count)]
    return [torch.from_numpy(np.stack([sources[p.source].read(p.origin, window) for p in batch])) for batch in places]


@torch.no_grad()
def validate(module: nn.Module, scheme: Any, batches: Sequence[Tensor], plan: Run) -> float:
    """The scheme's own loss over the validation windows."""
    total = torch.zeros((), device=plan.device)
    for number, views in enumerate(batches):
        task = scheme.make(views.to(plan.device), generator_for(plan.device, plan.recipe.training.seed + 1, number))
        with autocast(plan.device, plan.precision):
            answer = module(put(task.input))
        total += scheme.loss(answer.float(), task)
    return float(total / len(batches))


class _Clock:
    """Seconds of training, over all resumes."""

    def __init__(self, before: float):
        self.before, self.started, self.looked = before, time.monotonic(), time.monotonic()

    def seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    def rate(self, count: int) -> float:
        """`count` over the time since the last call."""
        now = time.monotonic()
        elapsed, self.looked = now - self.looked, now
        return count / max(elapsed, 1e-9)


def _prepare_folder(plan: Run, learner: Learner, resume: bool) -> None:
    """A new folder, or the state of an old one; a run is never overwritten."""
    if plan.out is None:
        return
    state = plan.out / STATE
    if resume:
        learner.load(load_state(state, plan.device))
        _cut_metrics(plan.out / METRICS, learner.step)
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


def _record(plan: Run, learner: Learner, step: Step, last: bool) -> None:
    """Write the best model, the state and the metrics that belong to `step`."""
    if plan.out is None:
        return
    if step.loss is not None or step.validation is not None:
        line = {key: value for key, value in asdict(step).items() if value is not None and key != "best"}
        if step.validation is not None:
            line["best"] = step.best
        with open(plan.out / METRICS, "a") as file:
            file.write(json.dumps(line) + "\n")
    if step.best:
        facts = {"pixel_size": plan.pixel_size, "step": learner.best_step, "validation": learner.best,
                 "scheme": name_of(plan.recipe.scheme), "device": str(plan.device), "precision": str(plan.precision)}
        save_model(plan.out / MODEL, learner.best_weights, plan.recipe, plan.axes, facts)
    if step.loss is not None and (last or learner.seconds - learner.saved_at >= plan.recipe.training.save_seconds):
        learner.saved_at = learner.seconds
        save_state(plan.out / STATE, learner.state())
