"""Schemes: how to learn from views, and how to denoise with what was learnt.

A scheme is a frozen dataclass of its own hyper-parameters, which is its configuration. The training loop knows it
only by three questions. The networks it meets are arguments: (b, 1, *space) → (b, 1, *space).
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from deice.losses import Criterion, Judged
from deice.schemes.noise2noise import Noise2Noise
from deice.schemes.noise2void import Noise2Void
from deice.schemes.supervised import Supervised
from deice.schemes.task import Task


class Scheme(Protocol):
    """`views` are (b, v, *space), normalised; every random number comes from `generator`."""

    @property
    def views_needed(self) -> int:
        """How many views a scene must have to be trained on."""
        ...

    @property
    def usual_loss(self) -> str:
        """The loss that it learns by where no other is asked for, as `losses.Criterion` reads it."""
        ...

    @property
    def noisy_target(self) -> bool:
        """Whether targets are noisy, so that a loss that is not quadratic in them is biased."""
        ...

    @property
    def masked(self) -> bool:
        """Whether its tasks have a `weight`, which not every loss can honour."""
        ...

    def make(self, views: Tensor, generator: torch.Generator) -> Task:
        """Views → what the network is asked."""
        ...

    def loss(self, answer: Tensor, task: Task, criterion: Criterion) -> Judged:
        """How wrong the network's answer is by `criterion`; a penalty of the scheme's own may be added."""
        ...

    def estimate(self, net: Callable[[Tensor], Tensor], views: Tensor) -> Tensor:
        """Denoised pictures (b, k, *space), one for each view that is used; their mean is the estimate."""
        ...


SCHEMES: dict[str, type[Scheme]] = {
    "noise2noise": Noise2Noise,
    "noise2void": Noise2Void,
    "supervised": Supervised,
}

__all__ = ["SCHEMES", "Noise2Noise", "Noise2Void", "Scheme", "Supervised", "Task"]
