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
BLOCKS_A_PROCESSOR, SUMMING_BLOCKS_A_PROCESSOR = 8, 6
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


def room_for_sums(like: Tensor, columns: int) -> Tensor:
    """Uninitialised (blocks, columns) in fp32: passes leave sums of channels in parts of its columns."""
    blocks = SUMMING_BLOCKS_A_PROCESSOR * _processors(like.device)
    return torch.empty((blocks, columns), dtype=torch.float32, device=like.device)


def add_blocks(partial: Tensor, like: Tensor) -> Tensor:
    """(blocks, columns) → (columns,), in a fixed order."""
    blocks, columns = partial.shape
    total = partial.new_empty(columns)
    _kernel("add_blocks", like.device, like.dtype, like.ndim).launch(
        like.device, -(-columns // 32), THREADS, 0, partial, total, blocks, columns)
    return total


def relu_gradient(gradient: Tensor, features: Tensor, sums: Tensor) -> None:
    """Make `gradient` zero where the features are not above zero, in place; its sums into `sums`."""
    _launch_summing("relu_gradient", gradient, sums, gradient, features, sums, sums.stride(0), _chunks(gradient),
                    _pixels(gradient))


def enlarge_gradient(gradient: Tensor, features: Tensor, sums: Tensor) -> Tensor:
    """Of `enlarge` and of the ReLU that gave `features`: the gradient before it, and its sums into `sums`.

    gradient: a part of the channels of wider features, of what was enlarged.
    """
    out = torch.empty_like(features)
    _launch_summing("enlarge_gradient", out, sums, gradient, features, out, sums, sums.stride(0), _chunks(out),
                    _stride(gradient), *_grid(out))
    return out


def place_and_pool_gradient(of_placed: Tensor, placed: Tensor, of_pooled: Tensor, sums: Tensor) -> Tensor:
    """Of `place_and_pool` and its ReLU: the gradient of its features, and its sums into `sums`."""
    out = room(placed, placed.shape[1], placed.shape[2:])
    _launch_summing("place_and_pool_gradient", of_pooled, sums, of_placed, placed, of_pooled, out, sums, sums.stride(0),
                    _chunks(out), _stride(placed), *_grid(of_pooled))
    return out


def project_gradient(gradient: Tensor, weight: Tensor, features: Tensor, of_weight: Tensor, sums: Tensor) -> Tensor:
    """Of `project` and of the ReLU that gave `features`: the gradient before it, its sums into `sums`, and those of
    gradient · features, which are the weight's gradient, into `of_weight`.
    """
    out = torch.empty_like(features)
    _launch_summing("project_gradient", out, sums, gradient, weight, features, out, of_weight, sums, sums.stride(0),
                    _chunks(out), _pixels(out))
    return out


def _launch(function: str, over: Tensor, *arguments: Tensor | int | None) -> None:
    """On as many blocks as the chunks of `over` need, or as work at the same time."""
    blocks = min(-(-over.numel() // 8 // THREADS), BLOCKS_A_PROCESSOR * _processors(over.device))
    _kernel(function, over.device, over.dtype, over.ndim).launch(over.device, blocks, THREADS, 0, *arguments)


def _launch_summing(function: str, over: Tensor, sums: Tensor, *arguments: Tensor | int | None) -> None:
    """On as many blocks as `sums` has rows, all of which are written."""
    _kernel(function, over.device, over.dtype, over.ndim).launch(over.device, len(sums), THREADS, 0, *arguments)


@cache
def _kernel(function: str, device: torch.device, dtype: torch.dtype, dimensions: int) -> Kernel:
    return kernel("unet.cu", function, device, (f"DEPTH={dimensions - 3}", *TYPES[dtype]))


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
