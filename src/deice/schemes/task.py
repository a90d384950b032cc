"""A task: what a scheme asks of the network."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Task:
    """`input` and `target` (b, 1, *space); `weight` of the same shape where only part of the answer is judged.

    A scheme that judges Fourier coefficients keeps their weights there, (b, 1, *half space), and applies them itself.
    """

    input: Tensor
    target: Tensor
    weight: Tensor | None = None

    def parts(self, count: int) -> list["Task"]:
        """The task taken apart by samples, into `count` parts or fewer."""
        weights = [None] * count if self.weight is None else self.weight.chunk(count)
        return [Task(*part) for part in zip(self.input.chunk(count), self.target.chunk(count), weights)]

    def share(self, rank: int, world: int, windows: int) -> "Task":
        """The part that is made of every `world`-th of the `windows`, beginning with number `rank`."""
        def own(tensor: Tensor) -> Tensor:
            return tensor.unflatten(0, (windows, -1))[rank::world].flatten(0, 1)

        return Task(own(self.input), own(self.target), None if self.weight is None else own(self.weight))


def fold_views(views: Tensor) -> Tensor:
    """(b, v, *space) → (b·v, 1, *space): every view a sample of its own."""
    return views.reshape(-1, 1, *views.shape[2:])


def net_on_each_view(net, views: Tensor) -> Tensor:
    """(b, v, *space) → (b, v, *space): the network's answer to each view by itself."""
    return net(fold_views(views)).reshape(views.shape)


def one_and_the_others(views: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(b, v, *space) → one view of each sample, drawn afresh, and the mean of its others: (b, 1, *space) twice."""
    count = views.shape[1]
    samples = torch.arange(len(views), device=views.device)
    chosen = torch.randint(count, (len(views),), generator=generator, device=generator.device).to(views.device)
    one = views[samples, chosen].unsqueeze(1)
    return one, (views.sum(1, keepdim=True) - one) / (count - 1)
