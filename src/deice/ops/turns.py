"""Flips and quarter turns of the trailing axes, only between axes that may be swapped.

A tomogram's axes are not equal (the missing wedge lies in the x-z plane), so by default its axes are flipped only.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def swappable_axes(window: Sequence[int]) -> tuple[int, int] | None:
    """The pair of trailing axes that quarter turns may swap: (y, x) of square pictures; none of a volume."""
    return (-2, -1) if len(window) == 2 and window[0] == window[1] else None


def random_turns(views: Tensor, axes: int, swap: tuple[int, int] | None, generator: torch.Generator) -> Tensor:
    """Flip each trailing axis and swap the pair `swap`, each with probability 1/2, sample by sample.

    `views` (b, v, *space): the views of one sample are turned alike. Returns a new tensor.
    """
    choices = torch.rand((views.shape[0], axes + 1), generator=generator, device=generator.device).cpu() < 0.5
    turned = torch.empty_like(views)
    for sample, choice in enumerate(choices.tolist()):
        view = views[sample]
        if swap is not None and choice[axes]:
            view = view.transpose(*swap)
        flips = [axis - axes for axis in range(axes) if choice[axis]]
        turned[sample] = view.flip(flips) if flips else view
    return turned
