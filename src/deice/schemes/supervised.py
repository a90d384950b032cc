"""Supervised: clean pictures with synthetic noise drawn afresh each time, or measured pairs of noisy and clean."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.losses import Criterion, Judged
from deice.schemes.task import Task, fold_views, net_on_each_view

NOISES = ("gaussian", "poisson", "mixed")


@dataclass(frozen=True)
class Supervised:
    """`noise`: gaussian (standard deviation `sigma`), poisson (poisson(clean·counts)/counts), mixed (both), in
    normalised grey values; poisson wants the `percentile` or `none` normaliser, whose values are rates ≥ 0.
    `unit_input`: clean pictures of unit variance are scaled down with their noise to a noisy picture of unit variance,
    as the standard normaliser will give it when it denoises; False for the other normalisers.
    `directed`: no noise is added, the last view is the clean target of the others (`--target`).
    """

    noise: str = "gaussian"
    sigma: float = 0.25
    counts: float = 100.0
    unit_input: bool = True
    directed: bool = False
    usual_loss: ClassVar[str] = "mse"
    noisy_target: ClassVar[bool] = False
    masked: ClassVar[bool] = False

    def __post_init__(self):
        if self.noise not in NOISES:
            raise RecipeFault(f"supervised noise is {self.noise!r}; expected one of {', '.join(NOISES)}")
        if self.sigma < 0 or self.counts <= 0:
            raise RecipeFault(f"supervised noise has sigma {self.sigma} and counts {self.counts}; "
                              "expected sigma ≥ 0 and counts > 0")

    @property
    def views_needed(self) -> int:
        """A clean picture; a noisy one with it where pairs were measured."""
        return 2 if self.directed else 1

    def make(self, views: Tensor, generator: torch.Generator) -> Task:
        """Clean pictures with fresh noise, or the pair as measured."""
        if self.directed:
            return Task(views[:, :-1].mean(1, keepdim=True), views[:, -1:])
        clean = fold_views(views)
        scale = (1 + self.sigma**2) ** -0.5 if self.unit_input and self.noise == "gaussian" else 1.0
        return Task(scale * self._noisy(clean, generator), scale * clean)

    def _noisy(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        noisy = clean
        if self.noise in ("poisson", "mixed"):
            rate = (clean.clamp_min(0) * self.counts).to(generator.device)
            noisy = (torch.poisson(rate, generator=generator) / self.counts).to(clean.device)
        if self.noise in ("gaussian", "mixed"):
            draws = torch.randn(clean.shape, generator=generator, device=generator.device)
            noisy = noisy + self.sigma * draws.to(clean.device)
        return noisy

    def loss(self, answer: Tensor, task: Task, criterion: Criterion) -> Judged:
        """Any loss will do, as far as the target is clean."""
        return criterion(answer, task.target)

    def estimate(self, net: Callable[[Tensor], Tensor], views: Tensor) -> Tensor:
        """Each view denoised by itself."""
        return net_on_each_view(net, views)
