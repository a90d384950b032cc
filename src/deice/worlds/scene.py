"""The scene in front of the camera: particles and ice, placed at random and seen through the lens.

It is built on a field wider than the picture, so that the picture's edges see what lies beyond them.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from deice.ops.ctf import Optics, contrast_transfer, envelope, interaction_constant, plane_frequencies
from deice.worlds.maps import protein_from_map
from deice.worlds.matter import damage
from deice.worlds.poses import euler_angles, random_rotation, scatter
from deice.worlds.projection import ice, project
from deice.worlds.proteins import Protein, protein_family
from deice.worlds.world import World

BEYOND = 150.0  # Å of the scene beyond each edge: the reach of the lens's delocalisation
OPTICS, PLACES, ICE, DRIFT = range(4)  # each draws from random numbers of its own


@dataclass(frozen=True)
class Particle:
    """x, y: pixels from the centre of the first pixel.  rot, tilt, psi: RELION's angles in degrees."""

    x: float
    y: float
    name: str
    rot: float
    tilt: float
    psi: float


@dataclass(frozen=True)
class Scene:
    """Scene number `index` of the set that `seed` begins, in `world`; the same three give the same scene."""

    world: World
    seed: int
    index: int

    @cached_property
    def optics(self) -> Optics:
        """The lens of this picture: defocus and astigmatism are drawn."""
        rng = self._rng(OPTICS)
        return replace(
            self.world.optics,
            defocus=float(rng.uniform(*self.world.defocus)),
            astigmatism=float(rng.uniform(0, self.world.astigmatism)),
            astigmatism_angle=float(rng.uniform(-90, 90)),
        )

    @cached_property
    def species(self) -> tuple[Protein, ...]:
        """The kinds of particles there are."""
        if self.world.map is not None:
            mass = self.world.map_mass and 1e3 * self.world.map_mass
            return (protein_from_map(self.world.map, self.world.pixel_size, mass),)
        return protein_family(self.world.proteins)

    @cached_property
    def particles(self) -> list[Particle]:
        """Those whose centre lies in the picture."""
        positions, kinds, rotations = self._placed
        rows, columns = self.world.size
        found = []
        for (y, x), kind, angles in zip(positions - self.margin, kinds, euler_angles(rotations), strict=True):
            if -0.5 <= y < rows - 0.5 and -0.5 <= x < columns - 0.5:
                found.append(Particle(float(x), float(y), self.species[kind].name, *map(float, angles)))
        return found

    @cached_property
    def signal(self) -> Tensor:
        """Half transform over the field of the particles' relative intensity, undamaged, before the detector."""
        positions, kinds, rotations = self._placed
        potential = torch.zeros(self.field[0], self.field[1] // 2 + 1, dtype=torch.complex128)
        for kind, body in enumerate(self.species):
            of_kind = kinds == kind
            potential += project(body, rotations[of_kind], positions[of_kind], self.field, self.world.pixel_size)
        return self._through_lens(potential)

    @cached_property
    def ice(self) -> Tensor:
        """The same of the structure of the ice, as it stands over the whole exposure."""
        return self.ice_over(self.world.dose)

    def ice_over(self, dose: float) -> Tensor:
        """The same of the structure of the ice as it stands over `dose` electrons/Å²: water moves with each of them."""
        world = self.world
        return self._through_lens(ice(self.field, world.pixel_size, world.ice_thickness, dose, self._rng(ICE)))

    @cached_property
    def drift(self) -> np.ndarray:
        """(t, 2): y, x in pixels by which each frame's picture lies away from the mean position.

        Fast at first, then settling (Brilot et al. 2012), with a random walk of about a tenth on top.
        """
        rng, steps = self._rng(DRIFT), self.world.frames
        way = rng.uniform(0, 2 * math.pi)
        settling = 1 - np.exp(-4 * np.arange(steps) / (steps - 1))
        walk = np.cumsum(rng.standard_normal((steps, 2)), axis=0) * 0.1 / math.sqrt(steps)
        path = np.outer(settling / settling[-1], [math.sin(way), math.cos(way)]) + walk
        return (path - path.mean(axis=0)) * self.world.drift / self.world.pixel_size

    @property
    def margin(self) -> int:
        """Pixels of the field beyond each edge of the picture."""
        return math.ceil((BEYOND + self.world.drift) / self.world.pixel_size)

    @cached_property
    def field(self) -> tuple[int, int]:
        """(y, x) in pixels; sizes that transform fast."""
        rows, columns = (_fast_size(size + 2 * self.margin) for size in self.world.size)
        return rows, columns

    @cached_property
    def frequency(self) -> Tensor:
        """Cycles/Å of each coefficient of a half transform of the field."""
        return plane_frequencies(self.field, self.world.pixel_size)[0].float()

    def damage_in(self, frame: int) -> Tensor | float:
        """What is left of the particles' amplitudes in the middle of a frame."""
        if not self.world.radiation_damage:
            return 1.0
        return damage(self.frequency, (frame + 0.5) * self.world.dose / self.world.frames)

    @cached_property
    def mean_damage(self) -> Tensor | float:
        """The same in the mean over all frames."""
        total: Tensor | float = 0.0
        for frame in range(self.world.frames):
            total = total + self.damage_in(frame)
        return total / self.world.frames

    @cached_property
    def _placed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions (n, 2) y, x in pixels of the field, kinds (n,), rotations (n, 3, 3)."""
        rng, world = self._rng(PLACES), self.world
        radii = [body.radius / world.pixel_size for body in self.species]
        positions, kinds = scatter(radii, self.field, world.coverage, world.crowding, rng)
        return positions, kinds, random_rotation(len(kinds), rng)

    def _through_lens(self, potential: Tensor) -> Tensor:
        """Weak-phase image formation: relative intensity - 1 = 2 · CTF · envelope · phase."""
        frequency, azimuth = plane_frequencies(self.field, self.world.pixel_size)
        lens = contrast_transfer(self.optics, frequency, azimuth) * envelope(self.optics, frequency, azimuth)
        return (2 * interaction_constant(self.optics.kv) * lens * potential).to(torch.complex64)

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.index, stream])


def _fast_size(least: int) -> int:
    """The next even number with no prime factor above 5."""
    size = least + least % 2
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 2
