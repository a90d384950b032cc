"""The stack of 3×3 convolutions of the residual CNN: plain PyTorch first, its CUDA twin beside it, same signature.

`weights` are those of torch.nn.Conv2d, (32, 1, 3, 3), then any number of (32, 32, 3, 3), then (1, 32, 3, 3), each with
its bias; ReLU after all but the last; zeros around the picture. The answer is what the last layer gives or, where
`residual`, the picture minus that. Pictures are (b, 1, y, x) of any size, and so are answers, in fp32.

The twin keeps activations in bf16 or fp16, channels last, and sums in fp32. Rounding decides on which side of ReLU a
small value lies, so what is right depends on the depth: against the plain stack in fp64 (norm of the difference over
the norm) the twin is at most TOLERANCE times as far as the plain stack at the same precision, or within ROUNDING of it.
"""

import logging
import math
import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from deice.errors import RecipeFault
from deice.kernels import convolution_layers as layers
from deice.kernels.compiled import NotCompiled, why_not
from deice.kernels.weight_gradient import weight_gradient, weight_gradient_first, weight_gradient_last

log = logging.getLogger(__name__)

WITHOUT_GRADIENTS = torch.float16  # activations are then cut at its largest number, 65504
TOLERANCE = 1.5
ROUNDING = {torch.bfloat16: 8e-3, torch.float16: 2e-3}
SMALL_PICTURE_TOLERANCE = 3e-2  # of the picture that is tried first; it has values on both sides of ReLU, but none near
SWITCH = "DEICE_KERNELS"  # in the environment: `plain` for PyTorch's own kernels everywhere, else `auto`


def plain_stack(picture: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], residual: bool) -> Tensor:
    """The contract in PyTorch's own operations."""
    features = picture
    for weight, bias in zip(weights[:-1], biases[:-1]):
        features = functional.relu(functional.conv2d(features, weight, bias, padding=1))
    answer = functional.conv2d(features, weights[-1], biases[-1], padding=1)
    return picture - answer if residual else answer


def fused_stack(picture: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], residual: bool) -> Tensor:
    """The same on an NVIDIA GPU, at the precision of the autocast around it; NotCompiled where it cannot be had.

    Without gradients fp16 takes the place of bf16: equally fast, and it rounds eight times as finely.
    """
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (picture, *weights, *biases)):
        return _Stack.apply(picture, residual, torch.get_autocast_dtype("cuda"), *weights, *biases)
    return _forward(picture, residual, WITHOUT_GRADIENTS, weights, biases, keep=False)[0]


def can_fuse(picture: Tensor, channels: int) -> bool:
    """Whether `fused_stack` can be had for `picture` and a stack of so many channels; the log says it once."""
    reason = _why_plain(picture, channels)
    _say(f"residual CNN on {picture.device}: " + (f"PyTorch's kernels ({reason})" if reason else "fused kernels"))
    return reason is None


def wants_plain() -> bool:
    """Whether the user asks for PyTorch's own kernels everywhere; RecipeFault for a word that is not known."""
    word = os.environ.get(SWITCH, "") or "auto"
    if word not in ("auto", "plain"):
        raise RecipeFault(f"{SWITCH} is {word!r} in the environment; expected auto or plain")
    return word == "plain"


@cache
def _say(words: str) -> None:
    log.info(words)


def _why_plain(picture: Tensor, channels: int) -> str | None:
    """Why not `fused_stack`, in words; None where it can be had."""
    if wants_plain():
        return f"{SWITCH}=plain"
    if picture.device.type != "cuda":
        return "no GPU"
    dtype = torch.get_autocast_dtype("cuda")
    if not torch.is_autocast_enabled("cuda") or dtype not in layers.TYPES:
        return "precision fp32"
    if channels != layers.WIDTH:
        return f"{channels} channels; fused are {layers.WIDTH}"
    return _why_not_ready(picture.device, dtype)


@cache
def _why_not_ready(device: torch.device, dtype: torch.dtype) -> str | None:
    """Compile once and try on a small picture; what stands in the way."""
    reason = why_not(device)
    if reason:
        return reason
    try:
        apart = {each: _apart_on_a_small_picture(device, each) for each in (dtype, WITHOUT_GRADIENTS)}
    except (NotCompiled, RuntimeError) as error:
        return str(error)
    wrong = [f"kernels of {each} are {value:.2g} off on this GPU" for each, value in apart.items()
             if not value < SMALL_PICTURE_TOLERANCE]
    return "; ".join(wrong) or None


def _apart_on_a_small_picture(device: torch.device, dtype: torch.dtype) -> float:
    """How far answer and gradients of five layers are from the plain ones; draws no random numbers."""
    def waves(*shape: int) -> Tensor:
        return torch.arange(math.prod(shape), device=device, dtype=torch.float32).mul(0.7).sin().reshape(shape)

    shapes = (32, 1, 3, 3), *[(32, 32, 3, 3)] * 3, (1, 32, 3, 3)  # two of the middle layers may run as one
    weights = [(waves(*shape) * 0.1).requires_grad_() for shape in shapes]
    biases = [waves(len(weight)).requires_grad_() for weight in weights]
    picture, found = waves(1, 1, 9, 70), []
    for stack in (plain_stack, fused_stack):
        with torch.enable_grad(), torch.autocast("cuda", dtype, enabled=stack is fused_stack):
            answer = stack(picture, weights, biases, True)
            gradients = torch.autograd.grad(answer, [*weights, *biases], answer.detach())
        found.append([answer.detach(), *gradients])
    return float(torch.stack([(one - other).norm() / one.norm() for one, other in zip(*found)]).max())


def _forward(
    picture: Tensor, residual: bool, dtype: torch.dtype, weights: Sequence[Tensor], biases: Sequence[Tensor], keep: bool
) -> tuple[Tensor, list[Tensor]]:
    """The answer and, where they are to be kept, all activations."""
    seen, biases = picture.detach().float().contiguous(), [bias.float() for bias in biases]
    begun = layers.first(seen, weights[0].float().contiguous(), biases[0], layers.activations_like(seen, dtype))
    activations = _middle(begun, seen, layers.pack_layers(weights[1:-1], dtype), biases[1:-1], keep)
    added, scale = (seen, -1.0) if residual else (None, 1.0)
    answer = layers.last(activations[-1], layers.pack_last(weights[-1], dtype), biases[-1], added, scale)
    return answer, activations


def _middle(
    begun: Tensor, seen: Tensor, packed: Sequence[Tensor], biases: Sequence[Tensor], keep: bool
) -> list[Tensor]:
    """All activations from `begun` on or, where they are not kept, the last: then two buffers take turns."""
    activations, spare, number = [begun], None, 0
    while number < len(packed):
        pair = number + 1 < len(packed) and layers.can_pair(seen.device)
        out = layers.activations_like(seen, begun.dtype) if spare is None else spare
        between = layers.activations_like(seen, begun.dtype) if keep and pair else None
        if pair:
            layers.two_layers(activations[-1], packed[number:], biases[number:], out, between)
        else:
            layers.layer(activations[-1], packed[number], biases[number], out)
        if keep:
            activations += [out] if between is None else [between, out]
        else:
            activations, spare = [out], activations[0]
        number += 1 + pair
    return activations


class _Stack(torch.autograd.Function):
    """The whole stack as one operation, so that its backward reads each activation once."""

    @staticmethod
    def forward(ctx: Any, picture: Tensor, residual: bool, dtype: torch.dtype, *parameters: Tensor) -> Tensor:
        weights, biases = parameters[: len(parameters) // 2], parameters[len(parameters) // 2 :]
        answer, activations = _forward(picture, residual, dtype, weights, biases, keep=True)
        ctx.save_for_backward(picture, *weights, *activations)
        ctx.residual, ctx.dtype, ctx.depth = residual, dtype, len(weights)
        return answer

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        picture, *saved = ctx.saved_tensors
        weights, activations, depth = saved[: ctx.depth], saved[ctx.depth :], ctx.depth
        gradient = gradient.float().contiguous()
        scale = -1.0 if ctx.residual else 1.0
        of_weights, of_biases = [gradient] * depth, [gradient] * depth
        last_weight, last_bias = weight_gradient_last(activations[-1], gradient)
        of_weights[-1], of_biases[-1] = scale * last_weight, scale * last_bias
        flowing = layers.last_gradient(gradient, weights[-1].float().contiguous(), scale, activations[-1],
                                       layers.activations_like(picture, ctx.dtype))
        packed = layers.pack_layers(weights[1:-1], ctx.dtype, gradient=True)
        for number in range(depth - 2, 0, -1):
            below = activations[number - 1]
            of_weights[number], of_biases[number] = weight_gradient(below, flowing)
            flowing = layers.layer_gradient(flowing, packed[number - 1], below,
                                            layers.activations_like(picture, ctx.dtype))
        of_weights[0], of_biases[0] = weight_gradient_first(picture.float().contiguous(), flowing)
        of_picture = None
        if ctx.needs_input_grad[0]:
            of_picture = layers.last(flowing, layers.pack_first_gradient(weights[0], ctx.dtype), None,
                                     gradient if ctx.residual else None, 1.0).to(picture.dtype)
        return of_picture, None, None, *of_weights, *of_biases

