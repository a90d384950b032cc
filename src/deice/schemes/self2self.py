"""Self2Self with dropout (Quan et al. 2020): predict hidden pixels from shown ones, and average many predictions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from deice.errors import RecipeFault
from deice.losses import Criterion, Judged
from deice.schemes.task import Task, fold_views

MASKS = ("points", "blocks")


@dataclass(frozen=True)
class Self2Self:
    """Self2Self(d): one view is enough. A share `p` of its pixels is set to 0, their mean; the others predict them.

    `mask`: points, or blocks of `volumetric_scale_factor` pixels along each axis, whose inside is too far from what is
    shown for correlated noise to be told from it. The estimate is the mean of `predict_N_times` predictions, each with
    another mask and with other units dropped: the network must have dropout (0.7 in F2Fd's comparison, whose names
    these are). It is not the same from tile to tile where two meet: noise of the masks, less with more predictions.
    """

    p: float = 0.3
    mask: str = "points"
    volumetric_scale_factor: int = 8
    predict_N_times: int = 100  # noqa: N815 (the published name)
    usual_loss: ClassVar[str] = "l2"
    noisy_target: ClassVar[bool] = True
    masked: ClassVar[bool] = True
    random_estimate: ClassVar[bool] = True
    usual: ClassVar[dict[str, Any]] = {
        "net": {"name": "unet", "size": 48, "depth": 5, "widest": 48, "dropout": 0.7},
        "training": {"optimiser": "adam", "lr": 1e-4, "weight_decay": 0.0},
    }

    def __post_init__(self):
        if not 0 < self.p < 1 or self.mask not in MASKS:
            raise RecipeFault(f"self2self has p {self.p} and mask {self.mask!r}; expected a share between 0 and 1 and "
                              f"one of {', '.join(MASKS)}")
        if self.volumetric_scale_factor < 1 or self.predict_N_times < 1:
            raise RecipeFault(f"self2self has volumetric_scale_factor {self.volumetric_scale_factor} and "
                              f"predict_N_times {self.predict_N_times}; expected 1 or more of each")

    @property
    def views_needed(self) -> int:
        """A lone image."""
        return 1

    def make(self, views: Tensor, generator: torch.Generator) -> Task:
        """What is shown as input; only what is hidden is judged."""
        picture = fold_views(views)
        shown = self._shown(picture, generator)
        return Task(picture * shown, picture, 1 - shown)

    def _shown(self, picture: Tensor, generator: torch.Generator | None) -> Tensor:
        """1 where `picture` (b, 1, *space) is shown, 0 where it is hidden."""
        side = self.volumetric_scale_factor if self.mask == "blocks" else 1
        coarse = (len(picture), 1, *(-(-size // side) for size in picture.shape[2:]))
        device = generator.device if generator is not None else picture.device
        kept = (torch.rand(coarse, generator=generator, device=device) >= self.p).to(picture)
        whole = interpolate(kept, scale_factor=side, mode="nearest") if side > 1 else kept
        return whole[tuple(slice(size) for size in picture.shape)]

    def loss(self, answer: Tensor, task: Task, criterion: Criterion) -> Judged:
        """Over what was hidden; usually the un-squared L2 norm of each window."""
        return criterion(answer, task.target, task.weight)

    def estimate(self, net: Callable[[Tensor], Tensor], views: Tensor) -> Tensor:
        """Each view by itself: the mean of predictions from what the masks show."""
        picture = fold_views(views)
        answers = torch.zeros_like(picture)
        for _ in range(self.predict_N_times):
            answers += net(picture * self._shown(picture, None))
        return (answers / self.predict_N_times).reshape(views.shape)
