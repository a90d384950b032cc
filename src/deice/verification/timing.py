"""How long a training step takes: the fast path against the plain reference, step by step in turn."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from deice.checkpoint import Model
from deice.devices import choose_device
from deice.nets.reference import Pass
from deice.verification.paths import (
    learnt,
    lower_precisions,
    placed_copy,
    plain_copies,
    reference_of,
    shape_compared,
    step_of,
    step_of_reference,
)

MOST_STEPS, LEAST_STEPS, SECONDS = 20, 3, 10.0


@dataclass(frozen=True)
class Timing:
    """Medians in milliseconds of a step (answer, loss, gradients) on `shape` (b, 1, *window); `ratio`: fast path over
    the reference, which runs in fp32 as PyTorch runs it by default.
    """

    precision: str
    shape: tuple[int, ...]
    fast_ms: float
    reference_ms: float
    ratio: float


def time_steps(model: Model, device: str = "auto") -> list[Timing]:
    """A timing in fp32 and one at the precision that this device would choose.

    On a GPU, of the batch and window that the model was trained with; on the CPU, of the small one that is compared.
    """
    where = choose_device(device)
    data, batch = model.recipe.data, model.recipe.training.batch
    trained = (batch, 1, *data.window) if batch and len(data.window) == model.axes else None
    shape = trained if trained and where.type == "cuda" else shape_compared(model)
    pictures, targets = (torch.randn(shape, device=where) for _ in range(2))
    net, fast = reference_of(model), placed_copy(model, where)
    weights = learnt(plain_copies(model.module.state_dict(), where), fast)
    precisions = {"fp32": torch.float32} | lower_precisions(where)
    precisions.pop("tf32", None)  # both run fp32 as PyTorch does by default, on a GPU with it

    def by_reference() -> None:
        for tensor in weights.values():
            tensor.grad = None
        step_of_reference(net, Pass(weights, training=True), pictures, targets)

    def by_fast_path(precision: torch.dtype) -> Callable[[], object]:
        return lambda: step_of(fast, pictures, targets, precision)

    took = _medians([by_reference, *(by_fast_path(precision) for precision in precisions.values())], where)
    return [Timing(name, shape, fast_ms, took[0], fast_ms / took[0]) for name, fast_ms in zip(precisions, took[1:])]


def _medians(steps: list[Callable[[], object]], device: torch.device) -> list[float]:
    """Median milliseconds of each of `steps`, taken in turn so that a busy machine is busy for all of them."""
    took: list[list[float]] = [[] for _ in steps]
    begun = time.perf_counter()
    for number in range(MOST_STEPS + 1):
        if number > LEAST_STEPS and time.perf_counter() - begun > SECONDS:
            break
        for step, times in zip(steps, took):
            started = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(1000 * (time.perf_counter() - started))
    return [median(times[1:]) for times in took]  # the first one warms up
