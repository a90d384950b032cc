"""Validation: the windows that a run is judged by, and the judgement, shared by the ranks."""

import tempfile
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deice.devices import autocast, put
from deice.drawing import drawn_validation
from deice.learner import asked, generator_for
from deice.losses import Judged, mean_of
from deice.prepared import Prepared
from deice.ranks import Ranks
from deice.runs import Run
from deice.sources import Source
from deice.stream import RandomOrder, Stream

VALIDATION_BYTES = 1 << 26  # at most so much memory for the fixed validation windows


def validation_batches(plan: Run, sources: Sequence[Source]) -> list[Tensor]:
    """The same windows every time, so that two validations differ by the weights alone; kept within a fixed memory.

    Each rank has its part of every batch.
    """
    settings, window = plan.recipe.training, plan.recipe.data.window
    if plan.recipe.data.world:
        return drawn_validation(plan.recipe, plan.device, VALIDATION_BYTES, plan.ranks.rank, plan.ranks.world)
    order = RandomOrder(sources, window, settings.batch, settings.seed + 1)
    if getattr(plan.recipe.scheme, "refresh", 0):
        prepared = prepared_for(plan, sources, settings.seed + 1)
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
    return over_ranks(mean_of(found), plan.ranks)


def over_ranks(judged: Judged, ranks: Ranks) -> Judged:
    """What was found, averaged over the ranks: as many windows were judged on each."""
    if ranks.world == 1:
        return judged
    total, *terms = ranks.mean([float(judged.total), *(float(value) for value in judged.terms.values())])
    return Judged(torch.tensor(total), dict(zip(judged.terms, map(torch.tensor, terms))))


def prepared_for(plan: Run, sources: Sequence[Source], seed: int) -> Prepared:
    """Room for the views that the scheme makes of `sources`; their random numbers follow from `seed`."""
    scheme: Any = plan.recipe.scheme
    kept = scheme.kept_while_training(len(sources[0].views))
    return Prepared(scheme, sources, kept, plan.device, plan.out or Path(tempfile.gettempdir()), seed)
