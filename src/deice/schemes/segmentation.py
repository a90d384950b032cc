"""Segmentation: learn where labelled things are, from volumes or pictures and their labels (`--target`)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.losses import Criterion, Judged
from deice.schemes.task import Task, net_on_each_view


@dataclass(frozen=True)
class Segmentation:
    """The last view holds labels, which are not normalised; `labels`: those that are asked for, all as one class.

    The network answers in logits, the estimate is a probability. A model of it segments (`deice segment`) and does not
    denoise.
    """

    labels: tuple[int, ...] = (1,)
    usual_loss: ClassVar[str] = "bce+dice"
    noisy_target: ClassVar[bool] = False
    masked: ClassVar[bool] = False
    gives_probability: ClassVar[bool] = True

    def __post_init__(self):
        if not self.labels or min(self.labels) < 1:
            raise RecipeFault(f"segmentation has labels {list(self.labels)}; expected numbers above 0, background")

    @property
    def views_needed(self) -> int:
        """A volume and its labels."""
        return 2

    def make(self, views: Tensor, generator: torch.Generator) -> Task:
        """The mean of what was measured, and 1 where one of the labels is."""
        wanted = torch.tensor(self.labels, dtype=views.dtype, device=views.device)
        return Task(views[:, :-1].mean(1, keepdim=True), torch.isin(views[:, -1:], wanted).to(views.dtype))

    def loss(self, answer: Tensor, task: Task, criterion: Criterion) -> Judged:
        """A loss of labels: bce, dice, or both."""
        return criterion(answer, task.target)

    def estimate(self, net: Callable[[Tensor], Tensor], views: Tensor) -> Tensor:
        """How likely each voxel of each view is one of the labels, 0 to 1."""
        return torch.sigmoid(net_on_each_view(net, views))
