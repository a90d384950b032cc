"""The missing wedge: which frequencies a tilt series measured, and how a volume carries that with it.

Tilts are about the y axis: the picture at the tilt θ measures the frequencies (z, x) = κ (sin θ, cos θ), whatever y
(Bracewell 1956; the signs are those of `ops.tilts`). A range of tilts measures the double sector between its ends.

The two ends travel as linear ramps beside the volume. Whatever cuts, flips or turns the volume does the same to the
ramps, whose slopes then say where the ends have come to lie: any range, another for each volume.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deice.ops.fourier import frequency_radius, from_half_transform, half_transform, tapered

ENDS = 2  # ramps beside a volume: the first and the last tilt
Turn = tuple[tuple[int, ...], tuple[int, ...]]  # axes as they are taken, then the axes that are flipped


@dataclass(frozen=True)
class Ramp:
    """Distance along the direction of `tilt` (degrees) at each voxel of a volume of `shape` (z, y, x), from its first.

    Sliced like an array of float32; nothing is held.
    """

    tilt: float
    shape: tuple[int, ...]
    dtype: np.dtype = np.dtype(np.float32)  # noqa: RUF009 (a dtype does not change)

    def __getitem__(self, key: Any) -> np.ndarray:
        """The part that `key` (a slice an axis, or ...) selects, (z, y, x) float32."""
        key = (slice(None),) * 3 if key is Ellipsis else key
        slope = (math.sin(math.radians(self.tilt)), 0.0, math.cos(math.radians(self.tilt)))
        parts = [np.arange(size)[part] * s for size, part, s in zip(self.shape, key, slope, strict=True)]
        return (parts[0][:, None, None] + parts[1][:, None] + parts[2]).astype(np.float32)


def ramps(tilt_range: Sequence[float], shape: Sequence[int]) -> tuple[Ramp, Ramp]:
    """The ramps of the first and of the last tilt (degrees), for a volume of `shape` (z, y, x)."""
    first, last = tilt_range
    return Ramp(first, tuple(shape)), Ramp(last, tuple(shape))


def ends_of(ramp_views: Tensor) -> Tensor:
    """Directions (b, 2, 3) of the first and last tilt in the axes of `ramp_views` (b, 2, z, y, x), windows of ramps."""
    z, y, x = (size - 1 for size in ramp_views.shape[-3:])
    corner = ramp_views[..., 0, 0, 0]
    rises = (ramp_views[..., z, 0, 0] - corner) / z, (ramp_views[..., 0, y, 0] - corner) / y
    slopes = torch.stack([*rises, (ramp_views[..., 0, 0, x] - corner) / x], dim=-1)
    return slopes / slopes.norm(dim=-1, keepdim=True)


def measured(ends: Tensor, shape: Sequence[int]) -> Tensor:
    """1 where the tilts between `ends` (b, 2, 3) measured, else 0: (b, 1, z, y, half x) of a half transform of `shape`.

    The tilt axis itself and zero frequency are measured. A Nyquist frequency stands for both signs and so says nothing
    of a direction along its axis: it counts as 0.
    """
    first, last = ends.unbind(1)
    axis = torch.linalg.cross(first, last)
    frequency = _frequencies(shape, ends)
    beyond_first = torch.einsum("...k,bk->b...", frequency, torch.linalg.cross(axis, first))
    before_last = torch.einsum("...k,bk->b...", frequency, torch.linalg.cross(last, axis))
    inside = beyond_first * before_last >= -1e-6 * frequency.square().sum(-1)  # both, or neither: the opposite sector
    return inside.to(ends.dtype).unsqueeze(1)


def only(volumes: Tensor, weight: Tensor) -> Tensor:
    """`volumes` (b, c, z, y, x) with each Fourier coefficient times `weight` (b, 1, z, y, half x)."""
    return from_half_transform(half_transform(volumes, 3) * weight, volumes.shape[-3:])


def power_in_wedge(volume: Tensor, tilt_range: Sequence[float]) -> float:
    """Mean power where tilts of this range (degrees) measured nothing of `volume` (z, y, x), over that where they did.

    Between 0.1 and 0.4 cycles per pixel: near 0 if the range and its sign are right, about 1 where nothing is missing.
    """
    pair = torch.from_numpy(np.stack([ramp[...] for ramp in ramps(tilt_range, volume.shape)]))[None]
    known = measured(ends_of(pair), volume.shape)[0, 0].bool()
    power = half_transform(tapered(volume.double()), 3).abs().square()
    radius = frequency_radius(volume.shape)
    band = (radius > 0.1) & (radius < 0.4)
    return float(power[band & ~known].mean() / power[band & known].mean())


def quarter_turns(moving: bool = False) -> list[Turn]:
    """The 24 rotations of a cube onto itself; `moving`: the 20 of them that take some axis elsewhere."""
    turns = []
    for order in permutations(range(3)):
        parity = sum(order[i] > order[j] for i in range(3) for j in range(i + 1, 3))
        for signs in product((1, -1), repeat=3):
            if (-1) ** parity * math.prod(signs) == 1:
                turns.append((order, tuple(axis for axis in range(3) if signs[axis] < 0)))
    return [turn for turn in turns if turn[0] != (0, 1, 2)] if moving else turns


def turned(volumes: Tensor, turn: Turn) -> Tensor:
    """`volumes` (..., n, n, n) turned: no interpolation, every voxel is one of the input's."""
    leading = volumes.ndim - 3
    order, flips = turn
    moved = volumes.permute(*range(leading), *(leading + axis for axis in order))
    return moved.flip([leading + axis for axis in flips]) if flips else moved


def turned_at_random(views: Tensor, turns: Sequence[Turn], generator: torch.Generator) -> Tensor:
    """`views` (b, v, n, n, n), each sample by one of `turns`, its views alike; a new tensor."""
    choices = torch.randint(len(turns), (len(views),), generator=generator, device=generator.device).tolist()
    return torch.stack([turned(sample, turns[choice]) for sample, choice in zip(views, choices)])


def missing(volume: Tensor, pair: Tensor, net: Callable[[Tensor], Tensor]) -> Tensor:
    """What to add to `volume` (z, y, x), whose ramps are `pair` (2, z, y, x), so that its missing wedge holds what the
    answer of `net` to it holds there: (z, y, x)."""
    unknown = 1 - measured(ends_of(pair[None]), volume.shape)
    return only(net(volume[None, None]) - volume, unknown)[0, 0]


def _frequencies(shape: Sequence[int], like: Tensor) -> Tensor:
    """(z, y, half x, 3) in cycles per pixel, Nyquist as 0."""
    along = []
    for axis, size in enumerate(shape):
        grid = torch.fft.rfftfreq if axis == len(shape) - 1 else torch.fft.fftfreq
        frequency = grid(size, device=like.device, dtype=like.dtype)
        along.append(torch.where(frequency.abs() == 0.5, 0.0, frequency))
    return torch.stack(torch.meshgrid(*along, indexing="ij"), dim=-1)
