"""Noise2Self in Fourier space: coefficients that were hidden are predicted from those that were shown."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.losses import Criterion, Judged
from deice.ops.fourier import from_half_transform, half_transform
from deice.ops.perturb import conjugate_draws
from deice.schemes.task import Task, fold_views, net_on_each_view


@dataclass(frozen=True)
class FourierSplit:
    """One view is enough, if its noise is stationary, white or not, as the noise of a reconstruction nearly is.

    Different Fourier coefficients of stationary noise are uncorrelated. So the coefficients of each window are split
    at random in two: the network is shown some, scaled by one over their share so that the signal keeps its strength,
    and judged by the others only, which hold noise that it was not shown. Its best answer is then the mean of what the
    hidden coefficients can be, given the shown ones: the signal (Batson & Royer 2019, Noise2Self, with J a set of
    Fourier coefficients). The shown share is drawn anew for each window, from `lowest` to `highest`, so that the whole
    view, which is denoised in the end, is not far from what the network learnt.
    `block`: so many neighbouring coefficients along each axis are hidden together.
    """

    lowest: float = 0.4
    highest: float = 0.8
    block: int = 1
    usual_loss: ClassVar[str] = "mse"
    noisy_target: ClassVar[bool] = True
    masked: ClassVar[bool] = False

    def __post_init__(self):
        if not 0 < self.lowest <= self.highest < 1 or self.block < 1:
            raise RecipeFault(f"fourier_split has lowest {self.lowest}, highest {self.highest} and block {self.block}; "
                              "expected shares 0 < lowest <= highest < 1 and a block of 1 or more")

    @property
    def views_needed(self) -> int:
        """A lone volume."""
        return 1

    def make(self, views: Tensor, generator: torch.Generator) -> Task:
        """Show some coefficients of each window; the others are the target. `weight`: 1 where hidden (b, 1, *half)."""
        picture = fold_views(views)
        space, count = picture.shape[2:], len(picture)
        share = torch.rand((count,), generator=generator, device=generator.device).to(views.device)
        share = (self.lowest + (self.highest - self.lowest) * share).reshape(-1, *(1,) * (len(space) + 1))
        draws = conjugate_draws(space, generator, views.device, self.block, count).unsqueeze(1)
        hidden = (draws >= share).to(picture.dtype)
        hidden[(..., *(0,) * len(space))] = 0  # the mean of a window is hardly noisy
        spectrum = half_transform(picture, len(space))
        target = from_half_transform(spectrum * hidden, space)
        return Task((picture - target) / share, target, hidden)

    def loss(self, answer: Tensor, task: Task, criterion: Criterion) -> Judged:
        """Of the answer, the hidden coefficients are judged."""
        assert task.weight is not None
        space = answer.shape[2:]
        hidden = from_half_transform(half_transform(answer, len(space)) * task.weight, space)
        return criterion(hidden, task.target)

    def estimate(self, net: Callable[[Tensor], Tensor], views: Tensor) -> Tensor:
        """Each view denoised by itself, nothing hidden."""
        return net_on_each_view(net, views)
