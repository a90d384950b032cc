"""Noise2Void (Krull et al. 2019): predict blind spots from their surroundings, on any number of axes."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from deice.errors import RecipeFault, UserError
from deice.losses import Criterion, Judged
from deice.schemes.task import Task, fold_views, net_on_each_view

AXES = {"z": -3, "y": -2, "x": -1}


@dataclass(frozen=True)
class Noise2Void:
    """One view is enough, if its noise is independent from pixel to pixel; correlated noise is learnt as signal.

    `share` of the pixels is blind in each sample: each pixel by its own draw, so the share asked is the share had, on
    two axes and on three (the published program, n2v 0.3, draws one from each box of edge √(100/percent) on three axes
    too: asked for 1.5 % it hides 0.2 %). A blind pixel shows a random neighbour at most `radius` away along each axis.

    `structure`: how far the noise is correlated along an axis: "z:4" hides four pixels on both sides of each blind one
    along z as well, "y:2+x:1" a cross (StructN2V: Broaddus et al. 2020). What is hidden then shows pixels from anywhere
    in the window, as a neighbour could still carry the same noise; only the blind pixels themselves are judged.
    """

    share: float = 0.01
    radius: int = 5
    structure: str = ""
    usual_loss: ClassVar[str] = "mse"
    noisy_target: ClassVar[bool] = True
    masked: ClassVar[bool] = True

    def __post_init__(self):
        if not 0 < self.share < 1 or self.radius < 1:
            raise RecipeFault(f"noise2void has share {self.share} and radius {self.radius}; "
                              "expected a share between 0 and 1 and a radius of 1 or more")
        self.reaches()

    def reaches(self) -> dict[int, int]:
        """The structure as {axis from the end: pixels on both sides}; RecipeFault for what it cannot be."""
        found = {}
        for arm in filter(None, self.structure.split("+")):
            axis, _, reach = arm.partition(":")
            if axis.strip() not in AXES or not reach.strip().isdecimal() or int(reach) < 1:
                raise RecipeFault(f"noise2void has structure {self.structure!r}; expected an axis among z, y and x and "
                                  "pixels on both sides, as z:4, or several joined by +")
            found[AXES[axis.strip()]] = int(reach)
        return found

    @property
    def views_needed(self) -> int:
        """A lone image."""
        return 1

    def make(self, views: Tensor, generator: torch.Generator) -> Task:
        """Hide the blind spots; only they are judged."""
        picture = fold_views(views)
        draws = torch.rand(picture.shape, generator=generator, device=generator.device).to(views.device)
        blind = draws < self.share
        shown = picture.clone()
        if self.structure:
            hidden = self._with_arms(blind)
            shown[hidden] = _anywhere(picture, hidden, generator)
        else:
            spots = blind.nonzero()  # (n, 2 + axes): sample, channel, position
            shown[blind] = picture[tuple(self._neighbours(spots, picture.shape, generator).unbind(1))]
        return Task(shown, picture, blind.to(picture.dtype))

    def _with_arms(self, blind: Tensor) -> Tensor:
        """`blind` (b, 1, *space) and what lies within the structure's reach of it."""
        hidden = blind.clone()
        for axis, reach in self.reaches().items():
            if -axis > blind.ndim - 2:
                raise RecipeFault(f"noise2void has structure {self.structure!r}; expected y and x only for pictures")
            size = blind.shape[axis]
            for distance in range(1, min(reach, size - 1) + 1):
                near, far = blind.narrow(axis, 0, size - distance), blind.narrow(axis, distance, size - distance)
                hidden.narrow(axis, distance, size - distance).logical_or_(near)
                hidden.narrow(axis, 0, size - distance).logical_or_(far)
        return hidden

    def _neighbours(self, spots: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """A random other position within `radius` of each of `spots` (n, 2 + axes), inside the window."""
        reach = [min(self.radius, (size - 1) // 2) for size in shape[2:]]  # so one of two directions lies inside
        offsets = prod(2 * r + 1 for r in reach)
        if offsets == 1:
            raise UserError(f"windows of {'×'.join(map(str, shape[2:]))} are too small for blind spots; "
                            "expected three pixels or more along an axis")
        drawn = torch.randint(offsets - 1, (len(spots),), generator=generator, device=generator.device)
        drawn = (drawn + (drawn >= offsets // 2)).to(spots.device)  # every offset but the centre, equally likely
        moved = spots.clone()
        for axis, size in enumerate(shape[2:]):
            offset = drawn % (2 * reach[axis] + 1) - reach[axis]
            drawn = drawn // (2 * reach[axis] + 1)
            position = spots[:, 2 + axis]
            outside = (position + offset < 0) | (position + offset >= size)
            moved[:, 2 + axis] = position + torch.where(outside, -offset, offset)
        return moved

    def loss(self, answer: Tensor, task: Task, criterion: Criterion) -> Judged:
        """Over the blind spots."""
        return criterion(answer, task.target, task.weight)

    def estimate(self, net: Callable[[Tensor], Tensor], views: Tensor) -> Tensor:
        """Each view denoised by itself, nothing hidden."""
        return net_on_each_view(net, views)


def _anywhere(picture: Tensor, hidden: Tensor, generator: torch.Generator) -> Tensor:
    """For each True of `hidden` (b, 1, *space) a pixel drawn from the same sample of `picture`: (n,)."""
    samples = hidden.nonzero()[:, 0]
    size = picture[0].numel()
    drawn = torch.randint(size, (len(samples),), generator=generator, device=generator.device).to(picture.device)
    return picture.flatten()[samples * size + drawn]
