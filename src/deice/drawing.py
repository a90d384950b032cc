"""Batches of a world that is drawn while a network trains: no files, no two batches alike, resumable all the same."""

from collections.abc import Generator
from itertools import count

import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.recipe import Recipe
from deice.worlds.drawn import WORLDS


def drawn_batches(
    recipe: Recipe, device: torch.device, start: int, rank: int = 0, world: int = 1
) -> Generator[Tensor]:
    """The part of `rank` (b, 2, *window), noisy and true, of batches from number `start` on, without end.

    Which windows they are is a function of the seed and the batch's number, not of how many ranks there are.
    """
    settings = recipe.training
    for step in count(start):
        yield drawn_batch(recipe, device, settings.seed, step, settings.batch * settings.accumulate, rank, world)


def drawn_batch(
    recipe: Recipe, device: torch.device, seed: int, step: int, windows: int, rank: int = 0, world: int = 1
) -> Tensor:
    """The part of `rank` of batch `step` of `windows` windows: (b, 2, *window), every `world`-th of them.

    Every so many-th window belongs to one group, drawn together; a rank draws the groups that it has a window of.
    How many are drawn together is the world's: the more, the less work for each, but ranks that share a group draw
    it twice.
    """
    drawn = WORLDS[recipe.data.world or ""]()
    groups = -(-windows // drawn.together)
    own = range(windows)[rank::world]
    rows: dict[int, Tensor] = {}
    for group in range(groups):
        members = range(group, windows, groups)
        if not set(members) & set(own):
            continue
        noisy, truth, _ = drawn.draw(len(members), recipe.data.window, (seed, step, group), device)
        rows |= dict(zip(members, torch.cat([noisy, truth], 1)))
    return torch.stack([rows[number] for number in own])


def drawn_validation(
    recipe: Recipe, device: torch.device, most: int, rank: int = 0, world: int = 1
) -> list[Tensor]:
    """The part of `rank` of the batches that a run is judged by, the same every time.

    As many as the recipe asks for and `most` bytes hold of all ranks; drawn on `device`, kept by the processor.
    """
    settings = recipe.training
    kept: list[Tensor] = []
    for number in range(settings.validation_batches):
        if kept and (number + 1) * kept[0].nbytes * world > most:
            break
        kept.append(drawn_batch(recipe, device, settings.seed + 1, number, settings.batch, rank, world).cpu())
    return kept


def check_world(recipe: Recipe) -> None:
    """RecipeFault for what a world that is drawn cannot give."""
    if recipe.data.world is None:
        return
    if recipe.training.epochs is not None:
        raise RecipeFault(f"epochs = {recipe.training.epochs:g} of a world that is drawn without end; "
                          "expected steps or minutes")
    if recipe.training.coarse:
        raise RecipeFault(f"coarse = {recipe.training.coarse}: windows of a world are drawn at one size; expected 0")
