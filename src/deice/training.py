"""Training: the loop, which knows schemes by their three questions and yields one Step per step."""

import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deice.checkpoint import Model, load_model
from deice.checks import check
from deice.coarse import coarse_to_fine
from deice.devices import autocast, cap_memory, choose_device, choose_precision, put
from deice.errors import UserError
from deice.drawing import drawn_batches, drawn_validation
from deice.learner import Learner
from deice.losses import Judged, mean_of
from deice.opening import Opened, open_for_training
from deice.ops.greys import random_greys
from deice.ops.turns import random_turns, swappable_axes
from deice.prepared import Prepared, prepared_batches
from deice.recipe import Recipe, Training, completed, from_table, merged, to_table
from deice.runs import Run, Step, prepare_folder, record
from deice.schedules import octaves
from deice.sources import Source, fit_window, split_sources
from deice.stream import RandomOrder, Stream, make_order, steps_per_epoch

LOG_EVERY = 10  # steps between looks at the loss: each look waits for the GPU
VALIDATION_BYTES = 1 << 26  # at most so much memory for the fixed validation windows


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
    if getattr(recipe.scheme, "tilted", False):
        window = (min(window),) * opened.axes  # cubes: they are turned onto themselves
    recipe = replace(recipe, data=replace(recipe.data, window=window))
    training, validation = _split(opened, recipe)
    plan = Run(recipe, None if out is None else Path(out), where,
               choose_precision(recipe.training.precision, where), opened.axes, opened.pixel_size)
    check(recipe, training)
    learner = Learner(recipe, opened.axes, where, start, opened.pixel_size)
    if keep is not None:
        keep.append(learner)
    prepare_folder(plan, learner, resume)
    yield from loop(plan, learner, training, validation)


def _split(opened: Opened, recipe: Recipe) -> tuple[list, list]:
    if opened.validation or recipe.data.world:
        return opened.training, opened.validation
    data = recipe.data
    return split_sources(opened.training, data.validation, data.window, recipe.network.halo, recipe.training.seed)


def loop(plan: Run, learner: Learner, training: Sequence, validation: Sequence) -> Iterator[Step]:
    """Steps until the recipe's end; the best model by validation is kept, the state saved now and then."""
    recipe, settings = plan.recipe, plan.recipe.training
    count = settings.batch * settings.accumulate
    epoch = steps_per_epoch(training, recipe.data.window, count)
    total = _total_steps(settings, epoch)
    every = settings.validate_every or max(50, epoch // 10)
    judged = validation_batches(plan, validation)
    clock = _Clock(learner.seconds)
    batches = _batches(plan, learner, training, lambda: _fraction(learner, settings, total, clock))
    losses: list[Judged] = []
    try:
        while not _finished(learner, settings, total, clock):
            views = next(batches)
            generator = generator_for(plan.device, settings.seed, learner.step)
            views = _augmented(views, settings, generator)
            fraction = _fraction(learner, settings, total, clock)
            losses.append(learner.learn(views, fraction, plan.precision, generator))
            done = min(1.0, _fraction(learner, settings, total, clock))
            step = Step(learner.step, total, done, clock.seconds())
            last = _finished(learner, settings, total, clock)
            if learner.step % LOG_EVERY == 0 or last:
                mean = mean_of(losses)
                step = replace(step, loss=_finite(mean, learner), terms=_terms(mean), lr=learner.lr,
                               windows_per_second=clock.rate(len(losses) * count))
                losses.clear()
            if learner.step % every == 0 or last:
                found = validate(learner.judged_module(), judged, plan)
                value = float(found.total)
                step = replace(step, validation=value, validation_terms=_terms(found), best=learner.keep_if_best(value))
            learner.seconds = clock.seconds()
            record(plan, learner, step, last)
            yield step
    finally:
        batches.close()


def _batches(
    plan: Run, learner: Learner, sources: Sequence[Source], fraction: Callable[[], float]
) -> Generator[Tensor]:
    """Windows (b, v, *window) from the learner's step on: of the sources, or of what the scheme makes of them."""
    data, settings = plan.recipe.data, plan.recipe.training
    if data.world:
        return drawn_batches(plan.recipe, plan.device, learner.step)
    if not getattr(plan.recipe.scheme, "refresh", 0):
        return coarse_to_fine(sources, plan.recipe, plan.device, position=lambda: learner.step,
                              level=lambda: octaves(fraction(), settings.coarse, settings.coarse_share))
    order = make_order(data.order, sources, data.window, settings.batch * settings.accumulate, settings.seed)
    return prepared_batches(_prepared(plan, sources, plan.recipe.training.seed), order, learner.step,
                            lambda epoch: learner.net_of_epoch(epoch, plan.precision))


def _augmented(views: Tensor, settings: Training, generator: torch.Generator) -> Tensor:
    """(b, v, *window) turned and at other grey scales, all views of a sample alike."""
    if settings.turns:
        window = views.shape[2:]
        views = random_turns(views, len(window), swappable_axes(window), generator)
    if settings.contrast or settings.brightness:
        views = random_greys(views, settings.contrast, settings.brightness, generator)
    return views


def _prepared(plan: Run, sources: Sequence[Source], seed: int) -> Prepared:
    scheme: Any = plan.recipe.scheme
    kept = scheme.kept_while_training(len(sources[0].views))
    return Prepared(scheme, sources, kept, plan.device, plan.out or Path(tempfile.gettempdir()), seed)


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


def _finite(judged: Judged, learner: Learner) -> float:
    total = float(judged.total)
    if not np.isfinite(total):
        raise UserError(f"the loss is {total} at step {learner.step}: training stopped, the best model and the last "
                        "state before it are kept; lower --lr or use --precision fp32, and go on with --resume")
    return total


def _terms(judged: Judged) -> dict[str, float] | None:
    """Each term by itself; None where there is only one."""
    return {name: float(value) for name, value in judged.terms.items()} if len(judged.terms) > 1 else None


def generator_for(device: torch.device, seed: int, step: int) -> torch.Generator:
    """The random numbers of one step, a function of (seed, step): none is saved. Dropout is seeded too."""
    mixed = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(mixed)
    return torch.Generator(device).manual_seed(mixed)


def validation_batches(plan: Run, sources: Sequence[Source]) -> list[Tensor]:
    """The same windows every time, so that two validations differ by the weights alone; kept within a fixed memory."""
    settings, window = plan.recipe.training, plan.recipe.data.window
    if plan.recipe.data.world:
        return drawn_validation(plan.recipe, plan.device, VALIDATION_BYTES)
    order = RandomOrder(sources, window, settings.batch, settings.seed + 1)
    if getattr(plan.recipe.scheme, "refresh", 0):
        prepared = _prepared(plan, sources, settings.seed + 1)
        prepared.fill(0, None)
        batches = prepared.batches(order, 0)
    else:
        batches = Stream(sources, order, torch.device("cpu"), threads=plan.recipe.data.threads, ahead=1).batches()
    with closing(batches):
        kept = [next(batches).cpu().clone()]
        count = min(settings.validation_batches, VALIDATION_BYTES // kept[0].nbytes)
        return kept + [batch.cpu().clone() for batch in islice(batches, max(0, count - 1))]


@torch.no_grad()
def validate(module: nn.Module, batches: Sequence[Tensor], plan: Run) -> Judged:
    """What the run is judged by, over the validation windows: the mean over `batches`."""
    recipe = plan.recipe
    found = []
    for number, views in enumerate(batches):
        generator = generator_for(plan.device, recipe.training.seed + 1, number)
        task = recipe.scheme.make(views.to(plan.device), generator)
        with autocast(plan.device, plan.precision):
            answer = module(put(task.input))
        found.append(recipe.scheme.loss(answer.float(), task, recipe.criterion))
    return mean_of(found)


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
