"""Schemes: how to learn from views, and how to denoise with what was learnt.

A scheme is a frozen dataclass of its own hyper-parameters, which is its configuration. The training loop knows it
only by three questions. The networks it meets are arguments: (b, 1, *space) → (b, 1, *space).

A scheme that needs whole scenes, or an outer loop around training, also answers `Preparing`. One whose estimate is
random says `random_estimate = True`: then dropout stays on while it denoises, tiles are as large as the training's
windows, and what it draws from torch's own generator is a function of the tile. One that learns labels says
`gives_probability = True`: its last view is not normalised, and its estimate is no picture in grey values.

A scheme of the missing wedge says `tilted = True`: then the last two views of each scene are the ramps of its tilt
range (`deice.ops.wedge`), and windows are cubes. In the estimate there are no ramps.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from deice.losses import Criterion, Judged
from deice.schemes.f2fd import F2Fd
from deice.schemes.isonet import IsoNet
from deice.schemes.missing_wedge import MissingWedge
from deice.schemes.noise2noise import Noise2Noise
from deice.schemes.noise2void import Noise2Void
from deice.schemes.recorrupted import Recorrupted
from deice.schemes.segmentation import Segmentation
from deice.schemes.self2self import Self2Self
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


class Preparing(Protocol):
    """What a scheme answers that makes new views of whole scenes: windows are cut from them, and go to `make`.

    Every `refresh` batches the views of each scene are made anew, over the old ones (`deice.prepared`).
    """

    @property
    def refresh(self) -> int:
        """Batches between two preparations."""
        ...

    def kept_while_training(self, views: int) -> int:
        """How many views `prepare` makes of a scene that has `views` of them."""
        ...

    @property
    def kept_for_estimate(self) -> int:
        """How many prepared views (epoch 0, no network) `estimate` sees; 0: it sees the scene's own views."""
        ...

    def prepare(
        self, views: Tensor, epoch: int, generator: torch.Generator, net: Callable[[Tensor], Tensor] | None
    ) -> Iterator[Tensor]:
        """Views (*space) one by one, at least as many as are kept, of one whole normalised scene (v, *space).

        epoch: how often it was asked before. generator: a function of seed, epoch and scene. net: the network as it was
        when the epoch began, (b, 1, *space) → the same, in evaluation mode; None in the first epoch.
        """
        ...


SCHEMES: dict[str, type[Scheme]] = {
    "f2fd": F2Fd,
    "isonet": IsoNet,
    "missing_wedge": MissingWedge,
    "noise2noise": Noise2Noise,
    "noise2void": Noise2Void,
    "recorrupted": Recorrupted,
    "segmentation": Segmentation,
    "self2self": Self2Self,
    "supervised": Supervised,
}

__all__ = [
    "SCHEMES", "F2Fd", "IsoNet", "MissingWedge", "Noise2Noise", "Noise2Void", "Preparing", "Recorrupted", "Scheme",
    "Self2Self", "Supervised", "Task",
]
