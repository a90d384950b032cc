"""Membranes: closed vesicles and sheets that cross the whole cell, as distances from the middle of the bilayer.

Lengths are Å, places (z, y, x) from the centre of the first voxel. The cell repeats itself along y and x.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deice.worlds.poses import random_rotation

HALF_MEMBRANE = 25.0  # Å from the middle to where the bilayer ends
Points = tuple[Tensor, Tensor, Tensor]  # z, y, x, of shapes that broadcast


@dataclass(frozen=True, eq=False)
class Vesicle:
    """An ellipsoid with ripples.

    centre: (3,) z, y, x.  axes: (3,) semi-axes along the rows of `frame` (3, 3), each z, y, x.  ripple: relative
    height, of the order `order` about the first axis.  period: (y, x).
    """

    centre: np.ndarray
    axes: np.ndarray
    frame: np.ndarray
    ripple: float
    order: int
    period: tuple[float, float]

    @property
    def reach(self) -> float:
        """Å from the centre beyond which there is nothing of it."""
        return float(self.axes.max()) * (1 + self.ripple) + 2 * HALF_MEMBRANE

    def distance(self, points: Points) -> Tensor:
        """Å from the surface, negative inside; exact to first order near it."""
        z, y, x = self.offsets(points)
        along = [row[0] * z + row[1] * y + row[2] * x for row in self.frame.tolist()]
        scaled = [coordinate / axis for coordinate, axis in zip(along, self.axes.tolist(), strict=True)]
        radius = torch.sqrt(sum(c**2 for c in scaled) + 1e-12)
        slope = torch.sqrt(sum((c / axis) ** 2 for c, axis in zip(scaled, self.axes.tolist(), strict=True)) + 1e-12)
        beside = torch.sqrt(scaled[1] ** 2 + scaled[2] ** 2) / radius  # no ripple at the poles
        wave = self.ripple * beside * torch.cos(self.order * torch.atan2(scaled[2], scaled[1]))
        return (radius - 1 - wave) * radius / slope

    def offsets(self, points: Points) -> Points:
        """`points` from the nearest copy's centre."""
        z, y, x = (axis - at for axis, at in zip(points, self.centre.tolist(), strict=True))
        return z, wrapped(y, self.period[0]), wrapped(x, self.period[1])


@dataclass(frozen=True, eq=False)
class Sheet:
    """A wavy wall at x = place + slope · (z - middle) + waves; two walls `gap` apart where it is not 0.

    Its normal lies near x, where tilts about y can see it.
    waves: (n, 4) height in Å, whole waves along y, waves per Å along z, phase.  half: Å of z above and below the
    middle that it is wanted for.  period: (y, x).
    """

    place: float
    slope: float
    middle: float
    waves: np.ndarray
    gap: float
    half: float
    period: tuple[float, float]

    @property
    def reach(self) -> float:
        """Å along x from its place beyond which there is nothing of it."""
        return abs(self.slope) * self.half + float(self.waves[:, 0].sum()) + self.gap / 2 + 3 * HALF_MEMBRANE

    def distance(self, points: Points) -> Tensor:
        """Å from the nearer wall, exact to first order near it."""
        z, y, x = points
        at = self.place + self.slope * (z - self.middle) + 0 * y
        along_y, along_z = torch.zeros_like(at), torch.full_like(at, self.slope)
        for height, turns, frequency, phase in self.waves.tolist():
            pitch_y, pitch_z = 2 * math.pi * turns / self.period[0], 2 * math.pi * frequency
            angle = pitch_y * y + pitch_z * z + phase
            at = at + height * torch.sin(angle)
            along_y = along_y + height * pitch_y * torch.cos(angle)
            along_z = along_z + height * pitch_z * torch.cos(angle)
        distance = wrapped(x - at, self.period[1]) / torch.sqrt(1 + along_y**2 + along_z**2)
        return distance if self.gap == 0 else distance.abs() - self.gap / 2

    def offsets(self, points: Points) -> Points:
        """Along x from its place; along y and z it is everywhere."""
        z, y, x = points
        return 0 * z, 0 * y, wrapped(x - self.place, self.period[1])


Membrane = Vesicle | Sheet


def box(membrane: Membrane, axes: Points) -> Points:
    """Which of the grid's `axes`, each (n,), come near it: their numbers, each (m,)."""
    z, y, x = ((offset.abs() <= membrane.reach).nonzero()[:, 0] for offset in membrane.offsets(axes))
    return z, y, x


def distances(membrane: Membrane, axes: Points, near: Points) -> Tensor:
    """Its distance from the points of the box `near` of the grid, (z, y, x)."""
    z, y, x = (axis[index] for axis, index in zip(axes, near, strict=True))
    return membrane.distance((z[:, None, None], y[None, :, None], x[None, None, :]))


def draw_vesicle(centre: np.ndarray, period: tuple[float, float], rng: np.random.Generator) -> Vesicle:
    """150 to 600 Å in radius, small ones more often; round or flattened."""
    radius = float(np.exp(rng.uniform(math.log(150), math.log(600))))
    axes = radius * rng.uniform([0.55, 0.85, 0.85], [1.0, 1.1, 1.1])
    frame = random_rotation(1, rng)[0]
    return Vesicle(centre, axes, frame, float(rng.uniform(0, 0.06)), int(rng.integers(2, 5)), period)


def draw_sheet(middle: float, half: float, period: tuple[float, float], rng: np.random.Generator) -> Sheet:
    """A plasma membrane or, as often, the two walls of a cisterna; `half`: of the sample's thickness."""
    heights = rng.uniform(20, 70, 3)
    waves = np.stack([heights, [1, 1, 2], rng.uniform(-1 / 900, 1 / 900, 3), rng.uniform(0, 2 * math.pi, 3)], axis=1)
    gap = float(rng.uniform(160, 320)) if rng.random() < 0.5 else 0.0
    return Sheet(rng.uniform(0, period[1]), rng.uniform(-0.6, 0.6), middle, waves, gap, half, period)


def wrapped(offset: Tensor, period: float) -> Tensor:
    """`offset` to the nearest copy: -period/2 to period/2."""
    return offset - period * torch.round(offset / period)
