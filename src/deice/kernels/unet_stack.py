"""A U-Net of plain blocks and nearest up-sampling: plain PyTorch first, its fused twin beside it, same signature.

Two 3×3 (×3) convolutions with ReLU a level; 2×2 (×2) maxima on the way down; on the way up each pixel 2×2 (×2) times,
beside what the level had on the way down; a 1×1 convolution to one channel. `weights` and `biases` are those of
torch.nn's layers in that order: two of each level down, the lowest included, two of each level up, the last.
Pictures and answers are (b, 1, *space) of two or three axes, multiples of 2^depth, answers in fp32.

The twin keeps features in bf16 or fp16, channels last. PyTorch's convolutions do the products, and between them each
stretch (bias, ReLU, pooling, enlarging, placing beside each other, or all their gradients) is one pass over memory.
On two axes, convolutions of 32 channels are those of `convolution_layers`. Where rounding decides about no ReLU,
answers and gradients lie within TOLERANCE of those in fp32: norm of the difference over the norm.
"""

import logging
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from deice.kernels import unet_layers as passes
from deice.kernels.compiled import NotCompiled, why_not
from deice.kernels.convolution_stack import SWITCH, wants_plain
from deice.kernels.unet_convolutions import convolved, gradients, placed_and_pooled

log = logging.getLogger(__name__)

TOLERANCE = {torch.bfloat16: 5e-2, torch.float16: 1e-2}
WIDTHS = (8, 16, 32, 64, 128, 256)  # channels of a level that the passes know


def plain_unet(picture: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], residual: bool) -> Tensor:
    """The contract in PyTorch's own operations."""
    convolution = {4: functional.conv2d, 5: functional.conv3d}[picture.ndim]
    maximum = {4: functional.max_pool2d, 5: functional.max_pool3d}[picture.ndim]
    layers = list(zip(weights, biases))

    def block(features: Tensor) -> Tensor:
        for weight, bias in (layers.pop(0), layers.pop(0)):
            features = functional.relu(convolution(features, weight, bias, padding=1))
        return features

    features, placed = picture, []
    for level in range(depth_of(weights) + 1):
        features = block(maximum(features, 2) if level else features)
        placed.append(features)
    placed.pop()
    while placed:
        enlarged = functional.interpolate(features, scale_factor=2, mode="nearest")
        features = block(torch.cat([enlarged, placed.pop()], 1))
    answer = convolution(features, *layers[0])
    return answer + picture if residual else answer


def depth_of(weights: Sequence[Tensor]) -> int:
    """How often a U-Net of so many layers pools: 4·depth + 3 layers."""
    return (len(weights) - 3) // 4


def fused_unet(picture: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], residual: bool) -> Tensor:
    """The same on an NVIDIA GPU, at the precision of the autocast around it; NotCompiled where it cannot be had."""
    dtype = torch.get_autocast_dtype("cuda")
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (picture, *weights, *biases)):
        return _UNet.apply(picture, residual, dtype, *weights, *biases)
    return _forward(picture, residual, dtype, weights, biases, None)


def can_fuse(picture: Tensor, widths: Sequence[int]) -> bool:
    """Whether `fused_unet` can be had for `picture` and levels so wide; on a GPU the log says once which it is."""
    if picture.device.type != "cuda":
        return False
    reason = _why_plain(picture, tuple(widths))
    _say(f"U-Net on {picture.device}: " + (f"PyTorch's kernels ({reason})" if reason else "fused kernels"))
    return reason is None


@cache
def _say(words: str) -> None:
    log.info(words)


def _why_plain(picture: Tensor, widths: tuple[int, ...]) -> str | None:
    """Why not `fused_unet`, in words; None where it can be had."""
    if wants_plain():
        return f"{SWITCH}=plain"
    dtype = torch.get_autocast_dtype("cuda")
    if not torch.is_autocast_enabled("cuda") or dtype not in passes.TYPES:
        return "precision fp32"
    if any(width not in WIDTHS for width in widths):
        return f"levels of {', '.join(map(str, widths))} channels; fused are {', '.join(map(str, WIDTHS))}"
    if picture.numel() > passes.LARGEST:
        return f"more than {passes.LARGEST} pixels"
    return _why_not_ready(picture.device, dtype, picture.ndim - 2)


@cache
def _why_not_ready(device: torch.device, dtype: torch.dtype, axes: int) -> str | None:
    """Compile once and try on a small picture; what stands in the way."""
    reason = why_not(device)
    if reason:
        return reason
    try:
        apart = _apart_on_a_small_picture(device, dtype, axes)
    except (NotCompiled, RuntimeError) as error:
        return str(error)
    return None if apart < TOLERANCE[dtype] else f"kernels of {dtype} are {apart:.2g} off on this GPU"


def _apart_on_a_small_picture(device: torch.device, dtype: torch.dtype, axes: int) -> float:
    """How far answer and gradients of a net of one pooling are from the plain ones; draws no random numbers.

    Features are far above zero, or in every third channel far below, so that rounding does not decide about a ReLU. The
    plain net runs on the processor: on the GPU it would load kernels that nobody needs afterwards.
    """
    def waves(*shape: int) -> Tensor:
        return torch.arange(math.prod(shape), dtype=torch.float32).mul(0.7).sin().add(1.2).reshape(shape)

    widths = [(32, 1), (32, 32), (64, 32), (64, 64), (32, 96), (32, 32)]
    weights = [waves(*width, *[3] * axes) / (3**axes * width[1]) for width in widths] + [waves(1, 32, *[1] * axes)]
    biases = [waves(len(weight)) for weight in weights]
    for bias in biases:
        bias[1::3] = -100.0
    picture, found = waves(1, 1, *[8] * (axes - 1), 16), []
    for net, where in ((plain_unet, torch.device("cpu")), (fused_unet, device)):
        layers = [[tensor.detach().to(where).requires_grad_() for tensor in kind] for kind in (weights, biases)]
        with torch.enable_grad(), torch.autocast("cuda", dtype, enabled=net is fused_unet):
            answer = net(picture.to(where), *layers, False)
            seed = 0.01 * answer.detach()  # so that sums stay in the range of fp16
            gradients = torch.autograd.grad(answer, [*layers[0], *layers[1]], seed)
        found.append([part.detach().cpu() for part in (answer, *gradients)])
    return max(float((one - other).norm() / one.norm()) for one, other in zip(*found))


def _forward(
    picture: Tensor, residual: bool, dtype: torch.dtype, weights: Sequence[Tensor], biases: Sequence[Tensor],
    kept: list[Tensor] | None,
) -> Tensor:
    """The answer. `kept` takes the input of each convolution, then what each level gives on the way up."""
    depth, layers = depth_of(weights), list(zip(weights, biases))
    inputs, outputs = [], []
    seen = picture.detach().float().contiguous()
    features, placed = seen, []
    for level in range(depth + 1):
        inner = convolved(features, *layers[2 * level], dtype)
        inputs += [features, inner] if kept is not None else []
        if level < depth:
            width, raised = len(weights[2 * level]), len(weights[2 * level + 2])
            placed.append(passes.room(inner, raised + width, inner.shape[2:]))
            features = placed_and_pooled(inner, *layers[2 * level + 1], placed[-1][:, raised:])
        else:
            features = convolved(inner, *layers[2 * level + 1], dtype)
    for first in range(2 * depth + 2, 4 * depth + 2, 2):
        beside = placed.pop()
        passes.enlarge(features, beside[:, : features.shape[1]])
        outputs += [features] if kept is not None else []
        inner = convolved(beside, *layers[first], dtype)
        inputs += [beside, inner] if kept is not None else []
        features = convolved(inner, *layers[first + 1], dtype)
    if kept is not None:
        kept.extend([*inputs, *outputs, features])
    return passes.project(features, weights[-1].reshape(-1), biases[-1], seen if residual else None)


class _UNet(torch.autograd.Function):
    """The whole net as one operation, so that its backward joins what lies between two convolutions."""

    @staticmethod
    def forward(ctx: Any, picture: Tensor, residual: bool, dtype: torch.dtype, *parameters: Tensor) -> Tensor:
        weights, biases = parameters[: len(parameters) // 2], parameters[len(parameters) // 2 :]
        kept: list[Tensor] = []
        answer = _forward(picture, residual, dtype, weights, biases, kept)
        ctx.save_for_backward(*weights, *kept)
        ctx.residual, ctx.layers, ctx.type = residual, len(weights), picture.dtype
        return answer

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, kept = ctx.saved_tensors[: ctx.layers], ctx.saved_tensors[ctx.layers :]
        gradient = gradient.float().contiguous()
        wanted = ctx.needs_input_grad[0]
        back, of_weights, of_biases = _backward(gradient, weights, kept, wanted)
        of_picture = (back.float() + gradient if ctx.residual else back).to(ctx.type) if wanted else None
        return of_picture, None, None, *of_weights, *of_biases


def _backward(
    gradient: Tensor, weights: Sequence[Tensor], kept: Sequence[Tensor], wanted: bool
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The gradients of the picture (empty unless `wanted`), of weights and of biases, from that of the answer."""
    depth, last = depth_of(weights), len(weights) - 1
    inputs, outputs = kept[:last], kept[last:]
    of_weights = [gradient] * last
    widths = [len(weight) for weight in weights[:last]] + [weights[last].shape[1]]
    partial = passes.room_for_sums(gradient, sum(widths))
    sums = partial.split(widths, 1)  # of each bias, and of the last weight

    def through(number: int, flowing: Tensor) -> Tensor:
        back, of_weights[number] = gradients(flowing, inputs[number], weights[number], number > 0 or wanted)
        return back

    def through_block(second: int, flowing: Tensor) -> Tensor:
        inner = through(second, flowing)
        passes.relu_gradient(inner, inputs[second], sums[second - 1])
        return through(second - 1, inner)

    flowing = passes.project_gradient(gradient, weights[last].reshape(-1), outputs[-1], sums[last], sums[last - 1])
    of_placed = []
    for second in range(last - 1, 2 * depth + 1, -2):
        of_placed.append(through_block(second, flowing))
        below = outputs[(second - 2 * depth - 3) // 2]
        flowing = passes.enlarge_gradient(of_placed[-1][:, : below.shape[1]], below, sums[second - 2])
    back = through_block(2 * depth + 1, flowing)
    for level in reversed(range(depth)):
        second, raised = 2 * level + 1, len(weights[2 * level + 2])
        beside = inputs[4 * depth - 2 * level]
        flowing = passes.place_and_pool_gradient(of_placed.pop()[:, raised:], beside[:, raised:], back, sums[second])
        back = through_block(second, flowing)
    *of_biases, of_last = passes.add_blocks(partial, flowing).split(widths)
    return back, [*of_weights, of_last.reshape(weights[last].shape)], [*of_biases, gradient.sum().reshape(1)]
