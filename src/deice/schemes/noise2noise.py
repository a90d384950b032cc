"""Noise2Noise (Lehtinen et al. 2018): learn one noisy view from another with independent noise."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deice.losses import Criterion, Judged
from deice.schemes.task import Task, net_on_each_view, one_and_the_others


@dataclass(frozen=True)
class Noise2Noise:
    """Movie halves, even/odd tomograms, or any views of one scene whose noise is independent.

    Each sample asks for the mean of the other views from one view, drawn afresh. `directed`: the last view is the
    target, always (a pair of unequal quality, `--target`); then only the other views are denoised.

    `of_average`: the average of a scene's views is denoised, rather than each view and the answers averaged: half the
    work. Where it is left open, so of pictures and not of volumes: in the quality suite it is the better of the two for
    pictures, the more so the fainter they are, and distorts the lowest frequencies of volumes.
    """

    directed: bool = False
    of_average: bool | None = None
    usual_loss: ClassVar[str] = "mse"
    noisy_target: ClassVar[bool] = True
    masked: ClassVar[bool] = False

    @property
    def views_needed(self) -> int:
        """An input and a target."""
        return 2

    def averages(self, axes: int) -> bool:
        """Whether the views of an image of so many axes are averaged before they are denoised."""
        return not self.directed and (axes == 2 if self.of_average is None else self.of_average)

    def make(self, views: Tensor, generator: torch.Generator) -> Task:
        """One view as input, the mean of the others as target."""
        if self.directed:
            return Task(views[:, :-1].mean(1, keepdim=True), views[:, -1:])
        return Task(*one_and_the_others(views, generator))

    def loss(self, answer: Tensor, task: Task, criterion: Criterion) -> Judged:
        """Usually by mean squared error, whose minimum under noisy targets is the clean picture."""
        return criterion(answer, task.target)

    def estimate(self, net: Callable[[Tensor], Tensor], views: Tensor) -> Tensor:
        """Each view denoised by itself, as it was in training."""
        return net_on_each_view(net, views)
