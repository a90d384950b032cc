"""What lies in drawn tomograms: bodies by the hundred, filaments, vesicles, sheets, gold, as potentials in V."""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from deice.ops.fourier import frequency_radius, from_half_transform, half_transform
from deice.worlds.drawn.bodies import Bodies
from deice.worlds.filaments import ACTIN, MICROTUBULE, Lattice, Line, draw_line, subunits
from deice.worlds.matter import bilayer, residue_form
from deice.worlds.poses import random_rotation

GRAINS = (4.0, 8.0, 16.0)  # Å: sites in one such cube become one
MOST_SITES = 1 << 22  # held at once
STEPS = 2.0**16  # of the potential: whole numbers add up to the same bits in any order
MOST_COPIES = 1500  # in one field
MEMBRANES = 4  # at most in one field
BESIDES = (("gold", 0.15, 0.002), ("shell", 0.15, 0.1), ("crystal", 0.05, 0.01))  # how often, share of the volume
Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Contents:
    """Copies of bodies, each (n,): sample, which field; body; places (n, 3) in voxels z, y, x; turns (n, 3, 3).

    membranes: (b, MEMBRANES, 17) each a centre z, y, x and three semi-axes in Å, their frame, ripple and whether it is
    there (a sheet is a vesicle of large axes).  inside: (b, 2) first and last voxel of the sample along z.
    """

    sample: np.ndarray
    body: np.ndarray
    places: np.ndarray
    turns: np.ndarray
    membranes: np.ndarray
    inside: np.ndarray


def draw_contents(bodies: Bodies, pixels: np.ndarray, shape: Shape, rng: np.random.Generator) -> Contents:
    """For one field of `shape` voxels of each of the `pixels` (b,) in Å."""
    rows: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []
    membranes, inside = np.zeros((len(pixels), MEMBRANES, 17)), np.zeros((len(pixels), 2))
    for sample, pixel in enumerate(pixels.tolist()):
        extent = np.array(shape) * pixel
        share = 1.0 if rng.random() < 0.5 else rng.uniform(0.4, 1.0)
        inside[sample] = shape[0] * (0.5 + np.array([-0.5, 0.5]) * share)
        slab = inside[sample] * pixel
        if rng.random() < 0.05:
            continue
        for number in range(rng.choice([0, 0, 1, 1, 2, MEMBRANES])):
            membranes[sample, number] = _membrane(extent, slab, rng)
        for found in (*_proteins(bodies, extent, slab, rng), *_filaments(bodies, extent, slab, rng)):
            rows.append((sample, found[0], found[1] / pixel, found[2]))
    if not rows:
        return Contents(*(np.zeros(0, np.int64),) * 2, np.zeros((0, 3)), np.zeros((0, 3, 3)), membranes, inside)
    sample = np.concatenate([np.full(len(row[1]), row[0]) for row in rows])
    return Contents(sample, *(np.concatenate([row[at] for row in rows]) for at in (1, 2, 3)), membranes, inside)


Copies = tuple[np.ndarray, np.ndarray, np.ndarray]  # body (n,), places (n, 3) in Å, turns (n, 3, 3)


def _proteins(bodies: Bodies, extent: np.ndarray, slab: np.ndarray, rng: np.random.Generator) -> list[Copies]:
    """One to four kinds of complexes, the crowd of small proteins, gold, now and then."""
    volume = (slab[1] - slab[0]) * extent[1] * extent[2]
    wanted = [("protein", _log_uniform(rng, 0.003, 0.2)) for _ in range(rng.integers(0, 5))]
    if rng.random() < 0.6:
        wanted.append(("small", _log_uniform(rng, 0.01, 0.25)))
    wanted += [(kind, share) for kind, often, share in BESIDES if rng.random() < often]
    found = []
    for kind, share in wanted:
        body = int(rng.choice(bodies.of_kind(kind)))
        each = 0.2 * bodies.side[body] ** 3
        count = min(MOST_COPIES, int(share * volume / each + rng.random()))
        places = rng.uniform((slab[0], 0, 0), (slab[1], *extent[1:]), (count, 3))
        if rng.random() < 0.4:
            places = _apart(places, 0.6 * bodies.side[body], extent)
        found.append((np.full(len(places), body), places, random_rotation(len(places), rng)))
    return found


def _apart(places: np.ndarray, least: float, extent: np.ndarray) -> np.ndarray:
    """Those of `places` whose cube of side `least` holds no earlier one."""
    cells = np.floor(places / least).astype(np.int64)
    first = np.unique(cells @ np.array([1_000_003, 10_007, 1]), return_index=True)[1]
    return (cells[first] + 0.5) * least % np.array([np.inf, *extent[1:]])


def _filaments(bodies: Bodies, extent: np.ndarray, slab: np.ndarray, rng: np.random.Generator) -> list[Copies]:
    """Microtubules, actin, and helices that nobody has seen."""
    found = []
    for lattice, often in ((MICROTUBULE, 0.2), (ACTIN, 0.25), (_unheard_of(rng), 0.15)):
        if rng.random() > often:
            continue
        body = int(rng.choice(bodies.of_kind("small")))
        for _ in range(rng.integers(1, 4)):
            line = draw_line(lattice, rng.uniform((slab[0], 0, 0), (slab[1], *extent[1:])), rng)
            length = min(line.length, 2 * float(extent[1:].max()))
            places, turns = subunits(lattice, Line(line.start, line.along, line.across, line.bend, length), rng)
            held = (places[:, 0] > slab[0]) & (places[:, 0] < slab[1])
            places = places[held] % np.array([np.inf, *extent[1:]])
            found.append((np.full(len(places), body), places, turns[held]))
    return found


def _unheard_of(rng: np.random.Generator) -> Lattice:
    return Lattice("any", 50e3, rng.uniform(8, 50), rng.uniform(-180, 180), rng.uniform(0, 120), 10_000.0)


def _membrane(extent: np.ndarray, slab: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A vesicle of 120 to 700 Å, or a piece of a far larger one that passes as a sheet."""
    centre = rng.uniform((slab[0], 0, 0), (slab[1], *extent[1:]))
    frame = random_rotation(1, rng)[0]
    if rng.random() < 0.3:
        radius = rng.uniform(2, 20) * extent.max()
        axes = radius * np.ones(3)
        centre = centre + radius * frame[0]
    else:
        axes = _log_uniform(rng, 120, 700) * rng.uniform(0.6, 1.1, 3)
    return np.concatenate([centre, axes, frame.ravel(), [rng.uniform(0, 0.06), 1.0]])


def potential(bodies: Bodies, contents: Contents, pixels: np.ndarray, shape: Shape) -> Tensor:
    """The contents as fields (b, *shape) in V, of the bodies' device; they repeat themselves along y and x."""
    device, count = bodies.sites.device, len(pixels)
    field = torch.zeros(count * math.prod(shape), dtype=torch.int64, device=device)
    for first, last in _chunks(bodies, contents, pixels):
        _add(field, bodies, contents, pixels, shape, slice(first, last))
    pixel = torch.from_numpy(pixels).float().to(device)[:, None, None, None]
    density = field.reshape(count, *shape).float() / STEPS
    blur = 0.5 + GRAINS[0] / math.sqrt(12) / pixel  # voxels
    frequency = frequency_radius(shape, device)
    form = residue_form(frequency / pixel) / pixel**3 * torch.exp(-2 * (math.pi * blur * frequency) ** 2)
    density = from_half_transform(half_transform(density, 3) * form, shape)
    return density + _membranes(contents, pixel, shape)


def _chunks(bodies: Bodies, contents: Contents, pixels: np.ndarray) -> list[tuple[int, int]]:
    """From which copy to which, so that few enough sites are held."""
    counts = [grains_of(bodies, _level(pixel)).count for pixel in pixels]
    sites = np.array([counts[sample][body] for sample, body in zip(contents.sample, contents.body)], np.int64)
    ends = np.searchsorted(np.cumsum(sites), np.arange(1, int(sites.sum()) // MOST_SITES + 1) * MOST_SITES).tolist()
    edges = sorted({0, *ends, len(sites)})
    return list(pairwise(edges))


def _level(pixel: float) -> int:
    """Which grains suit voxels of `pixel` Å."""
    return int(np.searchsorted(GRAINS, pixel, side="right")) - 1


def _add(field: Tensor, bodies: Bodies, contents: Contents, pixels: np.ndarray, shape: Shape,
         some: slice) -> None:  # fmt: skip
    """Add some of the copies to `field`, flat, each site shared out among the eight voxels around it."""
    device = field.device
    sample, body = contents.sample[some], contents.body[some]
    levels = np.array([_level(pixel) for pixel in pixels])
    for level in np.unique(levels[sample]):
        grains, held = grains_of(bodies, int(level)), levels[sample] == level
        counts = torch.from_numpy(grains.count[body[held]]).to(device)
        total = int(grains.count[body[held]].sum())
        copy = torch.repeat_interleave(torch.arange(len(counts), device=device), counts, output_size=total)
        within = torch.arange(total, device=device) - (counts.cumsum(0) - counts)[copy]
        site = torch.from_numpy(grains.first[body[held]]).to(device)[copy] + within
        turns = torch.from_numpy(contents.turns[some][held]).float().to(device)
        places = torch.from_numpy(contents.places[some][held]).float().to(device)
        pixel = torch.from_numpy(pixels[sample[held]]).float().to(device)
        spots = torch.einsum("nij,nj->ni", turns[copy], grains.sites[site]).flip(1) / pixel[copy, None] + places[copy]
        own = torch.from_numpy(sample[held]).to(device)[copy]
        _share_out(field, spots, grains.weights[site], own, shape)


def _share_out(field: Tensor, spots: Tensor, weights: Tensor, sample: Tensor, shape: Shape) -> None:
    corner = spots.floor()
    beyond, corner = spots - corner, corner.long()
    for offset in range(8):
        step = torch.tensor([offset >> 2, offset >> 1 & 1, offset & 1], device=field.device)
        share = torch.where(step.bool(), beyond, 1 - beyond).prod(1) * weights
        z, y, x = (corner + step).unbind(1)
        held = (z >= 0) & (z < shape[0])
        index = ((sample * shape[0] + z.clamp(0, shape[0] - 1)) * shape[1] + y % shape[1]) * shape[2] + x % shape[2]
        field.index_add_(0, index, (share * held * STEPS).round().long())


@lru_cache(maxsize=8)
def grains_of(bodies: Bodies, level: int) -> Bodies:
    """`bodies` with the sites in each cube of GRAINS[level] as one, at their centre of weight."""
    sites, weights, counts = [], [], []
    for first, count in zip(bodies.first.tolist(), bodies.count.tolist()):
        own, weight = bodies.sites[first : first + count], bodies.weights[first : first + count].abs()
        cells, belongs = torch.unique(_numbered((own / GRAINS[level]).floor().long()), return_inverse=True)
        whole = torch.zeros(len(cells), device=own.device).index_add_(0, belongs, weight)
        centres = torch.zeros(len(cells), 3, device=own.device).index_add_(0, belongs, own * weight[:, None])
        sites.append(centres / whole[:, None])
        weights.append(whole)
        counts.append(len(cells))
    count = np.array(counts)
    return Bodies(torch.cat(sites), torch.cat(weights), np.cumsum(count) - count, count, bodies.side, bodies.kinds)


def _numbered(cells: Tensor) -> Tensor:
    """A number for each cube (n, 3) of the grid around a body: (n,)."""
    return ((cells[:, 0] + 4096) * 8192 + cells[:, 1] + 4096) * 8192 + cells[:, 2] + 4096


def _membranes(contents: Contents, pixel: Tensor, shape: Shape) -> Tensor:
    """Bilayers (b, *shape) in V; each is there once, and not cut where the field repeats itself."""
    device, extent = pixel.device, [size * pixel for size in shape]
    grid = [(torch.arange(size, device=device).reshape([-1 if a == axis else 1 for a in range(3)]) * pixel)
            for axis, size in enumerate(shape)]
    total = torch.zeros(len(pixel), *shape, device=device)
    settings = torch.from_numpy(contents.membranes).float().to(device)
    first, last = (torch.from_numpy(contents.inside[:, end]).float().to(device)[:, None, None, None] for end in (0, 1))
    z = grid[0] / pixel
    within = torch.sigmoid(4 * (z - first)) * torch.sigmoid(4 * (last - z))
    blur = 0.45 * pixel
    for number in range(MEMBRANES):
        some = settings[:, number, -1].nonzero()[:, 0]
        if not len(some):
            continue
        of = settings[some, number][:, :, None, None, None]
        offsets = [grid[axis][some] - of[:, axis] for axis in range(3)]
        offsets[1:] = [_nearest(offsets[axis], extent[axis][some], of[:, 3:6].amax(1)) for axis in (1, 2)]
        total[some] += bilayer(_distance(offsets, of), blur[some])
    return total * within


def _nearest(offset: Tensor, period: Tensor, reach: Tensor) -> Tensor:
    """`offset` to the nearest copy, of what is smaller than the period."""
    return torch.where(2.4 * reach < period, offset - period * torch.round(offset / period), offset)


def _distance(offsets: list[Tensor], of: Tensor) -> Tensor:
    """Å from a rippled ellipsoid (`deice.worlds.membranes`), to first order: (b, z, y, x)."""
    scaled, slopes = [], []
    for row in range(3):
        along = sum(of[:, 6 + 3 * row + axis] * offsets[axis] for axis in range(3))
        scaled.append(along / of[:, 3 + row])
        slopes.append((scaled[-1] / of[:, 3 + row]) ** 2)
    radius = torch.sqrt(sum(s**2 for s in scaled) + 1e-12)
    beside = torch.sqrt(1 - (scaled[0] / radius) ** 2 + 1e-6)  # no ripple at the poles
    wave = of[:, 15] * beside * torch.cos(3 * torch.atan2(scaled[2], scaled[1]))
    return (radius - 1 - wave) * radius / torch.sqrt(sum(slopes) + 1e-12 / of[:, 3] ** 2)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
