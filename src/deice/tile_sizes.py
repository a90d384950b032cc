"""How large a tile may be: what the memory and the device allow, and what the network must see."""

from collections.abc import Sequence
from math import ceil, isqrt, prod

import numpy as np
import torch

from deice.checkpoint import Model
from deice.conditions import Conditions
from deice.devices import choose_precision
from deice.errors import MemoryFault
from deice.ops.tiles import Span, round_up

LARGEST_TILE = {("cpu", 2): 1024, ("cpu", 3): 160, ("cuda", 3): 320}  # core and halo, per axis
INDEXED = 1 << 32  # activations of a picture's tile on a GPU: half of them are one tensor's, which 32 bits must index
HALOS = {2: 12, 3: 5}  # a tile may always be so many halos wide, or most of the work would go into them
BLEND = 16  # pixels over which neighbouring tiles fade into each other
DRAWN_AT_ONCE = 10  # windows of a random estimate
CONVOLUTION_WORKSPACE = 2.0  # measured: what convolutions hold beside their inputs and outputs


def choose_cores(shape: Sequence[int], model: Model, views: int, conditions: Conditions) -> list[int]:
    """The core of a tile along each axis: as large as the memory and the device's best size allow, and no larger than
    it takes to cover the axis by that many tiles.

    Raises MemoryFault, with what would be needed, where not even the smallest tile fits.
    """
    halo, stride = round_up(model.halo, model.net.stride), model.net.stride
    if conditions.tile is not None:
        return [min(round_up(conditions.tile, stride), round_up(size, stride)) for size in shape]
    usual = LARGEST_TILE.get((conditions.device.type, len(shape)), isqrt(INDEXED // model.net.floats_per_pixel))
    largest = max(usual - 2 * halo, (HALOS[len(shape)] - 2) * halo, stride) // stride * stride
    lengths = model.recipe.data.window if model.draws else (largest,) * len(shape)
    cores = [min(round_up(size, stride), round_up(length, stride)) for size, length in zip(shape, lengths)]
    budget, precision = conditions.memory_left(), choose_precision(conditions.precision, conditions.device)
    while (needed := tile_bytes(cores, model, views, precision)) > budget:
        smaller = halved(cores, stride)
        if smaller == cores:
            raise MemoryFault(f"the smallest tile needs {needed / 1e6:.0f} MB and {budget / 1e6:.0f} MB are left; "
                              "grant more by --max-memory, or use a smaller net")
        cores = smaller
    return cores if model.draws else [_evened(core, size, stride) for core, size in zip(cores, shape)]


def _evened(core: int, size: int, stride: int) -> int:
    """The shortest core of which no more are needed to cover `size`: the last one would else lie half outside."""
    overlap = min(BLEND, core // 2) // stride * stride
    count = ceil((size - overlap) / (core - overlap)) if core < size else 1
    return min(core, round_up(ceil((size + (count - 1) * overlap) / count), stride))


def tile_bytes(cores: Sequence[int], model: Model, views: int, precision: torch.dtype = torch.float32) -> int:
    """Memory that one tile takes: activations, workspace, and the views with their normalised copies."""
    halo = round_up(model.halo, model.net.stride)
    pixels = prod(core + 2 * halo for core in cores)
    activations = model.net.floats_per_pixel * precision.itemsize * CONVOLUTION_WORKSPACE
    return int(pixels * (activations + 16 * views))


def halved(cores: Sequence[int], stride: int) -> list[int]:
    """Half the longest core; all as they were where it cannot be smaller."""
    longest = int(np.argmax(cores))
    return [max(stride, round_up(c // 2, stride)) if i == longest else c for i, c in enumerate(cores)]


def at_once(tile: Sequence[Span], model: Model, conditions: Conditions) -> int:
    """Pictures in the network together: one, for the memory's sake; on a GPU more of what has small windows."""
    if not model.draws or conditions.device.type != "cuda":
        return 1
    sizes = [len(span.weight) for span in tile]
    return min(DRAWN_AT_ONCE, max(1, conditions.memory_left() // tile_bytes(sizes, model, 1)))
