"""What lies in a simulated piece of a cell, and where: membranes, filaments, particles, crowding, gold.

Lengths are Å, places (z, y, x) from the centre of the first voxel. Along y and x the cell repeats itself, so that a
tilted view finds more of the same beyond the tomogram's edges.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from deice.worlds.filaments import ACTIN, MICROTUBULE, SAMPLED, Lattice, Line, draw_line, subunits
from deice.worlds.maps import protein_from_map
from deice.worlds.matter import EXCESS_POTENTIAL, GOLD_POTENTIAL, PROTEIN_DENSITY, point_form
from deice.worlds.membranes import HALF_MEMBRANE, Membrane, box, distances, draw_sheet, draw_vesicle
from deice.worlds.poses import random_rotation
from deice.worlds.proteins import Protein, build_protein, protein_family
from deice.worlds.room import Room
from deice.worlds.tomogram_world import TomogramWorld

BACKGROUND, MEMBRANE, ACTIN_LABEL, MICROTUBULE_LABEL, FIDUCIAL, FIRST_KIND = range(6)
GOLD_RADIUS, GOLD_GRID = 50.0, 4.0  # Å
GOLD_DENSITY = 11.6  # Da per Å³
KINDS = 4
COMPLEXES = (250e3, 2.5e6)  # Da, of the particles
SMALL = (30e3, 90e3)  # Da, of the cytosol's proteins
TRIES = 200
SHORTEST = 300.0  # Å, of filaments


@dataclass(frozen=True, eq=False)
class Bodies:
    """Copies of one body: places (n, 3), rotations (n, 3, 3) of x, y, z.

    label: in the volume of labels.  potential: V inside it, over that of ice.
    """

    protein: Protein
    label: int
    places: np.ndarray
    rotations: np.ndarray
    potential: float = EXCESS_POTENTIAL


@dataclass(frozen=True, eq=False)
class Cell:
    """membranes; particles: the labelled kinds; filaments: their subunits; crowding: small proteins; gold: beads."""

    membranes: list[Membrane]
    particles: list[Bodies]
    filaments: list[Bodies]
    crowding: list[Bodies]
    gold: Bodies

    @property
    def label_names(self) -> dict[int, str]:
        """What each label says."""
        names = {BACKGROUND: "background", MEMBRANE: "membrane", ACTIN_LABEL: "actin",
                 MICROTUBULE_LABEL: "microtubule", FIDUCIAL: "fiducial"}  # fmt: skip
        return names | {kind.label: kind.protein.name for kind in self.particles}


def kinds_of(world: TomogramWorld) -> tuple[Protein, ...]:
    """The kinds of particles there are: the maps, or procedural proteins; FileFault for a map that is none."""
    if world.map:
        mass = world.map_mass and 1e3 * world.map_mass
        return tuple(protein_from_map(path, world.pixel_size, mass) for path in world.map)
    return protein_family(world.proteins, KINDS, COMPLEXES, largest_subunit=200e3)


def draw_cell(world: TomogramWorld, kinds: tuple[Protein, ...], rng: np.random.Generator) -> Cell:
    """A cell of `world`: the large things first, each where the earlier ones leave room."""
    middle = world.size[0] // 2 * world.pixel_size
    floor, ceiling = middle - world.sample / 2, middle + world.sample / 2
    period = (world.size[1] * world.pixel_size, world.size[2] * world.pixel_size)
    room = Room(floor, ceiling, period)
    membranes = _membranes(world, room, middle, period, rng)
    filaments = [
        _filaments(MICROTUBULE, MICROTUBULE_LABEL, _about(world.microtubules * world.area, rng), room, rng),
        _filaments(ACTIN, ACTIN_LABEL, _about(world.actin * world.area, rng), room, rng),
    ]
    gold = _gold(world.fiducials, room, rng)
    volume = world.area * 1e8 * world.sample
    particles = _particles(kinds, world.coverage * volume, room, rng)
    crowding = _crowding(world.crowding * volume, room, rng)
    return Cell(membranes, particles, filaments, crowding, gold)


def _about(count: float, rng: np.random.Generator) -> int:
    """`count` on average, as a whole number."""
    return math.floor(count + rng.random())


def _membranes(
    world: TomogramWorld, room: Room, middle: float, period: tuple[float, float], rng: np.random.Generator
) -> list[Membrane]:
    found: list[Membrane] = []
    for _ in range(_about(world.sheets * world.area, rng)):
        found += _where_free(room, (draw_sheet(middle, world.sample / 2, period, rng) for _ in range(TRIES)))
    for _ in range(_about(world.vesicles * world.area, rng)):
        drawn = (draw_vesicle(room.anywhere(rng), period, rng) for _ in range(TRIES))
        # what meets its own copy is no vesicle
        found += _where_free(room, (vesicle for vesicle in drawn if 2 * vesicle.reach < min(period)))
    return found


def _where_free(room: Room, drawn: Iterable[Membrane]) -> list[Membrane]:
    """The first of those drawn that meets nothing, taking its room; none if there is none."""
    for membrane in drawn:
        cells = _passed(room, membrane)
        if not room.taken[cells].any():
            room.taken[cells] = True
            return [membrane]
    return []


def _passed(room: Room, membrane: Membrane) -> tuple[np.ndarray, ...]:
    """z, y, x of the room's cells that a membrane passes through, each (n,)."""
    z, y, x = (torch.from_numpy(axis) for axis in room.centres)
    near = box(membrane, (z, y, x))
    distance = distances(membrane, (z, y, x), near)
    close = (distance.abs() < HALF_MEMBRANE + room.spacing.max() / 2).nonzero(as_tuple=True)
    return tuple(index[at].numpy() for index, at in zip(near, close, strict=True))


def _filaments(lattice: Lattice, label: int, count: int, room: Room, rng: np.random.Generator) -> Bodies:
    protein = _monomer(lattice)
    places, rotations = [np.empty((0, 3))], [np.empty((0, 3, 3))]
    for _ in range(count):
        lines = [_as_far_as_free(draw_line(lattice, room.anywhere(rng), rng), lattice, room) for _ in range(TRIES // 5)]
        line = max(lines, key=lambda line: line.length)
        if line.length >= SHORTEST:
            room.take(line.points, lattice.outer)
            poses = subunits(lattice, line, rng)
            places.append(poses[0])
            rotations.append(poses[1])
    return Bodies(protein, label, np.concatenate(places), np.concatenate(rotations))


def _as_far_as_free(line: Line, lattice: Lattice, room: Room) -> Line:
    """`line` to where it first meets something."""
    fitting = room.fitting(line.points, lattice.outer)
    return line if fitting.all() else replace(line, length=SAMPLED * int(fitting.argmin()))


@lru_cache(maxsize=4)
def _monomer(lattice: Lattice) -> Protein:
    """The one protein that a filament consists of, in every cell."""
    return build_protein(lattice.mass, "C1", np.random.default_rng(len(lattice.name)))


def _gold(count: int, room: Room, rng: np.random.Generator) -> Bodies:
    """Beads on the two surfaces of the sample, just inside."""
    found = np.empty((0, 3))
    floor, ceiling = room.first[0] - room.spacing[0] / 2, room.first[0] + room.spacing[0] * (len(room.taken) - 0.5)
    for _ in range(count):
        for _ in range(TRIES):
            place = room.anywhere(rng)
            place[0] = rng.choice([floor + GOLD_RADIUS, ceiling - GOLD_RADIUS])
            if room.free(place[None])[0] and room.fits(place[None], 0.8 * GOLD_RADIUS):
                room.take(place[None], GOLD_RADIUS)
                found = np.vstack([found, place])
                break
    turns = np.broadcast_to(np.eye(3), (len(found), 3, 3)).copy()
    return Bodies(_bead(), FIDUCIAL, found, turns, GOLD_POTENTIAL)


def _bead() -> Protein:
    """A ball of gold."""
    side = np.arange(-GOLD_RADIUS, GOLD_RADIUS + 1, GOLD_GRID)
    grid = np.stack(np.meshgrid(side, side, side), axis=-1).reshape(-1, 3)
    sites = grid[np.linalg.norm(grid, axis=1) < GOLD_RADIUS]
    volume = 4 / 3 * math.pi * GOLD_RADIUS**3
    weights = np.full(len(sites), GOLD_POTENTIAL * volume / len(sites))
    return Protein("gold_bead", GOLD_DENSITY * volume, sites, weights, point_form)


def _particles(kinds: tuple[Protein, ...], volume: float, room: Room, rng: np.random.Generator) -> list[Bodies]:
    """As many as fill `volume` Å³, kinds with equal chance, until no place is found any more."""
    places: list[list[np.ndarray]] = [[] for _ in kinds]
    radii = [kind.radius for kind in kinds]
    filled, failed = 0.0, 0
    while failed < TRIES:
        number = int(rng.integers(len(kinds)))
        body = kinds[number].mass / PROTEIN_DENSITY
        # the last one is left to chance, so that small cells too are filled as asked on average
        if rng.random() * body > volume - filled:
            break
        place = room.anywhere(rng)[None]
        if not room.fits(place, radii[number]):
            failed += 1
            continue
        room.take(place, radii[number])
        places[number].append(place)
        filled, failed = filled + body, 0
    return [
        Bodies(kind, FIRST_KIND + n, np.concatenate([np.empty((0, 3)), *at]), random_rotation(len(at), rng))
        for n, (kind, at) in enumerate(zip(kinds, places, strict=True))
    ]


def _crowding(volume: float, room: Room, rng: np.random.Generator) -> list[Bodies]:
    """Small proteins anywhere that is free, over one another if it so happens."""
    family = protein_family(0, 3, SMALL)
    found = []
    for protein in family:
        share = volume / len(family) / max(float((~room.taken).mean()), 0.1)
        places = room.anywhere(rng, _about(share * PROTEIN_DENSITY / protein.mass, rng))
        places = places[room.free(places)]
        found.append(Bodies(protein, BACKGROUND, places, random_rotation(len(places), rng)))
    return found
