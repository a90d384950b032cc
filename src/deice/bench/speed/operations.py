"""One operation measured: first whether ours is right, then how long each path takes, what it holds, how it starts."""

import logging
import math
import time
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.flop_counter import FlopCounterMode

from deice.bench.speed.answer import Answer, Line
from deice.bench.speed.clock import Call, Timed, ceilings, timed
from deice.bench.speed.paths import (
    BASELINES,
    CHANNELS_LAST,
    DEFAULT,
    OURS,
    OURS_AS_TRAINED,
    Operation,
    Running,
    Weights,
    as_run,
    ours,
)
from deice.bench.speed.plain import plain_module
from deice.devices import is_out_of_memory

log = logging.getLogger(__name__)
SETS = 3  # of inputs, taken in turn
JOB = 120.0  # seconds of the job that start-up is counted in
SHARE = 0.3  # of a usual gradient: a tensor whose gradients nearly cancel is judged as if they were that large
OFFSET = 2.0
BEST = "best PyTorch"


@dataclass(frozen=True)
class Errors:
    """Relative rms errors against float64: of the answers, of all gradients, of the worst tensor's gradient."""

    answer: float
    gradient: float
    worst: float

    def beyond(self, limits: tuple[float, float, float]) -> str:
        """What is beyond its limit, or no number, in words; empty where nothing is."""
        found = zip(("answers", "gradients", "the gradient of one tensor"), vars(self).values(), limits)
        return ", ".join(f"{what}: relative error {error:.3g}, limit {limit:g}"
                         for what, error, limit in found if not error <= limit)


def measure(operation: Operation, device: torch.device, calls: int, compiled: bool, seed: int = 0) -> Answer:
    """The lines of one operation: each baseline, ours, and for a training ours as deice trains.

    Where ours is wrong no time is taken: the answer holds the failure. compiled: with PyTorch's compiler.
    """
    weights = operation.weights(seed)
    right = reference_of(operation, weights, device)
    begun = time.perf_counter()
    errors = errors_of(operation, weights, right, OURS)
    first_use = time.perf_counter() - begun  # compiles and loads what the times would not show again
    failure = errors.beyond(operation.limits)
    largest = max(errors.answer, errors.gradient)
    answer = Answer(OURS, error=largest if math.isfinite(largest) else None, failure=failure)
    if failure:
        return answer
    plain = errors_of(operation, weights, right, CHANNELS_LAST)
    answer.facts |= {"errors": vars(errors), "errors_of_pytorch_bf16": vars(plain)} | ceilings(device)
    names = (DEFAULT, CHANNELS_LAST, operation.compiler) if compiled else (DEFAULT, CHANNELS_LAST)
    makers = {name: BASELINES[name] for name in names} | {OURS: ours}
    if operation.training:
        makers[OURS_AS_TRAINED] = partial(ours, as_trained=True)
    inputs = inputs_of(operation.shape, device, SETS, seed)
    flops = count_flops(operation)
    for name, make in makers.items():
        try:
            with as_run(name):
                running = make(operation, copied(weights), device)
                found = timed(call_of(running, inputs, operation.training), device, calls)
        except RuntimeError as error:
            if not is_out_of_memory(error) or name == OURS:
                raise
            answer.notes.append(f"{name}: out of memory")
            continue
        finally:
            running = None
            if device.type == "cuda":
                torch.cuda.empty_cache()
        found = replace(found, start_up=found.start_up + first_use) if name == OURS else found
        answer.lines[name] = line_of(found, flops, answer.facts["matrix_tflops"])
        log.info("  %s: %.3f ms", name, found.ms)
    _compare(answer, operation.training)
    return answer


def _compare(answer: Answer, training: bool) -> None:
    """Ratios of ours against default PyTorch and its best; of a training with start-up counted in, besides."""
    baselines = {name: line for name, line in answer.lines.items() if name in BASELINES}
    if not baselines:
        return
    best = min(baselines, key=lambda name: baselines[name]["ms"])
    answer.notes.append(f"best PyTorch: {best}")
    ours_ms = answer.lines[OURS]["ms"]
    answer.ratios |= {BEST: baselines[best]["ms"] / ours_ms}
    if DEFAULT in baselines:
        answer.ratios["default PyTorch"] = baselines[DEFAULT]["ms"] / ours_ms
    if training:
        quickest = min(line["job_ms"] for line in baselines.values() if "job_ms" in line)
        answer.ratios[f"{BEST} over a 2-minute job"] = quickest / answer.lines[OURS]["job_ms"]


def line_of(found: Timed, flops: float, ceiling: float) -> Line:
    """The figures of one path. job_ms: milliseconds a call in a job of two minutes that begins with the start-up, where
    it leaves any time.
    """
    tflops = flops / found.ms / 1e9
    job = {"job_ms": JOB / (JOB - found.start_up) * found.ms} if found.start_up < JOB else {}
    return {"ms": found.ms, "spread_ms": found.spread_ms, "start_up_s": found.start_up, **job,
            "tflops": tflops, "of_matrix_rate": tflops / ceiling, "gigabytes": found.bytes / 1e9, "calls": found.calls}


@dataclass(frozen=True)
class Reference:
    """What is right, in float64: the answer (b, 1, *space) to a picture, and the gradients of a step towards `target`,
    by the names of the weights.
    """

    picture: Tensor
    target: Tensor
    answer: Tensor
    gradients: dict[str, Tensor]


def reference_of(operation: Operation, weights: Weights, device: torch.device) -> Reference:
    """The plain net in float64 on the operation's small, odd shape."""
    ((picture, noise),) = inputs_of(operation.checked, device, 1, seed=1)
    target = OFFSET + 0.5 * picture + 0.5 * noise  # of another mean than any answer: gradients do not cancel
    exact = plain_module(operation.net, operation.axes, copied(weights)).double().to(device)
    answer = exact(picture.double())
    if operation.training:
        mse_loss(answer, target.double()).backward()
    return Reference(picture, target, answer.detach(), _gradients(exact))


def errors_of(operation: Operation, weights: Weights, right: Reference, name: str) -> Errors:
    """How far the path `name` is from `right`; the memory that it gets holds NaN."""
    device = right.picture.device
    poison(device)
    with as_run(name):
        running = (ours if name == OURS else BASELINES[name])(operation, copied(weights), device)
        error = relative([running.answer(right.picture)], [right.answer])
        if not operation.training:
            return Errors(error, 0.0, 0.0)
        poison(device)
        running.step(right.picture, right.target)
    found = _gradients(running.module)
    pairs = [(found[name], gradient) for name, gradient in right.gradients.items()]
    typical = SHARE * median(float(gradient.square().mean()) for _, gradient in pairs) ** 0.5
    worst = max(relative([one], [other], typical * other.numel() ** 0.5) for one, other in pairs)
    return Errors(error, relative([one for one, _ in pairs], [other for _, other in pairs]), worst)


def _gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: weight.grad for name, weight in module.named_parameters() if weight.grad is not None}


def relative(found: list[Tensor], right: list[Tensor], least: float = 0.0) -> float:
    """‖found − right‖ / max(‖right‖, least) in float64, over all of the tensors together; NaN stays NaN.

    least: for a tensor whose gradients cancel, what one of its size may have at least.
    """
    far = sum(float((one.double() - other).square().sum()) for one, other in zip(found, right, strict=True))
    return far**0.5 / max(sum(float(other.double().square().sum()) for other in right) ** 0.5, least)


def poison(device: torch.device) -> None:
    """Leave NaN in the memory that the allocator hands out next, so that what is not written shows."""
    if device.type == "cuda":
        for size in (1 << 27, *[1 << 18] * 32):
            torch.full((size // 4,), torch.nan, device=device)


def inputs_of(shape: tuple[int, ...], device: torch.device, sets: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """`sets` pairs (picture, target), each (b, 1, *space): normal random numbers."""
    generator = torch.Generator(device).manual_seed(seed)
    size = (shape[0], 1, *shape[1:])
    drawn = [torch.randn(size, device=device, generator=generator) for _ in range(2 * sets)]
    return list(zip(drawn[::2], drawn[1::2]))


def call_of(running: Running, inputs: list[tuple[Tensor, Tensor]], training: bool) -> Call:
    """One step on, or one answer to, the next of `inputs`."""
    if training:
        return lambda number: running.step(*inputs[number % len(inputs)])
    return lambda number: running.answer(inputs[number % len(inputs)][0])


def count_flops(operation: Operation) -> float:
    """Floating-point operations of one call: multiplications and additions of the convolutions."""
    with torch.device("meta"):
        module = plain_module(operation.net, operation.axes, {})
        picture = torch.empty(operation.shape[0], 1, *operation.shape[1:])
    with FlopCounterMode(display=False) as counter:
        answer = module(picture)
        if operation.training:
            answer.sum().backward()
    return float(counter.get_total_flops())


def copied(weights: Weights) -> Weights:
    """A copy, as a step changes weights in place."""
    return {name: tensor.clone() for name, tensor in weights.items()}
