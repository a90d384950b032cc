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
from deice.worlds.drawn.settings import taken
from deice.worlds.filaments import ACTIN, MICROTUBULE, Lattice, Line, draw_line, subunits
from deice.worlds.matter import bilayer, residue_form
from deice.worlds.poses import random_rotation

GRAINS = (4.0, 8.0, 16.0)  # Å: sites in one such cube become one
MOST_SITES = 1 << 21  # held at once
STEPS = 2.0**16  # of the potential: whole numbers add up to the same bits in any order
MOST_VOXELS = 1 << 25  # of membranes, held at once
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

    def only(self, some: slice) -> "Contents":
        """Some of the copies."""
        copies = (self.sample[some], self.body[some], self.places[some], self.turns[some])
        return Contents(*copies, self.membranes, self.inside)


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
    grains, levels = grains_of(bodies), np.searchsorted(GRAINS[1:], pixels, side="right")
    suited = levels[contents.sample] * len(bodies.count) + contents.body
    for first, last in _chunks(grains.count[suited]):
        _add(field, grains, suited[first:last], contents.only(slice(first, last)), pixels, shape)
    pixel = taken(pixels.astype(np.float32), device)[:, None, None, None]
    density = field.reshape(count, *shape).float() / STEPS
    blur = 0.5 + GRAINS[0] / math.sqrt(12) / pixel  # voxels
    frequency = frequency_radius(shape, device)
    form = residue_form(frequency / pixel) / pixel**3 * torch.exp(-2 * (math.pi * blur * frequency) ** 2)
    density = from_half_transform(half_transform(density, 3) * form, shape)
    return density + _membranes(contents, pixel, shape)


def _chunks(sites: np.ndarray) -> list[tuple[int, int]]:
    """From which copy to which, of those with so many `sites` (n,), so that few enough are held."""
    ends = np.searchsorted(np.cumsum(sites), np.arange(1, int(sites.sum()) // MOST_SITES + 1) * MOST_SITES).tolist()
    return list(pairwise(sorted({0, *ends, len(sites)})))


def _add(field: Tensor, grains: Bodies, suited: np.ndarray, copies: Contents, pixels: np.ndarray,
         shape: Shape) -> None:  # fmt: skip
    """Add copies of the grains `suited` (n,) to `field`, flat, each site shared out among the eight voxels around."""
    device, pixel = field.device, pixels[copies.sample][:, None, None]
    total = int(grains.count[suited].sum())
    whole = np.stack([grains.count[suited], grains.first[suited], copies.sample])
    real = np.concatenate([copies.turns[:, ::-1] / pixel, copies.places[:, :, None]], 2)  # in voxels z, y, x
    (counts, first, sample), real = taken(whole, device), taken(real.astype(np.float32), device)
    copy = torch.repeat_interleave(torch.arange(len(suited), device=device), counts, output_size=total)
    site = (first - counts.cumsum(0) + counts)[copy] + torch.arange(total, device=device)
    pose = real[copy]
    spots = (pose[:, :, :3] * grains.sites[site][:, None]).sum(2) + pose[:, :, 3]
    _share_out(field, spots, grains.weights[site], sample[copy], shape)


def _share_out(field: Tensor, spots: Tensor, weights: Tensor, sample: Tensor, shape: Shape) -> None:
    corner = spots.floor()
    beyond = spots - corner
    z, y, x = (corner.long()[:, None] + torch.arange(2, device=field.device)[:, None]).unbind(2)  # each (n, 2)
    in_z, in_y, in_x = torch.stack([1 - beyond, beyond], 1).unbind(2)
    in_z = in_z * ((z >= 0) & (z < shape[0]))
    rows = (sample[:, None] * shape[0] + z.clamp(0, shape[0] - 1))[:, :, None] * shape[1] + (y % shape[1])[:, None]
    index = rows[:, :, :, None] * shape[2] + (x % shape[2])[:, None, None]
    share = (in_z[:, :, None] * in_y[:, None])[:, :, :, None] * (in_x * weights[:, None] * STEPS)[:, None, None]
    field.index_add_(0, index.flatten(), share.round().long().flatten())


@lru_cache(maxsize=2)
def grains_of(bodies: Bodies) -> Bodies:
    """The bodies as many times as there are GRAINS, coarser and coarser.

    The sites in each cube of that side are one, at their centre of weight.
    """
    sites, weights, counts = [], [], []
    for grain in GRAINS:
        for first, count in zip(bodies.first.tolist(), bodies.count.tolist()):
            own, weight = bodies.sites[first : first + count], bodies.weights[first : first + count].abs()
            cells, belongs = torch.unique(_numbered((own / grain).floor().long()), return_inverse=True)
            whole = torch.zeros(len(cells), device=own.device).index_add_(0, belongs, weight)
            centres = torch.zeros(len(cells), 3, device=own.device).index_add_(0, belongs, own * weight[:, None])
            sites.append(centres / whole[:, None])
            weights.append(whole)
            counts.append(len(cells))
    count, times = np.array(counts), len(GRAINS)
    first, side, kinds = np.cumsum(count) - count, np.tile(bodies.side, times), np.tile(bodies.kinds, times)
    return Bodies(torch.cat(sites), torch.cat(weights), first, count, side, kinds)


def _numbered(cells: Tensor) -> Tensor:
    """A number for each cube (n, 3) of the grid around a body: (n,)."""
    return ((cells[:, 0] + 4096) * 8192 + cells[:, 1] + 4096) * 8192 + cells[:, 2] + 4096


def _membranes(contents: Contents, pixel: Tensor, shape: Shape) -> Tensor:
    """Bilayers (b, *shape) in V; each is there once, and not cut where the field repeats itself."""
    device, voxels = pixel.device, math.prod(shape)
    total = torch.zeros(len(pixel), *shape, device=device)
    samples, numbers = np.nonzero(contents.membranes[:, :, -1])
    settings = contents.membranes[samples, numbers].astype(np.float32)
    each = max(1, MOST_VOXELS // voxels)
    for first in range(0, len(samples), each):
        own = samples[first : first + each]
        layers = _bilayers(taken(settings[first : first + each], device), pixel[taken(own, device)], shape)
        for sample, layer in zip(own.tolist(), layers.unbind()):
            total[sample] += layer
    first, last = taken(contents.inside.T.astype(np.float32), device)[..., None, None, None]
    z = torch.arange(shape[0], device=device)[:, None, None]
    return total * torch.sigmoid(4 * (z - first)) * torch.sigmoid(4 * (last - z))


def _bilayers(of: Tensor, pixel: Tensor, shape: Shape) -> Tensor:
    """(m, *shape) in V of the membranes `of` (m, 17), in voxels of `pixel` (m, 1, 1, 1) Å."""
    of = of[..., None, None, None]
    offsets = []
    for axis, size in enumerate(shape):
        voxel = torch.arange(size, device=of.device).reshape([-1 if a == axis else 1 for a in range(3)])
        offsets.append(voxel * pixel - of[:, axis])
    reach = of[:, 3:6].amax(1)
    offsets[1:] = [_nearest(offsets[axis], shape[axis] * pixel, reach) for axis in (1, 2)]
    return bilayer(_distance(offsets, of), 0.45 * pixel)


def _nearest(offset: Tensor, period: Tensor, reach: Tensor) -> Tensor:
    """`offset` to the nearest copy, of what is smaller than the period."""
    return torch.where(2.4 * reach < period, offset - period * torch.round(offset / period), offset)


def _distance(offsets: list[Tensor], of: Tensor) -> Tensor:
    """Å from a rippled ellipsoid (`deice.worlds.membranes`), to first order: (b, z, y, x)."""
    axes, frame = of[:, 3:6], of[:, 6:15].unflatten(1, (3, 3))
    scaled = sum(frame[:, :, axis] / axes * offsets[axis][:, None] for axis in range(3))  # (b, 3, z, y, x)
    radius = torch.sqrt(scaled.square().sum(1) + 1e-12)
    beside = torch.sqrt(1 - (scaled[:, 0] / radius) ** 2 + 1e-6)  # no ripple at the poles
    wave = of[:, 15] * beside * torch.cos(3 * torch.atan2(scaled[:, 2], scaled[:, 1]))
    slopes = (scaled / axes).square().sum(1)
    return (radius - 1 - wave) * radius / torch.sqrt(slopes + 1e-12 / of[:, 3] ** 2)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
