"""Schemes: how to learn from views, and how to denoise with what was learnt.

A scheme is a frozen dataclass of its own hyper-parameters, which is its configuration. The training loop knows it
only by three questions. The networks it meets are arguments: (b, 1, *space) → (b, 1, *space).
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

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

    def make(self, views: Tensor, generator: torch.Generator) -> Task:
        """Views → what the network is asked."""
        ...

    def loss(self, answer: Tensor, task: Task) -> Tensor:
        """How wrong the network's answer is: a scalar."""
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
