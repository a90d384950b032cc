"""What a U-Net does between its convolutions, on the GPU: each function one pass over memory, one CUDA launch.

Features are (b, channels, *space) in bf16 or fp16, the channels last in memory, space of two or three axes; channels
a power of two from 8 to 2048. `placed` is a part of the channels of wider features. Gradients of biases come in fp32,
summed in a fixed order.
"""

from collections.abc import Sequence
from functools import cache
from math import prod

import torch
from torch import Tensor

from deice.kernels.compiled import Kernel, kernel

TYPES = {torch.bfloat16: (), torch.float16: ("FP16",)}  # and the macros that ask for them
THREADS = 256
BLOCKS_A_PROCESSOR = 8
LARGEST = 2**31 - 1  # pixels, which the kernels count in 32 bits


def room(like: Tensor, channels: int, space: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
    """Uninitialised (b, channels, *space), channels last in memory at any size."""
    return like.new_empty((len(like), *space, channels), dtype=dtype).movedim(-1, 1)


def bias_relu(features: Tensor, bias: Tensor) -> Tensor:
    """ReLU(features + bias), in place."""
    _launch("bias_relu", features, features, bias, _chunks(features), _pixels(features))
    return features


def place_and_pool(features: Tensor, bias: Tensor | None, placed: Tensor) -> Tensor:
    """ReLU(features + bias) into `placed`; returns the maxima of its blocks of 2×2 (×2)."""
    pooled = room(features, features.shape[1], [size // 2 for size in features.shape[2:]])
    _launch("place_and_pool", pooled, features, bias, placed, pooled, _chunks(features), _stride(placed),
            *_grid(pooled))
    return pooled


def enlarge(features: Tensor, placed: Tensor) -> None:
    """Each pixel of `features` 2×2 (×2) times into `placed`."""
    _launch("enlarge", features, features, placed, _chunks(features), _stride(placed), *_grid(features))


def project(features: Tensor, weight: Tensor, bias: Tensor, added: Tensor | None) -> Tensor:
    """added + bias + Σ over channels of weight · features: (b, 1, *space) in fp32."""
    answer = torch.empty((len(features), 1, *features.shape[2:]), dtype=torch.float32, device=features.device)
    _launch("project", features, features, weight, bias, added, answer, _chunks(features), _pixels(features))
    return answer


def relu_gradient(gradient: Tensor, features: Tensor) -> Tensor:
    """Make `gradient` zero where the features are not above zero, in place; returns its sums, the bias's gradient."""
    partial = _partial(gradient, 1)
    _launch("relu_gradient", gradient, gradient, features, partial, _chunks(gradient), _pixels(gradient))
    return _total(partial, gradient)


def enlarge_gradient(gradient: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Of `enlarge` and of the ReLU that gave `features`: the gradient before it, and its sums.

    gradient: a part of the channels of wider features, of what was enlarged.
    """
    out = torch.empty_like(features)
    partial = _partial(out, 1)
    _launch("enlarge_gradient", out, gradient, features, out, partial, _chunks(out), _stride(gradient), *_grid(out))
    return out, _total(partial, out)


def place_and_pool_gradient(of_placed: Tensor, placed: Tensor, of_pooled: Tensor) -> tuple[Tensor, Tensor]:
    """Of `place_and_pool` and its ReLU: the gradient of its features, and its sums."""
    out = room(placed, placed.shape[1], placed.shape[2:])
    partial = _partial(of_pooled, 1)
    _launch("place_and_pool_gradient", of_pooled, of_placed, placed, of_pooled, out, partial, _chunks(out),
            _stride(placed), *_grid(of_pooled))
    return out, _total(partial, out)


def project_gradient(gradient: Tensor, weight: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of `project` and of the ReLU that gave `features`: the gradient before it, its sums, and that of the weight."""
    out = torch.empty_like(features)
    partial = _partial(out, 2)
    _launch("project_gradient", out, gradient, weight, features, out, partial, _chunks(out), _pixels(out))
    of_weight, sums = _total(partial, out).chunk(2)
    return out, sums, of_weight


def _launch(function: str, over: Tensor, *arguments: Tensor | int | None) -> None:
    """On as many blocks as the chunks of `over` need, or as work at the same time."""
    _kernel(function, over.device, over.dtype, over.ndim).launch(over.device, _blocks(over), THREADS, 0, *arguments)


@cache
def _kernel(function: str, device: torch.device, dtype: torch.dtype, dimensions: int) -> Kernel:
    return kernel("unet.cu", function, device, (f"DEPTH={dimensions - 3}", *TYPES[dtype]))


def _blocks(over: Tensor) -> int:
    return min(-(-over.numel() // 8 // THREADS), BLOCKS_A_PROCESSOR * _processors(over.device))


def _partial(over: Tensor, kinds: int) -> Tensor:
    """Room for the sums of each block."""
    return torch.empty((_blocks(over), kinds * over.shape[1]), dtype=torch.float32, device=over.device)


def _total(partial: Tensor, like: Tensor) -> Tensor:
    blocks, columns = partial.shape
    total = partial.new_empty(columns)
    _kernel("add_blocks", like.device, like.dtype, like.ndim).launch(
        like.device, -(-columns // 32), THREADS, 0, partial, total, blocks, columns)
    return total


def _chunks(features: Tensor) -> int:
    return features.shape[1] // 8


def _pixels(features: Tensor) -> int:
    return len(features) * prod(features.shape[2:])


def _stride(placed: Tensor) -> int:
    """Chunks from one pixel to the next."""
    return placed.stride(-1) // 8


def _grid(features: Tensor) -> tuple[int, int, int]:
    """Slabs (each z of each picture), height, width."""
    height, width = features.shape[-2:]
    return _pixels(features) // (height * width), height, width


@cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count
