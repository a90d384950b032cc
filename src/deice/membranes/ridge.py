"""Ridge: a classical membrane detector, tile by tile: grey values smoothed, clipped, and matched with plates.

Clipping is what makes it work: proteins are darker than membranes, and without it a few dark spots in a row answer
like a sheet.
"""

import logging
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, interpolate

from deice.conditions import Conditions
from deice.devices import memory_left
from deice.errors import MemoryFault, RecipeFault, UserError
from deice.membranes.plates import half_sphere, sheetness
from deice.ops.normalise import Statistics, replace_not_finite
from deice.ops.tiles import Span, add_tile, blocks, core_of, grid, read_tile, round_up

log = logging.getLogger(__name__)
REACH = 3.0  # standard deviations of a Gaussian after which it counts as nothing
FINE = 1.5  # voxels of the working grid that σ across the thinnest plate has at least: finer volumes are binned
CHANCE = 2.5  # times the median sheetness: there a voxel is as likely membrane as not (docs/segmentation.md)
LARGEST_CORE = 128  # voxels of the working grid along each axis
BYTES, WORKING_BYTES = 24, 48  # a voxel of a tile with its halo, and one of its working grid; measured


@dataclass(frozen=True)
class Ridge:
    """Dark sheets, or bright ones (`bright`), in a volume whose grey values have any scale.

    `smoothing`: σ in Å of a Gaussian before grey values are clipped at ± `clip` of their standard deviation.
    `thickness`: σ in Å across a sheet, one per scale; the best answer counts. `extent`: σ in Å along it.
    `directions`: how many normals the bank has.
    """

    thickness: tuple[float, ...] = (30.0,)
    extent: float = 100.0
    smoothing: float = 10.0
    clip: float = 0.5
    directions: int = 40
    bright: bool = False

    def __post_init__(self):
        lengths = [*self.thickness, self.extent, self.clip]
        if not self.thickness or min(lengths) <= 0 or self.smoothing < 0 or self.directions < 6:
            raise RecipeFault(f"{self}: expected lengths and clip above 0, six directions or more")

    @property
    def name(self) -> str:
        """In a few words, for labels."""
        return f"ridge of {'bright' if self.bright else 'dark'} sheets"

    def binning(self, pixel_size: float) -> int:
        """Voxels along each axis that become one of the working grid."""
        return max(1, int(min(self.thickness) / (FINE * pixel_size)))

    def halo(self, pixel_size: float) -> int:
        """Voxels that a tile must see beyond its core."""
        reach = max(self.extent, *self.thickness) + self.smoothing
        return round_up(ceil(REACH * reach / pixel_size), self.binning(pixel_size))


def add_scores(canvas: np.ndarray, views: list[Any], found: list[Statistics], ridge: Ridge, pixel_size: float,
               conditions: Conditions) -> None:
    """Add to `canvas` (z, y, x), which must hold zeros, how much each voxel looks like a membrane, 0 to 1.

    A voxel's sheetness s counts as s / (s + 2.5 m), m its median over the volume: so one threshold suits volumes of any
    noise, and smoothed or denoised ones. views: each (z, y, x), with their statistics `found`; their mean is looked at.
    pixel_size: Å. Raises UserError for voxels too large to show a membrane, MemoryFault where no tile fits.
    """
    if pixel_size > min(ridge.thickness):
        raise UserError(f"voxels of {pixel_size:.4g} Å; expected {min(ridge.thickness):g} Å or less, as a membrane is "
                        "50 Å thick: use a volume of finer voxels, or check --pixel-size")
    volume = _Mean(views, found, -1.0 if ridge.bright else 1.0)
    spread = _spread(volume, ridge, pixel_size, conditions)
    stride, halo = ridge.binning(pixel_size), ridge.halo(pixel_size)
    for tile in grid(canvas.shape, choose_cores(canvas.shape, ridge, pixel_size, conditions), halo, stride):
        block = volume.read(tile).to(conditions.device)
        add_tile(canvas, tile, _sheetness(block, spread, tile, ridge, pixel_size).cpu().numpy())
    even = CHANCE * _median(canvas)
    for block in blocks(canvas.shape):
        canvas[block] /= canvas[block] + even


def _median(canvas: np.ndarray) -> float:
    """The median of what is above 0, to a thousandth of the highest, in bounded memory."""
    highest = max(float(canvas[block].max()) for block in blocks(canvas.shape))
    if highest <= 0:
        return 1.0
    counts = np.zeros(1000, np.int64)
    for block in blocks(canvas.shape):
        values = canvas[block]
        counts += np.histogram(values[values > 0], counts.size, (0, highest))[0]
    return (int(np.searchsorted(counts.cumsum(), counts.sum() / 2)) + 0.5) * highest / counts.size


@dataclass(frozen=True)
class _Mean:
    """The mean of the views, each of mean 0 and standard deviation 1, times `sign`."""

    views: list[Any]
    found: list[Statistics]
    sign: float

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.views[0].shape)

    def read(self, tile: tuple[Span, ...]) -> Tensor:
        """The tile with its halo, reflected beyond the faces; values that are not finite replaced."""
        total = np.zeros(1, np.float32)
        for view, numbers in zip(self.views, self.found):
            grey = replace_not_finite(read_tile(view, tile), numbers.mean)
            total = total + (grey - numbers.mean) * np.float32(self.sign / (numbers.sd * len(self.views)))
        return torch.from_numpy(total)


def _spread(volume: _Mean, ridge: Ridge, pixel_size: float, conditions: Conditions) -> float:
    """Standard deviation of the whole smoothed volume."""
    halo, total, squares = ceil(REACH * ridge.smoothing / pixel_size), 0.0, 0.0
    cores = [min(size, LARGEST_CORE) for size in volume.shape]
    for tile in grid(volume.shape, cores, halo, 1):
        smooth = core_of(_smoothed(volume.read(tile).to(conditions.device), ridge.smoothing / pixel_size), tile)
        inside = smooth[tuple(slice(0, min(s.stop, n) - s.start) for s, n in zip(tile, volume.shape))].double()
        total, squares = total + float(inside.sum()), squares + float(inside.square().sum())
    count = prod(volume.shape)
    return max(squares / count - (total / count) ** 2, 1e-12) ** 0.5


def _sheetness(block: Tensor, spread: float, tile: tuple[Span, ...], ridge: Ridge, pixel_size: float) -> Tensor:
    """The best of the scales over the tile's core, (*core)."""
    bins = ridge.binning(pixel_size)
    clipped = (_smoothed(block, ridge.smoothing / pixel_size) / spread).clamp(-ridge.clip, ridge.clip) / ridge.clip
    working = avg_pool3d(clipped[None, None], bins)[0, 0]
    # with one voxel of the working grid around the core, for the interpolation
    core = tuple(slice(s.halo // bins - 1, (s.halo + s.stop - s.start) // bins + 1) for s in tile)
    normals = half_sphere(ridge.directions)
    scales = (sheetness(working, across / (pixel_size * bins), ridge.extent / (pixel_size * bins), normals, core)
              for across in ridge.thickness)
    best = torch.stack(list(scales)).amax(0)
    fine = interpolate(best[None, None], scale_factor=bins, mode="trilinear")[0, 0] if bins > 1 else best
    return fine[tuple(slice(bins, size - bins) for size in fine.shape)]


def _smoothed(block: Tensor, sigma: float) -> Tensor:
    """`block` (z, y, x) under a Gaussian of `sigma` voxels; it repeats itself beyond its faces."""
    if sigma == 0:
        return block
    spectrum = torch.fft.rfftn(block)
    for axis, size in enumerate(block.shape):
        frequency = (torch.fft.rfftfreq if axis == 2 else torch.fft.fftfreq)(size, device=block.device)
        gain = torch.exp(-2 * (torch.pi * sigma * frequency) ** 2)
        spectrum *= gain.reshape([-1 if a == axis else 1 for a in range(3)])
    return torch.fft.irfftn(spectrum, s=block.shape)


def choose_cores(shape: tuple[int, ...], ridge: Ridge, pixel_size: float, conditions: Conditions) -> list[int]:
    """The core of a tile along each axis, as large as `conditions` allow; MemoryFault where not even the least fits."""
    stride, halo = ridge.binning(pixel_size), ridge.halo(pixel_size)
    largest = conditions.tile or LARGEST_CORE * stride
    cores = [min(round_up(largest, stride), round_up(size, stride)) for size in shape]
    if conditions.tile is not None:
        return cores
    budget = memory_left(conditions.device, conditions.max_memory)
    each = BYTES + WORKING_BYTES / stride**3
    while (needed := each * prod(core + 2 * halo for core in cores)) > budget:
        longest = int(np.argmax(cores))
        smaller = [round_up(core // 2, stride) if axis == longest else core for axis, core in enumerate(cores)]
        if smaller == cores:
            raise MemoryFault(f"the smallest tile needs {needed / 1e6:.0f} MB and {budget / 1e6:.0f} MB are left; "
                              "grant more by --max-memory")
        cores = smaller
    return cores
