"""One simulated tomogram: a cell, its tilt series counted electron by electron, and their back-projections.

Grey values of the volumes are V: the potential as the lens shows it, dark (negative) where matter is, 0 on average.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from deice.image import Geometry, Image
from deice.ops.ctf import Optics, electron_wavelength, interaction_constant, plane_frequencies
from deice.ops.fourier import filter_radially, from_half_transform, half_transform
from deice.ops.tilts import Tilts
from deice.worlds.cell import GOLD_RADIUS, Cell, draw_cell, kinds_of
from deice.worlds.detector import Detector, binned, record, transfer_at
from deice.worlds.exposure import generator
from deice.worlds.lens import intensity
from deice.worlds.matter import GOLD_FREE_PATH, damage
from deice.worlds.membranes import wrapped
from deice.worlds.projection import ice
from deice.worlds.tilt_series import TiltSeries
from deice.worlds.tomogram_world import TomogramWorld
from deice.worlds.voxels import Block, blocks_of, render

OPTICS, CELL, ICE, NOISE = range(100, 104)  # each draws from random numbers of its own


@dataclass(frozen=True)
class Tomogram:
    """Tomogram number `index` of the set that `seed` begins; the same world, seed and index give the same.

    keep: is given each block of the scene as it passes into the series, for who wants to write it.
    Nothing is computed before it is asked for.
    """

    world: TomogramWorld
    seed: int = 0
    index: int = 0
    keep: Callable[[Block], None] | None = field(default=None, compare=False)

    @cached_property
    def cell(self) -> Cell:
        """What lies where."""
        return draw_cell(self.world, kinds_of(self.world), self._rng(CELL))

    @cached_property
    def optics(self) -> Optics:
        """The lens of this series: defocus is drawn, and the same at every tilt and over each picture."""
        return replace(self.world.optics, defocus=float(self._rng(OPTICS).uniform(*self.world.defocus)))

    @property
    def geometry(self) -> Geometry:
        """The voxel size, for headers."""
        return Geometry().with_pixel_size(self.world.pixel_size)

    @cached_property
    def density(self) -> np.ndarray:
        """(z, y, x) in V: the scene before any lens, over the potential of ice."""
        return torch.cat([block.density for block in render(self.cell, self.world)], dim=1).numpy()

    @cached_property
    def labels(self) -> np.ndarray:
        """(z, y, x) int8: what lies where, named by cell.label_names."""
        return torch.cat([block.labels for block in render(self.cell, self.world)], dim=1).numpy()

    @property
    def truth(self) -> np.ndarray:
        """(z, y, x): the noiseless scene without the structure of its ice, through the same tilts, lens and weights."""
        return self._volumes[0]

    def halves(self) -> Image:
        """(2, z, y, x): reconstructions of the even and of the odd frames of every tilt."""
        return Image(self._volumes[1:], self.geometry)

    def average(self, halves: Image) -> Image:
        """(1, z, y, x): the reconstruction of all frames, from those of the even and the odd ones."""
        even, odd = halves.views
        return Image(self.series.average(even, odd)[None], self.geometry)

    @property
    def signal_to_noise(self) -> float:
        """Of the full tomogram, per voxel."""
        return self.series.signal_to_noise

    @cached_property
    def series(self) -> TiltSeries:
        """Every block of the scene projected at every tilt, then exposed tilt by tilt.

        Holds three pictures of each tilt in float32, and a few blocks.
        """
        world = self.world
        pictures = torch.empty(3, len(world.angles), world.size[1], self.tilts.width)
        for block in render(self.cell, world):
            if self.keep is not None:
                self.keep(block)
            pictures[0, :, block.rows] = self.tilts.project(block.density)
        for number, tilt in enumerate(world.taken):
            before = (number + 0.5) * world.dose / len(world.angles)
            pictures[:, tilt] = self._exposed(pictures[0, tilt], tilt, before)
        return TiltSeries(self.tilts, pictures, (world.frames + 1) // 2 / world.frames, world.pixel_size)

    @cached_property
    def tilts(self) -> Tilts:
        """How the volume is seen; the pictures reach beyond it as far as the lens spreads what they show."""
        depth, _, length = self.world.size
        spread = electron_wavelength(self.optics.kv) * 1e4 * abs(self.optics.defocus) / (2 * self.world.pixel_size**2)
        return Tilts(self.world.angles, depth, length, margin=16 + math.ceil(spread))

    @cached_property
    def _volumes(self) -> np.ndarray:
        depth, rows, length = self.world.size
        some = blocks_of(rows, 3 * depth * length)
        return torch.cat([self.series.reconstruct(each) for each in some], dim=2).numpy()

    def _exposed(self, projected: Tensor, tilt: int, before: float) -> Tensor:
        """One tilt: (3, y, u) of its potential `projected` (y, u), damaged by the dose `before`."""
        world, pixel, shape = self.world, self.world.pixel_size, projected.shape
        spectrum = half_transform(projected.double() * pixel, 2)
        if world.radiation_damage:
            spectrum = spectrum * damage(plane_frequencies(shape, pixel)[0], before)
        through = self._through_gold(tilt, shape)
        lens = self.optics if world.ctf else None
        truth = intensity(from_half_transform(spectrum, shape), lens, pixel, through)
        rate = truth
        if world.ice:
            # Slices through a slab that are further apart than 1 / thickness have nothing in common: of a structure
            # without order, as ice is, each tilt sees another picture.
            path, dose = world.sample / math.cos(math.radians(world.angles[tilt])), world.dose / len(world.angles)
            frozen = ice(shape, pixel, path, dose, self._rng(ICE, tilt))
            rate = intensity(from_half_transform(spectrum + frozen, shape), lens, pixel, through)
        shown = torch.stack([self._blurred(truth), *self._counted(rate, tilt)])
        return (shown - 1) / (2 * interaction_constant(self.optics.kv) * pixel)

    def _counted(self, rate: Tensor, tilt: int) -> list[Tensor]:
        """Even and odd frames of a tilt, each (y, u), relative to the electrons expected of empty ice."""
        world, rng = self.world, generator(self.seed, self.index, NOISE, tilt)
        frames, counted = world.frames, world.counted(world.angles[tilt])
        if self._detector.kind == "counting":
            rate = self._blurred(rate).clamp_min(0)
        halves = []
        for count in ((frames + 1) // 2, frames // 2):
            electrons = counted * count / frames
            halves.append(record(rate * electrons, count, self._detector, 1.0, rng) / electrons)
        return halves

    @cached_property
    def _detector(self) -> Detector:
        return binned(self.world.detector, self.world.binning)

    def _blurred(self, picture: Tensor) -> Tensor:
        return filter_radially(picture, lambda frequency: transfer_at(self._detector, frequency), axes=2)

    def _through_gold(self, tilt: int, shape: tuple[int, ...]) -> Tensor | float:
        """Share of the amplitude that beads let pass at a tilt, (y, u): exp(-path / (2 · mean free path))."""
        places = self.cell.gold.places / self.world.pixel_size
        if not len(places):
            return 1.0
        angle, (depth, rows, length) = math.radians(self.world.angles[tilt]), self.world.size
        radius, y = GOLD_RADIUS / self.world.pixel_size, torch.arange(shape[0])[:, None]
        u = torch.arange(shape[1])[None, :] - shape[1] // 2
        path = torch.zeros(tuple(shape))
        for z, row, x in places.tolist():
            seen = (x - length // 2) * math.cos(angle) + (z - depth // 2) * math.sin(angle)
            beside = wrapped(u - seen, length * math.cos(angle)) ** 2 + wrapped(y - row, rows) ** 2
            path += 2 * (radius**2 - beside).clamp_min(0).sqrt()
        return torch.exp(-path * self.world.pixel_size / (2 * GOLD_FREE_PATH))

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.index, *stream])
