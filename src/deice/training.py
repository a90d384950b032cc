"""Training: the loop, which knows schemes by their three questions and yields one Step per step."""

import logging
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
from deice.devices import (
    autocast,
    available_memory,
    choose_device,
    choose_precision,
    is_out_of_memory,
    limit_memory,
    memory_peak,
    put,
)
from deice.drawing import drawn_batches, drawn_validation
from deice.errors import MemoryFault, RecipeFault, UserError
from deice.groups import bytes_of
from deice.learner import Learner, asked
from deice.losses import Judged, mean_of
from deice.opening import Opened, open_for_training
from deice.ops.greys import random_greys
from deice.ops.turns import random_turns, swappable_axes
from deice.prepared import Prepared, prepared_batches
from deice.pretrained import PRETRAINED, packaged
from deice.ranks import Ranks, joined
from deice.recipe import Recipe, Training, completed, from_table, merged, to_table
from deice.runs import Run, Step, prepare_folder, record
from deice.schedules import octaves
from deice.sources import Source, fit_window, split_sources
from deice.stream import RandomOrder, Stream, make_order, steps_per_epoch

log = logging.getLogger(__name__)

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
            recipe, start = _beginning(recipe, start, opened.axes)
            plan, training, validation = _planned(recipe, opened, out, where, ranks)
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
            raise _too_large(plan, max_memory) from error
        with ranks.together():
            log.debug("rank %d is done", ranks.rank)


def _beginning(recipe: Recipe, start: Path | str | None, axes: int) -> tuple[Recipe, Path | str | None]:
    """The model that the run begins from; a recipe that names no net takes the net of that model."""
    if start == PRETRAINED:
        start = packaged(axes)
    if start is not None and recipe.net is None:
        recipe = replace(recipe, net=load_model(start).net)
    return recipe, start


def _planned(
    recipe: Recipe, opened: Opened, out: Path | str | None, where: torch.device, ranks: Ranks
) -> tuple[Run, list, list]:
    """The run with its recipe completed, and the sources of training and validation."""
    recipe = completed(replace(recipe, scheme=opened.scheme), opened.axes)
    window = fit_window([*opened.training, *opened.validation], recipe.data.window, recipe.network.stride)
    if getattr(recipe.scheme, "tilted", False):
        window = (min(window),) * opened.axes  # cubes: they are turned onto themselves
    recipe = replace(recipe, data=replace(recipe.data, window=window))
    training, validation = _split(opened, recipe)
    _say_if_larger_than_memory(training, recipe.data.order)
    check(recipe, training)
    _check_ranks(recipe.training, where, ranks)
    plan = Run(recipe, None if out is None else Path(out), where,
               choose_precision(recipe.training.precision, where), opened.axes, opened.pixel_size, ranks)
    return plan, training, validation


def _say_if_larger_than_memory(sources: Sequence[Source], order: str) -> None:
    """A word where windows at random would be cut from cold pages again and again."""
    size, left = sum(map(bytes_of, sources)), available_memory()
    if order == "random" and size > left:
        log.info("%.0f GB of images, and %.0f GB of memory are free: --order window reads files whole and "
                 "in order, which disks are faster at", size / 1e9, left / 1e9)


def _check_ranks(settings: Training, where: torch.device, ranks: Ranks) -> None:
    """RecipeFault for a batch that cannot be shared equally; a word where GPUs are left idle."""
    batch, world = settings.batch, ranks.world
    if batch % world:
        raise RecipeFault(f"a batch of {batch} windows for {world} ranks; expected the same number for each: use "
                          f"--batch {-(-batch // world) * world}")
    gpus = torch.cuda.device_count() if where.type == "cuda" else 1
    if world == 1 and gpus > 1:
        log.info("one of %d GPUs is used; for all: torchrun --nproc-per-node %d -m deice train …", gpus, gpus)


def _too_large(plan: Run, max_memory: int | None) -> MemoryFault:
    settings, window = plan.recipe.training, "×".join(map(str, plan.recipe.data.window))
    granted = f"{max_memory / 1e9:.3g} GB granted" if max_memory else f"memory of {plan.device}"
    return MemoryFault(f"{settings.batch // plan.ranks.world} windows of {window} at once do not fit into the "
                       f"{granted}; use a smaller --batch (accumulate = {2 * settings.accumulate} in the recipe makes "
                       "up for half of it), or a smaller --patch")


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
                mean = _over_ranks(mean_of(losses), plan.ranks)
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
    return prepared_batches(_prepared(plan, sources, plan.recipe.training.seed), order, learner.step,
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


def _over_ranks(judged: Judged, ranks: Ranks) -> Judged:
    """What was found, averaged over the ranks: as many windows were judged on each."""
    if ranks.world == 1:
        return judged
    total, *terms = ranks.mean([float(judged.total), *(float(value) for value in judged.terms.values())])
    return Judged(torch.tensor(total), dict(zip(judged.terms, map(torch.tensor, terms))))


def _with_peak(step: Step, plan: Run) -> Step:
    """The last step, with the most memory that the run took of a GPU."""
    if plan.device.type != "cuda":
        return step
    reserved, allocated = (int(plan.ranks.largest(value)) for value in memory_peak(plan.device))
    log.info("GPU memory at its most: %.2f GB taken by PyTorch's allocator, %.2f GB of it in tensors; CUDA's own "
             "context is not counted", reserved / 1e9, allocated / 1e9)
    return replace(step, gpu_reserved=reserved, gpu_allocated=allocated)


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


def generator_for(device: torch.device, seed: int, step: int, rank: int = 0) -> torch.Generator:
    """The random numbers of one step, a function of (seed, step): none is saved. Dropout is seeded too, by rank."""
    mixed = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(mixed + rank)
    return torch.Generator(device).manual_seed(mixed)


def validation_batches(plan: Run, sources: Sequence[Source]) -> list[Tensor]:
    """The same windows every time, so that two validations differ by the weights alone; kept within a fixed memory.

    Each rank has its part of every batch.
    """
    settings, window = plan.recipe.training, plan.recipe.data.window
    if plan.recipe.data.world:
        return drawn_validation(plan.recipe, plan.device, VALIDATION_BYTES, plan.ranks.rank, plan.ranks.world)
    order = RandomOrder(sources, window, settings.batch, settings.seed + 1)
    if getattr(plan.recipe.scheme, "refresh", 0):
        prepared = _prepared(plan, sources, settings.seed + 1)
        prepared.fill(0, None)
        batches = prepared.batches(order, 0, plan.ranks)
    else:
        batches = Stream(sources, order, torch.device("cpu"), 0, plan.ranks, plan.recipe.data.threads, 1).batches()
    with closing(batches):
        kept = [next(batches).cpu().clone()]
        count = min(settings.validation_batches, VALIDATION_BYTES // (kept[0].nbytes * plan.ranks.world))
        return kept + [batch.cpu().clone() for batch in islice(batches, max(0, count - 1))]


@torch.no_grad()
def validate(module: nn.Module, batches: Sequence[Tensor], plan: Run) -> Judged:
    """What the run is judged by, over the validation windows: the mean over `batches`, and over the ranks."""
    recipe = plan.recipe
    found = []
    for number, views in enumerate(batches):
        generator = generator_for(plan.device, recipe.training.seed + 1, number)
        task = asked(recipe.scheme, views.to(plan.device), generator, plan.ranks)
        with autocast(plan.device, plan.precision):
            answer = module(put(task.input))
        found.append(recipe.scheme.loss(answer.float(), task, recipe.criterion))
    return _over_ranks(mean_of(found), plan.ranks)


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
