"""Weight gradients by CUDA: against the plain version in fp64, on odd sizes, twice with the same bits."""

import pytest
import torch
from torch import Tensor

from deice.kernels.weight_gradient import (
    plain_weight_gradient,
    weight_gradient,
    weight_gradient_first,
    weight_gradient_last,
)

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]

SIZES = [(1, 1, 1), (1, 3, 5), (3, 33, 75), (1, 257, 511), (3, 257, 511), (1, 1, 4000), (2, 600, 2)]
TOLERANCE = 2e-6  # relative: inputs are exact in fp64, so only the order of the sums in fp32 differs


def features(shape: tuple[int, int, int], dtype: torch.dtype, seed: int, channels: int = 32) -> Tensor:
    b, y, x = shape
    generator = torch.Generator("cuda").manual_seed(seed)
    drawn = torch.randn(b, channels, y, x, device="cuda", generator=generator).to(dtype)
    return drawn.contiguous(memory_format=torch.channels_last)


def agree(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert one.shape == other.shape
        scale = other.norm()
        assert (one.double() - other).norm() <= TOLERANCE * scale + 1e-30


def poison() -> None:
    """Fill what the allocator hands out next with NaN."""
    junk = [torch.full((size,), float("nan"), device="cuda") for size in (320, 9248, 1 << 18, 1 << 22)]
    del junk


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_layer_is_the_plain_one(shape, dtype, seed):
    activations, gradient = features(shape, dtype, seed), features(shape, dtype, seed + 10)
    picture = features(shape, torch.float32, seed + 20, channels=1)
    rounded = picture.to(dtype)
    poison()
    agree(weight_gradient(activations, gradient), plain_weight_gradient(activations.double(), gradient.double()))
    poison()
    agree(weight_gradient_first(picture, gradient), plain_weight_gradient(rounded.double(), gradient.double()))
    agree(weight_gradient_first(rounded, gradient), plain_weight_gradient(rounded.double(), gradient.double()))
    poison()
    weights, bias = plain_weight_gradient(activations.double(), rounded.double())
    agree(weight_gradient_last(activations, rounded), (weights, bias))
    agree(weight_gradient_last(activations, picture), (weights, picture.double().sum().reshape(1)))


def test_other_memory_formats_give_the_same():
    activations, gradient = features((2, 20, 30), torch.bfloat16, 0), features((2, 20, 30), torch.bfloat16, 1)
    expected = weight_gradient(activations, gradient)
    strided = torch.empty(2, 32, 20, 60, dtype=torch.bfloat16, device="cuda")[..., ::2]
    found = weight_gradient(activations.contiguous(), strided.copy_(gradient))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_twice_and_on_two_streams_the_same_bits():
    one, other = features((2, 300, 500), torch.bfloat16, 0), features((2, 300, 500), torch.bfloat16, 1)
    expected, reverse = weight_gradient(one, other)[0], weight_gradient(other, one)[0]
    streams = torch.cuda.Stream(), torch.cuda.Stream()
    torch.cuda.synchronize()
    found = []
    for _ in range(10):
        with torch.cuda.stream(streams[0]):
            here = weight_gradient(one, other)[0]
        with torch.cuda.stream(streams[1]):
            found.append((here, weight_gradient(other, one)[0]))
    torch.cuda.synchronize()
    assert all(torch.equal(here, expected) and torch.equal(there, reverse) for here, there in found)
