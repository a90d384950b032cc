"""A task: what a scheme asks of the network."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Task:
    """`input` and `target` (b, 1, *space); `weight` of the same shape where only part of the answer is judged."""

    input: Tensor
    target: Tensor
    weight: Tensor | None = None


def fold_views(views: Tensor) -> Tensor:
    """(b, v, *space) → (b·v, 1, *space): every view a sample of its own."""
    return views.reshape(-1, 1, *views.shape[2:])


def net_on_each_view(net, views: Tensor) -> Tensor:
    """(b, v, *space) → (b, v, *space): the network's answer to each view by itself."""
    return net(fold_views(views)).reshape(views.shape)
