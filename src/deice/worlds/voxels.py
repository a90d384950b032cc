"""The cell as volumes: its potential over that of ice, in V, and what lies where, some rows of y at a time.

What a voxel holds is the potential blurred by a triangle of two voxels along each axis, as for every body here: what
is finer than the grid is not in it. Lengths are Å, places (z, y, x) from the centre of the first voxel.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from deice.worlds.cell import MEMBRANE, Bodies, Cell
from deice.worlds.matter import bilayer
from deice.worlds.membranes import HALF_MEMBRANE, Membrane, box, distances, wrapped
from deice.worlds.projection import share_out
from deice.worlds.proteins import Protein
from deice.worlds.tomogram_world import TomogramWorld

BLOCK = 1 << 23  # voxels held at once
SITES = 1 << 17  # scattering sites held at once
GRAIN = 0.7  # voxels: sites in one such cube of a body become one, far less of a blur than that of the voxels
BLUR = 1 / math.sqrt(6)  # voxels, standard deviation of that triangle
INSIDE = 0.3  # of a body's own potential: where it is labelled


class Block(NamedTuple):
    """Rows of y of the volumes: density (z, y, x) float32 in V, labels (z, y, x) int8."""

    rows: slice
    density: Tensor
    labels: Tensor


def blocks_of(rows: int, each: int) -> list[slice]:
    """`rows` in slices of at most BLOCK elements, of `each` elements a row."""
    step = max(1, BLOCK // each)
    return [slice(first, min(first + step, rows)) for first in range(0, rows, step)]


def render(cell: Cell, world: TomogramWorld) -> Iterator[Block]:
    """The whole scene, block after block."""
    depth, rows, length = world.size
    for some in blocks_of(rows, depth * length):
        yield _render_rows(cell, world, some)


def _render_rows(cell: Cell, world: TomogramWorld, rows: slice) -> Block:
    shape = (world.size[0], rows.stop - rows.start, world.size[2])
    density, labels = torch.zeros(shape), torch.zeros(shape, dtype=torch.int8)
    for membrane in cell.membranes:
        _add_membrane(density, labels, membrane, world, rows)
    for bodies in (*cell.crowding, *cell.filaments, *cell.particles, cell.gold):
        own = _bodies(bodies, world, rows)
        if bodies.label:
            labels[own > INSIDE * bodies.potential] = bodies.label
        density += own
    return Block(rows, density, labels)


def _grid(world: TomogramWorld, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
    """z, y, x of the voxels of these rows."""
    depth, _, length = world.size
    z, y, x = (torch.arange(first, last) * world.pixel_size for first, last in
               ((0, depth), (rows.start, rows.stop), (0, length)))  # fmt: skip
    return z, y, x


def _add_membrane(density: Tensor, labels: Tensor, membrane: Membrane, world: TomogramWorld, rows: slice) -> None:
    axes = _grid(world, rows)
    near, blur = box(membrane, axes), BLUR * world.pixel_size
    distance = distances(membrane, axes, near)
    close = (distance.abs() < HALF_MEMBRANE + 4 * blur).nonzero(as_tuple=True)
    spots = tuple(index[at] for index, at in zip(near, close, strict=True))
    distance, inside = distance[close], _in_sample(axes[0], world)[spots[0]]
    density[spots] += bilayer(distance, blur) * inside
    here = (distance.abs() < HALF_MEMBRANE) & (inside > 0.5)
    labels[tuple(index[here] for index in spots)] = MEMBRANE


def _in_sample(z: Tensor, world: TomogramWorld) -> Tensor:
    """1 where there is sample, 0 above and below it, with an edge as sharp as the voxels allow."""
    middle = world.size[0] // 2 * world.pixel_size
    return torch.sigmoid((world.sample / 2 - (z - middle).abs()) / (0.3 * world.pixel_size))


def _bodies(bodies: Bodies, world: TomogramWorld, rows: slice) -> Tensor:
    """Potential of all copies in these rows, (z, y, x)."""
    pixel, (depth, height, length) = world.pixel_size, world.size
    shape = (depth, rows.stop - rows.start + 2, length)  # with the rows beside, for what lies between two rows
    field, middle = torch.zeros(math.prod(shape)), (rows.start + rows.stop - 1) / 2
    sites, charges = _charges(bodies.protein, pixel)
    places, rotations = _meeting(bodies, world, middle, shape[1] / 2 + float(sites.norm(dim=1).max()))
    step = max(1, SITES // len(sites))
    for first in range(0, len(places), step):
        turned = torch.einsum("nij,mj->nmi", rotations[first : first + step], sites).flip(2)
        spots = (turned + places[first : first + step, None]).reshape(-1, 3)
        spots[:, 1] = wrapped(spots[:, 1] - middle, height) + middle - rows.start + 1
        held = (spots[:, :2] >= 0).all(dim=1) & (spots[:, 0] < depth - 1) & (spots[:, 1] < shape[1] - 1)
        share_out(field, spots[held], charges.repeat(len(turned))[held], shape)
    block = field.reshape(shape)
    if shape[1] - 2 == height:  # the rows beside are the last and the first
        block[:, -2] += block[:, 0]
        block[:, 1] += block[:, -1]
    return block[:, 1:-1]


@lru_cache(maxsize=32)
def _charges(protein: Protein, pixel: float) -> tuple[Tensor, Tensor]:
    """Sites (m, 3) x, y, z in voxels and their potential times voxels (m,); sites close together become one."""
    sites, weights = torch.from_numpy(protein.sites) / pixel, torch.from_numpy(protein.weights)
    cells, belongs = torch.unique((sites / GRAIN).floor(), dim=0, return_inverse=True)
    merged = torch.zeros(len(cells), dtype=torch.float64).index_add_(0, belongs, weights)
    centres = torch.zeros(len(cells), 3, dtype=torch.float64).index_add_(0, belongs, sites * weights[:, None])
    charges = merged * float(protein.form(torch.zeros(1))) / pixel**3
    return (centres / merged[:, None]).float(), charges.float()


def _meeting(bodies: Bodies, world: TomogramWorld, middle: float, reach: float) -> tuple[Tensor, Tensor]:
    """Places in voxels and rotations of the copies whose centre lies within `reach` rows of the row `middle`."""
    places = torch.from_numpy(bodies.places / world.pixel_size).float()
    near = wrapped(places[:, 1] - middle, world.size[1]).abs() <= reach
    return places[near], torch.from_numpy(bodies.rotations).float()[near]
