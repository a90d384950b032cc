"""Recorrupted-to-Recorrupted (Pang et al. 2021) for one tomogram, its noise measured along the tilt axis."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.losses import Criterion, Judged
from deice.ops.slab_noise import noise_spectrum, noise_with
from deice.schemes.task import Task, fold_views, net_on_each_view

AXES = "zyx"


@dataclass(frozen=True)
class Recorrupted:
    """One reconstruction is enough. Of a window w with noise of covariance C, noise e is drawn with the same C: w + αe
    is the input, w − e/α the target. Their noises are uncorrelated, E[(n + αe)(n − e/α)] = C − C = 0, and of Gaussian
    noise independent: it is Noise2Noise from one volume, unbiased, and the target keeps the signal's full strength.

    C is measured in each window. Noise is counted in the tilt pictures, where it is white along the tilt axis; tilting
    and reconstruction act across it. So the power at a frequency across the axis is the same at all frequencies along
    it, but for the signal, which has none above `noise_above` (cycles per voxel). Weights of any kind across the axis
    and the missing wedge are measured with it. A low-pass filter along the axis is not: the noise below it is missed.
    `strength`: α. `tilt_axis`: z, y or x.
    """

    strength: float = 0.5
    noise_above: float = 0.38
    tilt_axis: str = "y"
    usual_loss: ClassVar[str] = "mse"
    noisy_target: ClassVar[bool] = True
    masked: ClassVar[bool] = False
    volumes_only: ClassVar[bool] = True
    usual: ClassVar[dict[str, Any]] = {"data": {"normaliser": "clipped"}}

    def __post_init__(self):
        if not self.strength > 0 or not 0 < self.noise_above < 0.5:
            raise RecipeFault(f"recorrupted has strength {self.strength} and noise_above {self.noise_above}; expected "
                              "a strength above 0 and a frequency between 0 and 0.5")
        if self.tilt_axis not in tuple(AXES):
            raise RecipeFault(f"recorrupted has tilt_axis {self.tilt_axis!r}; expected z, y or x")

    @property
    def views_needed(self) -> int:
        """A lone volume."""
        return 1

    @property
    def axis(self) -> int:
        """The tilt axis among (b, z, y, x)."""
        return 1 + AXES.index(self.tilt_axis)

    def make(self, views: Tensor, generator: torch.Generator) -> Task:
        """Each window with noise added, and with the same noise taken off."""
        windows = fold_views(views)[:, 0]
        white = torch.randn(windows.shape, generator=generator, device=generator.device).to(windows.device)
        noise = noise_with(noise_spectrum(windows, self.axis, self.noise_above), white, self.axis)
        return Task((windows + self.strength * noise)[:, None], (windows - noise / self.strength)[:, None])

    def loss(self, answer: Tensor, task: Task, criterion: Criterion) -> Judged:
        """Usually by mean squared error, whose minimum under noisy targets is the clean volume."""
        return criterion(answer, task.target)

    def estimate(self, net: Callable[[Tensor], Tensor], views: Tensor) -> Tensor:
        """Each view denoised by itself, no noise added."""
        return net_on_each_view(net, views)
