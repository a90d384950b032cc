"""The 3×3 (×3) convolutions of the fused U-Net: PyTorch's, or the fast ones where they have 32 channels on two axes."""

import torch
from torch import Tensor

from deice.kernels import convolution_layers as narrow
from deice.kernels import unet_layers as passes
from deice.kernels.weight_gradient import weight_gradient, weight_gradient_first


def channels_last(features: Tensor) -> Tensor:
    """(b, channels, *space), the channels last in memory."""
    return features.contiguous(memory_format={4: torch.channels_last, 5: torch.channels_last_3d}[features.ndim])


def is_first(weight: Tensor) -> bool:
    """Whether there is a fast convolution for `weight`, of the picture itself."""
    return weight.shape == (narrow.WIDTH, 1, 3, 3)


def is_narrow(weight: Tensor) -> bool:
    """Whether there is a fast convolution for `weight`, between 32 channels."""
    return weight.shape == (narrow.WIDTH, narrow.WIDTH, 3, 3)


def convolved(features: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """ReLU(convolution of `features` by `weight` + bias). features: in `dtype`; those of one channel, in fp32."""
    if is_first(weight):
        out = passes.room(features, narrow.WIDTH, features.shape[2:], dtype)
        return narrow.first(features, weight.contiguous(), bias, out)
    if is_narrow(weight):
        out = passes.room(features, narrow.WIDTH, features.shape[2:], dtype)
        return narrow.layer(features, narrow.pack_layers([weight], dtype)[0], bias, out)
    return passes.bias_relu(_convolution(features, weight, dtype), bias)


def placed_and_pooled(features: Tensor, weight: Tensor, bias: Tensor, placed: Tensor) -> Tensor:
    """ReLU(convolution + bias) into `placed`; returns the maxima of its blocks of 2×2 (×2)."""
    if is_narrow(weight):
        return passes.place_and_pool(convolved(features, weight, bias, placed.dtype), None, placed)
    return passes.place_and_pool(_convolution(features, weight, placed.dtype), bias, placed)


def gradients(gradient: Tensor, features: Tensor, weight: Tensor, wanted: bool) -> tuple[Tensor, Tensor]:
    """Those of the convolution's input (empty unless `wanted`) and of its weight in fp32, from that of its output.

    Of 32 channels, the input's is zero where `features` are: they come out of a ReLU, which would make it zero next.
    """
    dtype, nothing = gradient.dtype, gradient.new_empty(0)
    if is_first(weight) and not wanted:
        return nothing, weight_gradient_first(features, gradient)[0]
    if is_narrow(weight):
        packed = narrow.pack_layers([weight], dtype, gradient=True)[0]
        out = narrow.layer_gradient(gradient, packed, features, torch.empty_like(features))
        return out, weight_gradient(features, gradient)[0]
    channels, ones = weight.shape[1], [1] * (features.ndim - 2)
    of_features, of_weight, _ = torch.ops.aten.convolution_backward.default(
        gradient, _widened(features, dtype), _widened(weight, dtype), None, ones, ones, ones, False, [0] * len(ones), 1,
        [wanted, True, False])
    of_features = channels_last(of_features[:, :channels]) if wanted else nothing
    return of_features, of_weight[:, :channels].float()


def _convolution(features: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    ones = [1] * (features.ndim - 2)
    found = torch.convolution(
        _widened(features, dtype), _widened(weight, dtype), None, ones, ones, ones, False, [0] * len(ones), 1)
    return channels_last(found)


def _widened(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """In `dtype`, channels last; what has one channel gets seven more of zeros.

    Of one channel, memory has no order, and PyTorch takes slow convolutions and turns the others' memory round.
    """
    if tensor.shape[1] == 1:
        wide = tensor.new_zeros((len(tensor), *tensor.shape[2:], 8), dtype=dtype).movedim(-1, 1)
        wide[:, :1] = tensor
        return wide
    return channels_last(tensor.to(dtype))
