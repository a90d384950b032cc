"""Missing wedge, one loop (as DeepDeWedge, Wiedemann & Heckel 2024): denoise and fill in at once, from two halves."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.losses import Criterion, Judged
from deice.ops.wedge import ENDS, ends_of, measured, missing, only, quarter_turns, turned_at_random
from deice.schemes.task import Task, net_on_each_view, one_and_the_others

TURNS = quarter_turns()


@dataclass(frozen=True)
class MissingWedge:
    """Two reconstructions whose noise is independent, each with the two ramps of its tilt range (`deice.ops.wedge`).

    A window of one half is turned, by any of the 24 rotations of a cube, and the microscope's wedge is cut out of it
    again: the input. The same window of the other half, turned alike, is the target, judged only where it was measured
    (its own wedge has turned with it): there the answer is denoised, and where the second wedge hid the input, filled
    in. `filled` weighs the error of the latter; 2, as published. Quarter turns interpolate nothing; the publication
    turns by any angle. The loss judges both after they were weighted in Fourier space: for mse, by Parseval's theorem,
    a weighted mean over coefficients.

    Every `refresh` batches the network of the time fills in the wedges of the whole halves, so that inputs have one
    wedge, as what is denoised in the end, and not two (0: never; then no volume has to fit into memory).
    """

    filled: float = 2.0
    refresh: int = 500
    usual_loss: ClassVar[str] = "mse"
    noisy_target: ClassVar[bool] = True
    masked: ClassVar[bool] = False
    tilted: ClassVar[bool] = True
    kept_for_estimate: ClassVar[int] = 0

    def __post_init__(self):
        if not self.filled > 0 or self.refresh < 0:
            raise RecipeFault(f"missing_wedge has filled {self.filled} and refresh {self.refresh}; expected a weight "
                              "above 0, as 2, and batches between two fillings, 0 for never")

    @property
    def views_needed(self) -> int:
        """An input and a target."""
        return 2

    def kept_while_training(self, views: int) -> int:
        """The halves and the ramps."""
        return views

    def prepare(
        self, views: Tensor, epoch: int, generator: torch.Generator, net: Callable[[Tensor], Tensor] | None
    ) -> Iterator[Tensor]:
        """The halves (z, y, x), filled in where there is a network yet, and the ramps."""
        pair = views[-ENDS:]
        for half in views[:-ENDS]:
            yield half if net is None else half + missing(half, pair, net)
        yield from pair

    def make(self, views: Tensor, generator: torch.Generator) -> Task:
        """One half, turned and cut, as input; the other as target; the task's weight is that of Fourier coefficients:
        (b, 1, z, y, half x)."""
        again = measured(ends_of(views[:, -ENDS:]), views.shape[2:])
        views = turned_at_random(views, TURNS, generator)
        known = measured(ends_of(views[:, -ENDS:]), views.shape[2:])
        one, others = one_and_the_others(views[:, :-ENDS], generator)
        return Task(only(one, again), others, known * (again + self.filled * (1 - again)))

    def loss(self, answer: Tensor, task: Task, criterion: Criterion) -> Judged:
        """Of the measured coefficients, those that the input lacked weighing more."""
        assert task.weight is not None
        amplitude = task.weight.sqrt()
        return criterion(only(answer, amplitude), only(task.target, amplitude))

    def estimate(self, net: Callable[[Tensor], Tensor], views: Tensor) -> Tensor:
        """Each half denoised and filled in by itself."""
        return net_on_each_view(net, views)

