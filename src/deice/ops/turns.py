"""Flips and quarter turns of the trailing axes, only those that leave the physics as it is.

Pictures may be flipped along both axes and turned by quarters: neither the specimen nor the noise of a camera knows a
direction (astigmatism and drift do, but differ from picture to picture). A tomogram's axes are not equal: its missing
wedge lies in the x-z plane about the y axis. No quarter turn, then, as each would lay the wedge elsewhere; and z is
flipped only together with x, because a flip of one alone turns a tilt range of -40 to 60 degrees into one of -60 to 40.
Mirror images of molecules are shown on purpose: their denoising is the same.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

FLIPPED_TOGETHER = {2: ((-2,), (-1,)), 3: ((-2,), (-3, -1))}


def swappable_axes(window: Sequence[int]) -> tuple[int, int] | None:
    """The pair of trailing axes that quarter turns may swap: (y, x) of square pictures; none of a volume."""
    return (-2, -1) if len(window) == 2 and window[0] == window[1] else None


def random_turns(
    views: Tensor, axes: int, swap: tuple[int, int] | None, generator: torch.Generator, share: tuple[int, int] = (0, 1)
) -> Tensor:
    """Flip trailing axes and swap the pair `swap`, each with probability 1/2, sample by sample.

    `views` (b, v, *space): the views of one sample are turned alike. `share` (rank, world): they are every `world`-th
    sample of a batch, beginning with number `rank`, and are turned as they would be in it. Returns a new tensor.
    """
    rank, world = share
    groups = FLIPPED_TOGETHER[axes]
    drawn = torch.rand((world * len(views), len(groups) + 1), generator=generator, device=generator.device)
    choices = drawn[rank::world].cpu() < 0.5
    turned = torch.empty_like(views)
    for sample, (swapped, *flipped) in enumerate(choices.roll(1, 1).tolist()):
        view = views[sample]
        if swap is not None and swapped:
            view = view.transpose(*swap)
        flips = [axis for group, chosen in zip(groups, flipped) if chosen for axis in group]
        turned[sample] = view.flip(flips) if flips else view
    return turned
