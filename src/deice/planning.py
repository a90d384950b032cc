"""Planning: a run's recipe completed for its data, the data split; what is impossible is refused before any work."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from deice.checkpoint import load_model
from deice.checks import check
from deice.devices import available_memory, choose_precision
from deice.errors import MemoryFault, RecipeFault
from deice.groups import bytes_of
from deice.opening import Opened
from deice.pretrained import PRETRAINED, packaged
from deice.ranks import Ranks
from deice.recipe import Recipe, Training, completed
from deice.runs import Run
from deice.sources import Source, fit_window, split_sources

log = logging.getLogger(__name__)


def beginning(recipe: Recipe, start: Path | str | None, axes: int) -> tuple[Recipe, Path | str | None]:
    """The model that the run begins from; a recipe that names no net takes the net of that model."""
    if start == PRETRAINED:
        start = packaged(axes)
    if start is not None and recipe.net is None:
        recipe = replace(recipe, net=load_model(start).net)
    return recipe, start


def planned(
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


def too_large(plan: Run, max_memory: int | None) -> MemoryFault:
    """What to say of a run that does not fit into the memory that it is granted."""
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
