"""The layers of the fused stack: 3×3 convolutions from 1 or to 1 channel and of 32, one CUDA launch each.

Activations are (b, 32, y, x) in bf16 or fp16 with the channels last in memory; sums are fp32; there are zeros around
the picture. The picture itself and its gradient are (b, 1, y, x) fp32. Weights are those of torch.nn.Conv2d in fp32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from deice.kernels.compiled import Kernel, architecture_of, kernel

WIDTH = 32  # channels
TYPES = {torch.bfloat16: (), torch.float16: ("FP16",)}  # and the macros that ask for them
SOURCE = "convolution_stack.cu"
STRIP, COLUMN = 64, 64  # pixels that a worker owns side by side; rows of a block that widens
ROW_BYTES = (STRIP + 2) * WIDTH * 2  # of a row in shared memory


@dataclass(frozen=True)
class Shape:
    """How the walking kernels run on an architecture: workers of 128 threads, their rows in flight, shared weights."""

    workers: int
    ring: int
    weight_bytes: int

    @property
    def shared(self) -> int:
        """Bytes of shared memory of a block."""
        return self.workers * self.ring * ROW_BYTES + self.weight_bytes


LAYER_BYTES = 9 * WIDTH * WIDTH * 2  # of a layer's weights
HOPPER = Shape(workers=4, ring=10, weight_bytes=LAYER_BYTES)
HOPPER_PAIR = Shape(workers=3, ring=10 + 2, weight_bytes=2 * LAYER_BYTES)  # two rows of the layer between
OTHERS = Shape(workers=2, ring=8, weight_bytes=0)


def first(picture: Tensor, weight: Tensor, bias: Tensor, out: Tensor) -> Tensor:
    """ReLU(convolution of `picture` (b, 1, y, x) by `weight` (32, 1, 3, 3) + bias) into `out` (b, 32, y, x)."""
    batch, _, height, width = picture.shape
    blocks = batch * -(-width // STRIP) * -(-height // COLUMN)
    widen = _kernel("first", out.device, out.dtype)
    widen.launch(out.device, blocks, 256, 0, picture, out, weight, bias, height, width)
    return out


def last_gradient(gradient: Tensor, weight: Tensor, scale: float, active: Tensor, out: Tensor) -> Tensor:
    """scale · (gradient (b, 1, y, x) of what `last` gave, by its weight (1, 32, 3, 3)), where `active` > 0."""
    batch, _, height, width = gradient.shape
    blocks = batch * -(-width // STRIP) * -(-height // COLUMN)
    widen = _kernel("last_gradient", out.device, out.dtype)
    widen.launch(out.device, blocks, 256, 0, gradient, out, weight, scale, active, height, width)
    return out


def layer(activations: Tensor, packed: Tensor, bias: Tensor, out: Tensor) -> Tensor:
    """ReLU(convolution of `activations` (b, 32, y, x) by packed weights + bias) into `out` of the same shape."""
    _walk("layer", activations, activations, out, packed, bias)
    return out


def can_pair(device: torch.device) -> bool:
    """Whether `two_layers` runs on `device`: it needs Hopper's matrix units and shared memory."""
    return architecture_of(device) == "sm_90a"


def two_layers(activations: Tensor, packed: Sequence[Tensor], biases: Sequence[Tensor], out: Tensor,
               between: Tensor | None = None) -> Tensor:
    """`layer` twice in one walk, by the first two of `packed` and `biases`: what is between is neither read nor, unless
    `between` is given to take it, written.
    """
    _walk("two_layers", activations, activations, out, packed[0], biases[0], packed[1], biases[1], between)
    return out


def layer_gradient(gradient: Tensor, packed: Tensor, active: Tensor, out: Tensor) -> Tensor:
    """The gradient of the layer's input from that of its output, where the input `active` > 0, into `out`.

    packed: by `pack_layers` with `gradient`.
    """
    _walk("layer_gradient", gradient, gradient, out, packed, active)
    return out


def last(activations: Tensor, packed: Tensor, bias: Tensor | None, added: Tensor | None, scale: float) -> Tensor:
    """added + scale · (convolution of `activations` (b, 32, y, x) to one channel + bias): (b, 1, y, x) fp32."""
    batch, _, height, width = activations.shape
    out = torch.empty((batch, 1, height, width), dtype=torch.float32, device=activations.device)
    _walk("last", activations, activations, out, packed, bias, added, scale)
    return out


def activations_like(picture: Tensor, dtype: torch.dtype) -> Tensor:
    """Room for activations (b, 32, y, x) of `picture` (b, 1, y, x), channels last in memory at any size."""
    batch, _, height, width = picture.shape
    return torch.empty((batch, height, width, WIDTH), dtype=dtype, device=picture.device).permute(0, 3, 1, 2)


@cache
def _kernel(function: str, device: torch.device, dtype: torch.dtype) -> Kernel:
    hopper = architecture_of(device) == "sm_90a"
    return kernel(SOURCE, function, device, TYPES[dtype] + (("WGMMA",) if hopper else ()))


def _walk(function: str, activations: Tensor, *arguments: Tensor | float | None) -> None:
    """Launch one of the kernels that walk down strips: as many blocks as there are multiprocessors."""
    batch, _, height, width = activations.shape
    device = activations.device
    shape, step = (HOPPER, STRIP) if architecture_of(device) == "sm_90a" else (OTHERS, STRIP)
    if function == "two_layers":
        shape, step = HOPPER_PAIR, STRIP - 2
    strips, processors = batch * -(-width // step), _multiprocessors(device)
    rows = piece_rows(strips, height, processors * shape.workers)
    blocks = min(processors, -(-strips * -(-height // rows) // shape.workers))
    _kernel(function, device, activations.dtype).launch(device, blocks, 128 * shape.workers, shape.shared, *arguments,
                                                        batch, height, width, rows)


@cache
def piece_rows(strips: int, height: int, workers: int) -> int:
    """Into pieces of how many rows to cut each of the strips, so that all workers are done soonest.

    A piece costs its rows and the two beside it.
    """
    def cost(rows: int) -> int:
        return -(-strips * -(-height // rows) // workers) * (rows + 2)

    rounds = range(1, 9)
    return min((-(-height // max(1, min(height, n * workers // strips))) for n in rounds), key=cost)


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def pack_layers(weights: Sequence[Tensor], dtype: torch.dtype, gradient: bool = False) -> list[Tensor]:
    """Weights (32, 32, 3, 3) of several layers, each as `layer` reads it or, for `gradient`, `layer_gradient`."""
    if not weights:
        return []
    hopper = architecture_of(weights[0].device) == "sm_90a"
    table = _on_device(hopper, gradient, weights[0].device)
    return list(torch.stack(list(weights)).reshape(len(weights), -1)[:, table].to(dtype))


@cache
def _on_device(hopper: bool, gradient: bool, device: torch.device) -> Tensor:
    return layer_table(hopper, gradient).to(device)


def pack_last(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights (1, 32, 3, 3) as `last` reads them: fragments of 8 outputs of which one is used."""
    return _fragments(weight.reshape(1, WIDTH, 3, 3), 1).to(dtype)


def pack_first_gradient(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The first layer's weights (32, 1, 3, 3), to be used by `last` for the gradient of the picture."""
    return pack_last(weight.transpose(0, 1).flip(2, 3), dtype)


@cache
def layer_table(hopper: bool, gradient: bool) -> Tensor:
    """Which of the 9216 weights (o, i, ky, kx) stands where in the packed ones."""
    places = torch.arange(WIDTH * WIDTH * 9).reshape(WIDTH, WIDTH, 3, 3)
    if gradient:  # of output and input channels exchanged, and turned by half a turn
        places = places.transpose(0, 1).flip(2, 3)
    outputs = places[_stored_order()]
    return _matrix_units(outputs) if hopper else _fragments(outputs, 4)


def _stored_order() -> Tensor:
    """Which output channel is column n of a product: so that a thread's columns 2·t and the next of all four blocks of
    8 are the channels 8·t … 8·t + 7.
    """
    block, thread, next_one = torch.meshgrid(torch.arange(4), torch.arange(4), torch.arange(2), indexing="ij")
    return (8 * thread + 2 * block + next_one).flatten()


def _matrix_units(outputs: Tensor) -> Tensor:
    """(n, i, ky, kx) as Hopper's matrix units read it from shared memory: [kx][half][8s of i][ky from 2 to 0][n][8]."""
    blocks = outputs.flip(2).reshape(WIDTH, 2, 2, 8, 3, 3)  # n, half, eights, eighth, ky, kx
    return blocks.permute(5, 1, 2, 4, 0, 3).flatten()


def _fragments(outputs: Tensor, blocks: int) -> Tensor:
    """(n, i, ky, kx) as mma.sync holds it in registers: [ky][kx][half][block of n][lane][k + 8][k + 1].

    Lane l has column l / 4 and rows k = 2 · (l % 4) of the 16 of a half. Columns that are missing are zeros.
    """
    padded = outputs.new_zeros((8 * blocks, WIDTH, 3, 3))
    padded[: len(outputs)] = outputs
    parts = padded.reshape(blocks, 8, 2, 2, 4, 2, 3, 3)  # block, column, half, k + 8, pair, k + 1, ky, kx
    return parts.permute(6, 7, 2, 0, 1, 4, 3, 5).flatten()
