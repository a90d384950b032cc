"""The U-Net's passes in PyTorch, of any type and on any device: what those on the GPU have to be."""

import torch
from torch import Tensor
from torch.nn import functional


def room(like: Tensor, channels: int, space, dtype: torch.dtype | None = None) -> Tensor:
    return like.new_full((len(like), channels, *space), float("nan"), dtype=dtype)


def _as_bias(bias: Tensor | None, like: Tensor) -> Tensor | float:
    return 0.0 if bias is None else bias.reshape(-1, *[1] * (like.ndim - 2)).to(like.dtype)


def bias_relu(features: Tensor, bias: Tensor) -> Tensor:
    return functional.relu(features + _as_bias(bias, features))


def place_and_pool(features: Tensor, bias: Tensor | None, placed: Tensor) -> Tensor:
    placed.copy_(functional.relu(features + _as_bias(bias, features)))
    return {4: functional.max_pool2d, 5: functional.max_pool3d}[placed.ndim](placed, 2)


def enlarge(features: Tensor, placed: Tensor) -> None:
    placed.copy_(functional.interpolate(features, scale_factor=2, mode="nearest"))


def project(features: Tensor, weight: Tensor, bias: Tensor, added: Tensor | None) -> Tensor:
    answer = (features * _as_bias(weight, features)).sum(1, keepdim=True) + bias
    return answer if added is None else answer + added


def room_for_sums(like: Tensor, columns: int) -> Tensor:
    return like.new_full((3, columns), float("nan"))


def add_blocks(partial: Tensor, like: Tensor) -> Tensor:
    return partial.sum(0)


def _leave(gradient: Tensor, sums: Tensor) -> None:
    sums.zero_()
    sums[1] = gradient.sum([axis for axis in range(gradient.ndim) if axis != 1])


def relu_gradient(gradient: Tensor, features: Tensor, sums: Tensor) -> None:
    gradient *= features > 0
    _leave(gradient, sums)


def enlarge_gradient(gradient: Tensor, features: Tensor, sums: Tensor) -> Tensor:
    pool = {4: functional.avg_pool2d, 5: functional.avg_pool3d}[features.ndim]
    out = pool(gradient, 2) * 2 ** (features.ndim - 2) * (features > 0)
    _leave(out, sums)
    return out


def place_and_pool_gradient(of_placed: Tensor, placed: Tensor, of_pooled: Tensor, sums: Tensor) -> Tensor:
    seen = placed.detach().clone().requires_grad_()
    with torch.enable_grad():
        pooled = {4: functional.max_pool2d, 5: functional.max_pool3d}[placed.ndim](seen, 2)
    out = (of_placed + torch.autograd.grad(pooled, seen, of_pooled)[0]) * (placed > 0)
    _leave(out, sums)
    return out


def project_gradient(gradient: Tensor, weight: Tensor, features: Tensor, of_weight: Tensor, sums: Tensor) -> Tensor:
    out = gradient * _as_bias(weight, features) * (features > 0)
    _leave(out, sums)
    _leave(gradient * features, of_weight)
    return out
