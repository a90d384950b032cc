"""Training: the loop, which knows schemes by their three questions and yields one Step per step."""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deice.checkpoint import Model, load_model
from deice.coarse import coarse_to_fine
from deice.devices import choose_device, is_out_of_memory, limit_memory, memory_peak
from deice.drawing import drawn_batches
from deice.errors import UserError
from deice.learner import Learner, generator_for
from deice.losses import Judged, mean_of
from deice.opening import open_for_training
from deice.ops.greys import random_greys
from deice.ops.turns import random_turns, swappable_axes
from deice.planning import beginning, planned, too_large
from deice.prepared import prepared_batches
from deice.ranks import Ranks, joined
from deice.recipe import Recipe, Training, from_table, merged, to_table
from deice.runs import Run, Step, prepare_folder, record
from deice.schedules import octaves
from deice.sources import Source
from deice.stream import make_order, steps_per_epoch
from deice.validation import over_ranks, prepared_for, validate, validation_batches

log = logging.getLogger(__name__)

LOG_EVERY = 10  # steps between looks at the loss: each look waits for the GPU


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
) -> Generator[Step]:
    """Open the data, prepare the folder, then yield the steps of the loop; on all ranks, if torchrun started several.

    start: a model to begin from, or "pretrained" for the one in this package. max_memory: bytes of the GPU, of each if
    there are several. keep: takes the learner, for callers without a folder.
    """
    with joined(device) as ranks:
        with ranks.together():
            where = choose_device(device)
            limit_memory(where, max_memory)
            opened = open_for_training(inputs, target, recipe.scheme, recipe.data)
            recipe, start = beginning(recipe, start, opened.axes)
            plan, training, validation = planned(recipe, opened, out, where, ranks)
            learner = Learner(plan.recipe, plan.axes, where, start, plan.pixel_size, ranks)
        with ranks.together():  # all have read what stands there before
            prepare_folder(plan, learner, resume)
        if keep is not None:
            keep.append(learner)
        try:
            yield from loop(plan, learner, training, validation)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise too_large(plan, max_memory) from error
        with ranks.together():
            log.debug("rank %d is done", ranks.rank)


def loop(plan: Run, learner: Learner, training: Sequence, validation: Sequence) -> Iterator[Step]:
    """Steps until the recipe's end; the best model by validation is kept, the state saved now and then."""
    recipe, settings = plan.recipe, plan.recipe.training
    count = settings.batch * settings.accumulate
    epoch = steps_per_epoch(training, recipe.data.window, count)
    total = _total_steps(settings, epoch)
    every = settings.validate_every or max(50, epoch // 10)
    judged = validation_batches(plan, validation)
    clock = _Clock(learner.seconds, plan.ranks)
    batches = _batches(plan, learner, training, lambda: _fraction(learner, settings, total, clock))
    losses: list[Judged] = []
    try:
        last = _finished(learner, settings, total, clock)
        while not last:
            views = next(batches)
            generator = generator_for(plan.device, settings.seed, learner.step, plan.ranks.rank)
            views = _augmented(views, settings, generator, plan.ranks)
            fraction = _fraction(learner, settings, total, clock)
            losses.append(learner.learn(views, fraction, plan.precision, generator))
            clock.tick(learner.step)
            done = min(1.0, _fraction(learner, settings, total, clock))
            step = Step(learner.step, total, done, clock.seconds())
            last = _finished(learner, settings, total, clock)
            if learner.step % LOG_EVERY == 0 or last:
                mean = over_ranks(mean_of(losses), plan.ranks)
                step = replace(step, loss=_finite(mean, learner), terms=_terms(mean), lr=learner.lr,
                               windows_per_second=clock.rate(len(losses) * count))
                losses.clear()
            if learner.step % every == 0 or last:
                found = validate(learner.judged_module(), judged, plan)
                value = float(found.total)
                step = replace(step, validation=value, validation_terms=_terms(found), best=learner.keep_if_best(value))
            if last:
                step = _with_peak(step, plan)
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
        return drawn_batches(plan.recipe, plan.device, learner.step, plan.ranks.rank, plan.ranks.world)
    if not getattr(plan.recipe.scheme, "refresh", 0):
        return coarse_to_fine(sources, plan.recipe, plan.device, position=lambda: learner.step, ranks=plan.ranks,
                              level=lambda: octaves(fraction(), settings.coarse, settings.coarse_share))
    order = make_order(data.order, sources, data.window, settings.batch * settings.accumulate, settings.seed)
    return prepared_batches(prepared_for(plan, sources, plan.recipe.training.seed), order, learner.step,
                            lambda epoch: learner.net_of_epoch(epoch, plan.precision), plan.ranks)


def _augmented(views: Tensor, settings: Training, generator: torch.Generator, ranks: Ranks) -> Tensor:
    """(b, v, *window) turned and at other grey scales, all views of a sample alike."""
    share = (ranks.rank, ranks.world)
    if settings.turns:
        window, chooser = views.shape[2:], generator
        if chooser.device.type == "cuda":  # the processor chooses: it would have to wait for what the GPU draws
            chooser = torch.Generator().manual_seed(generator.initial_seed())
        views = random_turns(views, len(window), swappable_axes(window), chooser, share)
    if settings.contrast or settings.brightness:
        views = random_greys(views, settings.contrast, settings.brightness, generator, share)
    return views


def _with_peak(step: Step, plan: Run) -> Step:
    """The last step, with the most memory that the run took of a GPU."""
    if plan.device.type != "cuda":
        return step
    reserved, allocated = (int(plan.ranks.largest(value)) for value in memory_peak(plan.device))
    log.info("GPU memory at its most: %.2f GB taken by PyTorch's allocator, %.2f GB of it in tensors; CUDA's own "
             "context is not counted", reserved / 1e9, allocated / 1e9)
    return replace(step, gpu_reserved=reserved, gpu_allocated=allocated)


def _total_steps(settings: Training, epoch: int) -> int | None:
    """How many steps the run has; None where only its time is known."""
    if settings.epochs is not None:
        return max(1, round(settings.epochs * epoch))
    return settings.steps


def _fraction(learner: Learner, settings: Training, total: int | None, clock: "_Clock") -> float:
    """How much of the run is done, by steps where their number is known, else by time."""
    return learner.step / total if total else clock.agreed() / (60 * (settings.minutes or 1.0))


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


class _Clock:
    """Seconds of training, over all resumes."""

    def __init__(self, before: float, ranks: Ranks):
        self.before, self.started, self.looked = before, time.monotonic(), time.monotonic()
        self.ranks, self.of_first = ranks, before

    def seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    def agreed(self) -> float:
        """Seconds that the run is steered by: of the first rank's clock, as it stood at the last tick."""
        return self.of_first

    def tick(self, step: int) -> None:
        """Look at the clock after `step`; several ranks do so together, and not at every step."""
        if self.ranks.world == 1 or step % LOG_EVERY == 0:
            self.of_first = self.ranks.of_first(self.seconds())

    def rate(self, count: int) -> float:
        """`count` over the time since the last call."""
        now = time.monotonic()
        elapsed, self.looked = now - self.looked, now
        return count / max(elapsed, 1e-9)
