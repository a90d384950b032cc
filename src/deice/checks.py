"""What a recipe asks that its scheme or its data cannot give: said before anything is trained or written."""

import logging
from collections.abc import Sequence

from deice.coarse import coarse_window
from deice.drawing import check_world
from deice.errors import RecipeFault
from deice.recipe import Recipe, name_of
from deice.schemes import Supervised
from deice.sources import Source
from deice.stream import make_order

log = logging.getLogger(__name__)


def check(recipe: Recipe, sources: Sequence[Source]) -> None:
    """RecipeFault for what is impossible together; a warning of a loss that noisy targets mislead."""
    _check_axes(recipe, sources)
    make_order(recipe.data.order, sources, recipe.data.window, recipe.training.batch, recipe.training.seed)
    _check_loss(recipe)
    _check_greys(recipe)
    check_world(recipe)
    _check_coarse(recipe, sources)


def _check_axes(recipe: Recipe, sources: Sequence[Source]) -> None:
    if getattr(recipe.scheme, "volumes_only", False) and len(sources[0].region) != 3:
        raise RecipeFault(f"{sources[0].name}: a picture; {name_of(recipe.scheme)} learns from volumes: use "
                          "noise2void, or --axes zyx if it is a volume")


def _check_loss(recipe: Recipe) -> None:
    scheme, criterion = recipe.scheme, recipe.criterion
    criterion.expect_labels(getattr(scheme, "gives_probability", False))
    if scheme.masked:
        criterion.refuse_masks()
    if scheme.noisy_target:
        for name, why in criterion.biased().items():
            log.warning("loss %s is biased under the noisy targets of %s: %s; mse, l2, gradient and multiscale are not",
                        name, name_of(scheme), why)


def _check_greys(recipe: Recipe) -> None:
    scheme, settings = recipe.scheme, recipe.training
    if getattr(scheme, "gives_probability", False) and (settings.contrast or settings.brightness):
        raise RecipeFault(f"contrast {settings.contrast} and brightness {settings.brightness}: the last view of "
                          f"{name_of(scheme)} holds labels, which have no grey scale; expected 0 and 0")
    if getattr(scheme, "tilted", False) and (settings.contrast or settings.brightness):
        raise RecipeFault(f"contrast {settings.contrast} and brightness {settings.brightness}: the views of "
                          f"{name_of(scheme)} hold its missing wedge, which has no grey scale; expected 0 and 0")
    if isinstance(scheme, Supervised) and not scheme.directed and scheme.noise != "gaussian" and settings.brightness:
        raise RecipeFault(f"brightness {settings.brightness}: it would make the rates negative that {scheme.noise} "
                          "noise is drawn from; expected 0 (contrast is the dose, and may vary)")


def _check_coarse(recipe: Recipe, sources: Sequence[Source]) -> None:
    scheme, coarse = recipe.scheme, recipe.training.coarse
    whole = ("tilted", "refresh", "gives_probability")
    if coarse and any(getattr(scheme, name, False) for name in whole):
        raise RecipeFault(f"coarse = {coarse}: {name_of(scheme)} learns at full resolution only; expected 0")
    if coarse:
        coarse_window(sources, recipe.data.window, recipe.network.stride, coarse)
