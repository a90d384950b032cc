"""F2Fd (Noise2Noise between Fourier perturbations of one volume, with a dropout ensemble), as published."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.losses import Criterion, Judged
from deice.ops.fourier import frequency_radius, from_half_transform, half_transform
from deice.ops.perturb import ball_radius, conjugate_draws, index_radius
from deice.schemes.task import Task

BALL = (0.05, 0.10)  # of the volume: how many of its lowest frequencies a sample keeps whole, from and to
MASKS = ("faithful", "isotropic")


@dataclass(frozen=True)
class F2Fd:
    """Samples are made of the whole volume: its Fourier coefficients outside a ball of low frequencies are dropped in
    blocks, and single ones are inverted anywhere. One sample is learnt from another. Names are those of the published
    program. Its noise is common to input and target, so what denoises are the masks and the dropout (`net` with
    dropout 0.7); the samples keep about 0.8 of the coefficients in the ball and 0.4 of the others, so amplitudes fade.

    `p`: share of the coefficients that are inverted. `Vmask_pct`: share of the blocks that are dropped.
    `volumetric_scale_factor`: side of a block in coefficients. `total_samples`: samples held at a time, all made anew
    every `refresh` batches. `n_bernoulli_samples`: inputs drawn for each window, and as many targets.
    `total_samples_prediction`: samples denoised, each `predict_N_times / total_samples_prediction` times with other
    units dropped, at most `n_bernoulli_samples_prediction` at once.
    `mask`: faithful, a ball in coefficients counted from zero frequency, which a thin volume cuts off; or isotropic, a
    ball in cycles per pixel. In a cube they are the same.
    """

    p: float = 0.1
    Vmask_pct: float = 0.5
    volumetric_scale_factor: int = 8
    total_samples: int = 20
    n_bernoulli_samples: int = 6
    total_samples_prediction: int = 10
    n_bernoulli_samples_prediction: int = 10
    predict_N_times: int = 100  # noqa: N815 (the published name)
    mask: str = "faithful"
    refresh: int = 500
    usual_loss: ClassVar[str] = "l2"
    noisy_target: ClassVar[bool] = True
    masked: ClassVar[bool] = False
    random_estimate: ClassVar[bool] = True
    usual: ClassVar[dict[str, Any]] = {
        "data": {"normaliser": "clipped", "window": [64]},
        "net": {"name": "unet", "size": 48, "depth": 5, "widest": 48, "dropout": 0.7},
        "training": {"optimiser": "adam", "lr": 1e-4, "weight_decay": 0.0, "warmup": 0.0,
                     "schedule": "plateau", "plateau": 10, "average": 0.0, "clip": 0.0, "batch": 2},
    }

    def __post_init__(self):
        if self.mask not in MASKS:
            raise RecipeFault(f"f2fd has mask {self.mask!r}; expected one of {', '.join(MASKS)}")
        if not (0 <= self.p <= 1 and 0 <= self.Vmask_pct < 1):
            raise RecipeFault(f"f2fd has p {self.p} and Vmask_pct {self.Vmask_pct}; expected shares, 0 to 1")
        counts = {name: getattr(self, name) for name in (
            "volumetric_scale_factor", "total_samples_prediction", "n_bernoulli_samples",
            "n_bernoulli_samples_prediction", "predict_N_times", "refresh")}
        for name, count in counts.items():
            if count < 1:
                raise RecipeFault(f"f2fd has {name} {count}; expected 1 or more")
        if self.total_samples < 2 * self.n_bernoulli_samples:
            raise RecipeFault(f"f2fd has total_samples {self.total_samples} and n_bernoulli_samples "
                              f"{self.n_bernoulli_samples}; expected twice as many samples, for inputs and targets")

    @property
    def views_needed(self) -> int:
        """A lone volume; of several views the mean is taken."""
        return 1

    def kept_while_training(self, views: int) -> int:
        """Samples in the pool, of any number of views."""
        return self.total_samples

    @property
    def kept_for_estimate(self) -> int:
        """Samples that the estimate is made of."""
        return self.total_samples_prediction

    def volumes_in_work(self, space: Sequence[int]) -> float:
        """How many volumes of `space` in float32 `prepare` holds at most, as measured on a GPU.

        A transform takes more where sizes have prime factors above 7.
        """
        return 6.2 if all(_smooth(size) for size in space) else 8.2

    def prepare(
        self, views: Tensor, epoch: int, generator: torch.Generator, net: Callable[[Tensor], Tensor] | None
    ) -> Iterator[Tensor]:
        """Samples (*space) of the mean of `views` (v, *space), without end."""
        space, device = views[0].shape, views.device
        spectrum = half_transform(views.mean(0), len(space))
        del views  # a large volume has its transform, and no room beside it
        while True:
            factors = self._factors(space, generator, device)
            yield from_half_transform(spectrum * factors, space)

    def _factors(self, space: torch.Size, generator: torch.Generator, device: torch.device) -> Tensor:
        """What each coefficient of the half transform is multiplied by: 1, 0 or -1, int8."""
        kept = conjugate_draws(space, generator, device, self.volumetric_scale_factor)[0] >= self.Vmask_pct
        kept |= self._ball(space, generator, device)
        inverted = conjugate_draws(space, generator, device)[0] < self.p
        return inverted.char().mul_(-2).add_(1).mul_(kept)

    def _ball(self, space: torch.Size, generator: torch.Generator, device: torch.device) -> Tensor:
        """The low frequencies that a sample keeps: (*half space) bool."""
        part = torch.rand((), generator=generator, device=generator.device).item()
        if self.mask == "isotropic":
            low, high = (ball_radius(share, 1.0, len(space)) for share in BALL)
            return frequency_radius(space, device) <= low + part * (high - low)
        low, high = (ball_radius(share, prod(space), len(space)) for share in BALL)
        return index_radius(space, device) <= round(low + part * (high - low))

    def make(self, views: Tensor, generator: torch.Generator) -> Task:
        """Of each window (b, samples, *space), other samples as inputs and as targets, all of them pairs."""
        chosen = [torch.randperm(views.shape[1], generator=generator, device=generator.device) for _ in views]
        count = self.n_bernoulli_samples
        drawn = torch.stack([window[order[: 2 * count].to(views.device)] for window, order in zip(views, chosen)])
        inputs, targets = (part.reshape(-1, 1, *views.shape[2:]) for part in drawn.split(count, dim=1))
        return Task(inputs, targets)

    def loss(self, answer: Tensor, task: Task, criterion: Criterion) -> Judged:
        """Usually by the un-squared L2 norm of each window."""
        return criterion(answer, task.target)

    def estimate(self, net: Callable[[Tensor], Tensor], views: Tensor) -> Tensor:
        """The mean (b, 1, *space) over samples (b, k, *space) and over what the network drops."""
        rounds = -(-self.predict_N_times // views.shape[1])
        answers = torch.zeros_like(views[:, :1])
        for _ in range(rounds):
            for samples in views.split(self.n_bernoulli_samples_prediction, dim=1):
                flat = samples.reshape(-1, 1, *views.shape[2:])
                answers += net(flat).reshape(samples.shape).sum(1, keepdim=True)
        return answers / (rounds * views.shape[1])


def _smooth(size: int) -> bool:
    """Whether `size` has no prime factor above 7."""
    for prime in (2, 3, 5, 7):
        while size % prime == 0:
            size //= prime
    return size == 1
