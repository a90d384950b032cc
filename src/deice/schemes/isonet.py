"""Missing wedge, iterated (as IsoNet, Liu et al. 2022): fill in, turn, cut the wedge again, learn to undo it; again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.losses import Criterion, Judged
from deice.ops.wedge import ENDS, ends_of, measured, missing, only, quarter_turns, turned_at_random
from deice.schemes.task import Task, fold_views, net_on_each_view

TURNS = quarter_turns(moving=True)


@dataclass(frozen=True)
class IsoNet:
    """One reconstruction with the two ramps of its tilt range (`deice.ops.wedge`).

    Every `refresh` batches, an iteration, the network of the time fills in the wedge of the whole volume. A window of
    that, turned by one of the 20 rotations of a cube that move an axis, is the target; with the microscope's wedge cut
    out of it again, the input. Halves are learnt from each by itself: their independence is not used.
    `noise_start_iter`: iterations from which noise as a reconstruction would hold it is added to the input, so that the
    network learns to denoise as well; `noise_level`: its standard deviations, in those of the volume.

    Two things differ from the published program. While nothing has been filled in (in the first iteration, and when it
    validates), only what was measured of the target is judged, or the best network would be one that fills in nothing.
    The noise is white but for the wedge (its "noFilter"), and drawn anew in each iteration.
    """

    refresh: int = 500
    noise_level: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2)
    noise_start_iter: tuple[int, ...] = (11, 16, 21, 26)
    usual_loss: ClassVar[str] = "l1"
    noisy_target: ClassVar[bool] = False  # it is: but its noise is the input's own, and is kept by any loss
    masked: ClassVar[bool] = False
    tilted: ClassVar[bool] = True
    kept_for_estimate: ClassVar[int] = 0

    def __post_init__(self):
        if self.refresh < 1:
            raise RecipeFault(f"isonet has refresh {self.refresh}; expected 1 batch or more between two iterations")
        if len(self.noise_level) != len(self.noise_start_iter) or min(self.noise_level, default=0) < 0:
            raise RecipeFault(f"isonet has noise_level {list(self.noise_level)} and noise_start_iter "
                              f"{list(self.noise_start_iter)}; expected as many levels, 0 or more, as iterations")

    @property
    def views_needed(self) -> int:
        """A lone tomogram."""
        return 1

    def kept_while_training(self, views: int) -> int:
        """What was measured, what was filled in, the noise of the input; the ramps."""
        return 3 * (views - ENDS) + ENDS

    def prepare(
        self, views: Tensor, epoch: int, generator: torch.Generator, net: Callable[[Tensor], Tensor] | None
    ) -> Iterator[Tensor]:
        """Each view (z, y, x) itself; what the network puts into the wedge of each; noise for each; the ramps."""
        volumes, pair = views[:-ENDS], views[-ENDS:]
        yield from volumes
        for volume in volumes:
            yield torch.zeros_like(volume) if net is None else missing(volume, pair, net)
        level = max((level for level, start in zip(self.noise_level, self.noise_start_iter) if epoch + 1 >= start),
                    default=0.0)  # fmt: skip
        for volume in volumes:
            noise = torch.randn(volume.shape, generator=generator, device=generator.device).to(volume.device)
            recorded = only(noise[None, None], measured(ends_of(pair[None]), volume.shape))[0, 0]
            yield level / recorded.std() * recorded
        yield from pair

    def make(self, views: Tensor, generator: torch.Generator) -> Task:
        """The filled window, turned, as target; cut and with noise as input. The task's weight is that of Fourier
        coefficients: (b, 1, z, y, half x)."""
        count, space = (views.shape[1] - ENDS) // 3, views.shape[2:]
        again = measured(ends_of(views[:, -ENDS:]), space)
        noise = fold_views(views[:, 2 * count : 3 * count])
        guess = views[:, count : 2 * count]
        empty = (guess == 0).flatten(1).all(1).reshape(-1, 1, 1, 1, 1)
        moved = turned_at_random(torch.cat([views[:, :count] + guess, views[:, -ENDS:]], dim=1), TURNS, generator)
        weight = torch.where(empty, measured(ends_of(moved[:, -ENDS:]), space), 1.0)
        again, weight = (mask.repeat_interleave(count, dim=0) for mask in (again, weight))
        target = fold_views(moved[:, :-ENDS])
        return Task(only(target, again) + noise, target, weight)

    def loss(self, answer: Tensor, task: Task, criterion: Criterion) -> Judged:
        """Of the coefficients that are judged; usually the mean absolute difference."""
        assert task.weight is not None
        return criterion(only(answer, task.weight), only(task.target, task.weight))

    def estimate(self, net: Callable[[Tensor], Tensor], views: Tensor) -> Tensor:
        """Each view filled in by itself."""
        return net_on_each_view(net, views)
