"""Weight gradients, plain: against autograd."""

import pytest
import torch
from torch.nn import functional

from deice.kernels.compiled import NotCompiled
from deice.kernels.weight_gradient import (
    plain_weight_gradient,
    weight_gradient,
    weight_gradient_first,
    weight_gradient_last,
)


@pytest.mark.parametrize(("b", "channels_in", "channels_out", "y", "x"),
                         [(1, 1, 1, 1, 1), (2, 32, 32, 3, 5), (1, 1, 32, 7, 4), (3, 32, 1, 1, 6)])
def test_plain_is_what_autograd_finds(b, channels_in, channels_out, y, x):
    generator = torch.Generator().manual_seed(b)
    activations = torch.randn(b, channels_in, y, x, dtype=torch.float64, generator=generator)
    gradient = torch.randn(b, channels_out, y, x, dtype=torch.float64, generator=generator)
    weight = torch.zeros(channels_out, channels_in, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(channels_out, dtype=torch.float64, requires_grad=True)
    functional.conv2d(activations, weight, bias, padding=1).backward(gradient)
    found, found_bias = plain_weight_gradient(activations, gradient)
    torch.testing.assert_close(found, weight.grad)
    torch.testing.assert_close(found_bias, bias.grad)


def test_without_a_gpu_the_fast_ones_say_so():
    features, picture = torch.zeros(1, 32, 4, 4, dtype=torch.bfloat16), torch.zeros(1, 1, 4, 4)
    for call in (lambda: weight_gradient(features, features), lambda: weight_gradient_first(picture, features),
                 lambda: weight_gradient_last(features, picture)):
        with pytest.raises(NotCompiled, match="no NVIDIA GPU"):
            call()


def test_what_the_kernels_do_not_know_is_refused():
    with pytest.raises(ValueError, match="expected 32 channels in bf16 or fp16"):
        weight_gradient(torch.zeros(1, 16, 4, 4, dtype=torch.bfloat16), torch.zeros(1, 16, 4, 4, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match=r"torch.float32: expected 32 channels in bf16 or fp16"):
        weight_gradient(torch.zeros(1, 32, 4, 4), torch.zeros(1, 32, 4, 4))
