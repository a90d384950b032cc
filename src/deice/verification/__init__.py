"""Verification: the nets as `denoise` and `train` really run them, against the plain reference with the same weights.

The fast path is channels last, at the precision asked for, through whatever kernels PyTorch picks for it. The reference
is `deice.nets.reference`. Compared are the answers, each layer's output, and the gradients of one training step.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deice.checkpoint import Model, describe_net
from deice.devices import autocast, choose_device, machine, put
from deice.errors import UserError
from deice.nets.reference import Pass
from deice.verification.listening import listening
from deice.verification.paths import (
    Reference,
    Weights,
    learnt,
    lower_precisions,
    no_tf32,
    placed_copy,
    plain_copies,
    reference_of,
    shape_compared,
    step_of,
    step_of_reference,
)

ANSWER_LIMIT = 1e-6  # largest difference of the answers to a picture of unit variance
ROUNDING = 8.0  # in fp32, or so many times what rounding does to the reference alone, where that is more
GRADIENT_LIMIT = 1e-3  # largest difference of a gradient, relative to the largest in its tensor
KINK_LIMIT = 1e-4  # how near a kink, of a layer's largest value, both may take different sides of it
TINY = 1e-30  # for ratios of nothing to nothing
HUGE = torch.finfo(torch.float32).max  # stands for what is no number


@dataclass(frozen=True)
class Layer:
    """Largest difference of a layer's output, and of its gradients relative to the largest of their tensor."""

    name: str
    weights: tuple[int, ...]
    forward: float
    gradient: float


@dataclass(frozen=True)
class Answers:
    """Largest differences of the answers: of both in float64, of both in fp32 (and its limit), and what rounding to
    fp32 does to either: how far it is from the reference in float64.
    """

    in_float64: float
    difference: float
    limit: float
    fast_rounding: float
    reference_rounding: float


@dataclass(frozen=True)
class Step:
    """One training step: differences of the loss (relative), of the gradients and of the running statistics of batch
    norm (relative to the largest of their tensor), and how far values at a kink strayed to its other side (relative to
    the largest of their layer).
    """

    loss: float
    gradient: float
    statistics: float
    strayed: float


@dataclass(frozen=True)
class Reduced:
    """The same at a precision below fp32: rms of the answers' difference over the answers' rms; of all gradients."""

    precision: str
    answer: float
    gradient: float


@dataclass(frozen=True)
class Verification:
    """All that was compared; `faults` says in words what is beyond its limit and is empty where nothing is."""

    net: str
    machine: str
    shape: tuple[int, ...]
    answers: Answers
    step: Step
    layers: list[Layer]
    reduced: list[Reduced]
    faults: list[str]


def verify(model: Model, device: str = "auto", weights: Weights | None = None) -> Verification:
    """Compare `model` with the reference of its net; `weights`: the reference's, by default those of the model.

    Pictures and targets are Gaussian noise of unit variance. The answers must agree to 1e-6 in float64, which shows
    that both compute the same. In fp32 sums of thousands of terms differ by their order alone: the limit is 1e-6 or,
    where that is more, eight times what rounding does to the reference itself. Where the fast path fails nothing is
    raised: `faults` says how. Raises UserError where the model's answers are no numbers.
    """
    where, shape = choose_device(device), shape_compared(model)
    generator = torch.Generator().manual_seed(0)
    pictures, targets = (torch.randn(shape, generator=generator).to(where) for _ in range(2))
    net, shared = reference_of(model), plain_copies(weights or model.module.state_dict(), where)
    with no_tf32():
        answers, forward = _compare_answers(placed_copy(model, where), net, shared, pictures)
        step, gradients = _compare_step(placed_copy(model, where), net, shared, (pictures, targets))
    layers = [Layer(name, tuple(shared[f"{name}.weight"].shape), forward[name], gradients[name]) for name in forward]
    reduced = [_compare_reduced(placed_copy(model, where), net, shared, (pictures, targets), name, precision)
               for name, precision in lower_precisions(where).items()]
    faults = _faults(answers, step)
    return Verification(describe_net(model.net), machine(), shape, answers, step, layers, reduced, faults)


@torch.no_grad()
def _compare_answers(
    fast: nn.Module, net: Reference, weights: Weights, pictures: Tensor
) -> tuple[Answers, dict[str, float]]:
    """As denoising runs: one picture at a time, nothing dropped. Also the largest difference of each layer."""
    fast.eval()
    fast_wide = copy.deepcopy(fast).double()
    wide = {name: tensor.double() for name, tensor in weights.items()}
    rows, layers = [], []
    for picture in pictures.split(1):
        with listening(fast) as heard:
            answer = fast(put(picture))
        plain = Pass(weights)
        expected, exact = net(picture, plain), net(picture.double(), Pass(wide))
        if not exact.isfinite().all():
            raise UserError("the model's answers are not finite; nothing can be compared, train it again")
        compared = (fast_wide(put(picture.double())), exact), (answer, expected), (answer, exact), (expected, exact)
        rows.append([_largest(one - other) for one, other in compared])
        layers.append({name: _largest(heard.outputs[name] - output) for name, output in plain.seen.items()})
    wide_difference, difference, of_fast, of_reference = (max(column) for column in zip(*rows))
    limit = max(ANSWER_LIMIT, ROUNDING * of_reference)
    answers = Answers(wide_difference, difference, limit, of_fast, of_reference)
    return answers, {name: max(layer[name] for layer in layers) for name in layers[0]}


def _compare_step(
    fast: nn.Module, net: Reference, weights: Weights, batch: tuple[Tensor, Tensor]
) -> tuple[Step, dict[str, float]]:
    """As training runs. Also the difference of each layer's gradients."""
    loss, expected, walk = _both_step(fast, net, weights, batch, torch.float32)
    layers: dict[str, float] = dict.fromkeys(walk.seen, 0.0)
    for name, parameter in fast.named_parameters():
        layer = name.rpartition(".")[0]
        layers[layer] = max(layers[layer], _relative(parameter.grad, walk.weights[name].grad))
    moved = [_relative(buffer, walk.weights[name]) for name, buffer in fast.named_buffers() if buffer.ndim]
    step = Step(_relative(loss, expected), max(layers.values()), max(moved, default=0.0), walk.strayed)
    return step, layers


def _compare_reduced(
    fast: nn.Module, net: Reference, weights: Weights, batch: tuple[Tensor, Tensor], name: str, precision: torch.dtype
) -> Reduced:
    """What `precision` costs, for information: it is a choice, not a fault."""
    with torch.no_grad(), autocast(batch[0].device, precision):
        answer = fast.eval()(put(batch[0])).float()
    _, _, walk = _both_step(fast, net, weights, batch, precision)
    with torch.no_grad(), no_tf32():
        expected = net(batch[0], Pass(weights))
    found, plain = (torch.cat([_gradient(side[n]).flatten() for n, _ in fast.named_parameters()])
                    for side in (dict(fast.named_parameters()), walk.weights))
    return Reduced(name, _rms_apart(answer, expected), _rms_apart(found, plain))


def _both_step(
    fast: nn.Module, net: Reference, weights: Weights, batch: tuple[Tensor, Tensor], precision: torch.dtype
) -> tuple[Tensor, Tensor, Pass]:
    """One training step of both, the reference following the choices of the fast path: both losses, and its pass."""
    with listening(fast) as heard:
        loss = step_of(fast, *batch, precision)
    walk = Pass(learnt(weights, fast), training=True, choices=heard.choices)
    with no_tf32():
        expected = step_of_reference(net, walk, *batch)
    return loss, expected, walk


def _faults(answers: Answers, step: Step) -> list[str]:
    """What is beyond its limit, in words."""
    rules = {
        f"answers in float64 differ by {answers.in_float64:.2g}": answers.in_float64 <= ANSWER_LIMIT,
        f"answers differ by {answers.difference:.2g}": answers.difference <= answers.limit,
        f"the loss differs by {step.loss:.2g} of itself": step.loss <= GRADIENT_LIMIT,
        f"gradients differ by {step.gradient:.2g} of their largest": step.gradient <= GRADIENT_LIMIT,
        f"running statistics differ by {step.statistics:.2g}": step.statistics <= GRADIENT_LIMIT,
        f"ReLU or maxima differ for values {step.strayed:.2g} of the largest from a kink": step.strayed <= KINK_LIMIT,
    }
    return [fault for fault, holds in rules.items() if not holds]


def _largest(difference: Tensor) -> float:
    return float(difference.abs().nan_to_num(nan=HUGE, posinf=HUGE).max())


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _rms_apart(found: Tensor, expected: Tensor) -> float:
    """The rms of the difference over the rms expected."""
    return float((found - expected).norm() / expected.norm().clamp_min(TINY))


def _relative(found: Tensor | None, expected: Tensor | None) -> float:
    """The largest difference over the largest value expected."""
    if found is None or expected is None:
        return HUGE
    found, expected = found.detach().double(), expected.detach().double()
    return min(_largest(found - expected) / max(_largest(expected), TINY), HUGE)
