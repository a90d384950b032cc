"""Weight gradients of 3×3 convolutions between pictures of 32 channels, of one channel into 32, and of 32 into one.

The plain versions say what is computed; the CUDA twins in weight_gradient.cu compute it from bf16 or fp16 with sums in
fp32, in the same order every time: the same bits on the same GPU.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from deice.kernels.compiled import Kernel, NotCompiled, kernel, why_not

CHANNELS = 32
SUMS, THIN_SUMS = 32 * 9 * 32 + 32, 9 * 32 + 32  # of a layer with 32 inputs, with one: weights and biases
STRIP, THREADS, STAGE_BYTES = 64, 384, 6 * (66 + 64) * 64  # as in the source
MOST_STAGES = 4
THIN_THREADS, ADDING_THREADS = 256, 256
ROWS_A_BLOCK = 8  # at least, of a strip
BLOCKS_A_PROCESSOR = 4  # of the thin kernels
RESERVED_SHARED = 1024  # bytes of a block that are not the ring's


def plain_weight_gradient(activations: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """(b, i, y, x) and (b, o, y, x) → dW (o, i, 3, 3), db (o,): what a zero-padded 3×3 convolution should change.

    dW[o, i, ky, kx] = Σ over pixels p of gradient[o, p] · activations[i, p + (ky, kx) - 1], db[o] = Σ gradient[o, p].
    """
    height, width = gradient.shape[-2:]
    padded = functional.pad(activations, (1, 1, 1, 1))
    shifted = [padded[..., ky : ky + height, kx : kx + width] for ky in range(3) for kx in range(3)]
    taps = [torch.einsum("boyx,biyx->oi", gradient, here) for here in shifted]
    return torch.stack(taps, dim=-1).unflatten(-1, (3, 3)), gradient.sum((0, 2, 3))


def weight_gradient(activations: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """`plain_weight_gradient` of two (b, 32, y, x) in bf16 or fp16, channels last: dW (32, 32, 3, 3), db (32,) in fp32.

    Raises NotCompiled on a device without kernels.
    """
    activations, gradient = _channels_last(activations, gradient.dtype), _channels_last(gradient, gradient.dtype)
    device, (pictures, _, height, width) = gradient.device, gradient.shape
    rows = pictures * height * -(-width // STRIP)
    blocks = max(1, min(_processors(device), rows // ROWS_A_BLOCK))
    partial = gradient.new_empty((blocks, SUMS), dtype=torch.float32)
    _function("weight_gradient", device, gradient.dtype).launch(
        device, blocks, THREADS, _stages(device) * STAGE_BYTES, activations, gradient, partial, pictures, height, width)
    total = _add_blocks(partial, gradient)
    weights = total[:-CHANNELS].view(CHANNELS, 3, 3, CHANNELS).permute(0, 3, 1, 2)
    return weights, total[-CHANNELS:]


def weight_gradient_first(picture: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """(b, 1, y, x) of any type and (b, 32, y, x) in bf16 or fp16 → dW (32, 1, 3, 3), db (32,) in fp32."""
    total = _correlate(picture, gradient, flipped=False)
    return total[:-CHANNELS].view(CHANNELS, 1, 3, 3), total[-CHANNELS:]


def weight_gradient_last(activations: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """(b, 32, y, x) in bf16 or fp16 and (b, 1, y, x) of any type → dW (1, 32, 3, 3), db (1,) in fp32.

    The sum over pixels of gradient[p] · activations[p + k - 1] is that of activations[q] · gradient[q - (k - 1)]: the
    first layer's sum with its taps in the opposite order.
    """
    total = _correlate(gradient, activations, flipped=True)
    weights = total[:-CHANNELS].view(1, 3, 3, CHANNELS).permute(0, 3, 1, 2)
    return weights, gradient.sum(dtype=torch.float32).reshape(1)


def _correlate(picture: Tensor, features: Tensor, flipped: bool) -> Tensor:
    """The nine sums of a picture (b, 1, y, x) with each of 32 channels, and the channels' own sums: (320,)."""
    features = _channels_last(features, features.dtype)
    exact = picture.dtype == torch.float32
    picture = picture.contiguous() if exact else picture.to(features.dtype).contiguous()
    device, (pictures, _, height, width) = features.device, features.shape
    blocks = min(BLOCKS_A_PROCESSOR * _processors(device), pictures * height)
    partial = features.new_empty((blocks, THIN_SUMS), dtype=torch.float32)
    _function("correlate_picture_fp32" if exact else "correlate_picture", device, features.dtype).launch(
        device, blocks, THIN_THREADS, 0, picture, features, partial, pictures, height, width, int(flipped))
    return _add_blocks(partial, features)


def _add_blocks(partial: Tensor, like: Tensor) -> Tensor:
    """(blocks, columns) → (columns,), in a fixed order."""
    blocks, columns = partial.shape
    total = partial.new_empty(columns)
    _function("add_blocks", like.device, like.dtype).launch(
        partial.device, -(-columns // 32), ADDING_THREADS, 0, partial, total, blocks, columns)
    return total


@cache
def _function(name: str, device: torch.device, dtype: torch.dtype) -> Kernel:
    is_bf16 = int(dtype == torch.bfloat16)
    return kernel("weight_gradient.cu", name, device, (f"ELEMENT_BF16={is_bf16}", f"STAGES={_stages(device)}"))


@cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


@cache
def _stages(device: torch.device) -> int:
    """How many stages of the ring fit into a block's shared memory: 4 on Hopper, 2 on Ada."""
    shared = torch.cuda.get_device_properties(device).shared_memory_per_block_optin
    return min(MOST_STAGES, (shared - RESERVED_SHARED) // STAGE_BYTES)


def _channels_last(features: Tensor, dtype: torch.dtype) -> Tensor:
    """(b, 32, y, x) as (b, y, x, 32) in memory, in bf16 or fp16."""
    if features.shape[1] != CHANNELS or dtype not in (torch.bfloat16, torch.float16):
        raise ValueError(f"{tuple(features.shape)} in {dtype}: expected {CHANNELS} channels in bf16 or fp16")
    reason = why_not(features.device)
    if reason:
        raise NotCompiled(reason)
    return features.to(dtype).contiguous(memory_format=torch.channels_last)
