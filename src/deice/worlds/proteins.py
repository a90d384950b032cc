"""Procedural proteins: helix bundles of the density of protein, packed to domains, subunits and assemblies."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from torch import Tensor

from deice.worlds.matter import RESIDUE_MASS, RESIDUE_VOLUME, residue_form
from deice.worlds.poses import random_rotation

# Å and radians per residue; Å from the axis to a residue's centre
HELIX_RISE, HELIX_TWIST, HELIX_RADIUS = 1.5, math.radians(100), 3.3
# hexagonal packing at the density of protein: 10.3 Å between neighbouring helices, as in real bundles
HELIX_SPACING = math.sqrt(2 / math.sqrt(3) * RESIDUE_VOLUME / HELIX_RISE)
SYMMETRIES = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "D2", "D3", "D4", "D7")
SMALLEST, LARGEST = 100e3, 1e6  # Da
SMALLEST_SUBUNIT, DOMAIN = 20e3, 22e3  # Da
CONTACT = 0.04  # share of one body's residues that may lie in the other's when two bodies touch
TRIES = 8  # ways to put two bodies together, of which the most compact is taken


@dataclass(frozen=True, eq=False)
class Protein:
    """A rigid body of scattering sites.

    sites: (n, 3) x, y, z in Å about the centre of mass.  weights: (n,) factors of `form`, which maps a
    frequency in cycles/Å to V Å³.  mass: Da.
    """

    name: str
    mass: float
    sites: np.ndarray
    weights: np.ndarray
    form: Callable[[Tensor], Tensor]

    @property
    def radius(self) -> float:
        """Å: of the ball with this body's radius of gyration."""
        gyration = np.average((self.sites**2).sum(axis=1), weights=np.abs(self.weights))
        return float(np.sqrt(5 / 3 * gyration))


@lru_cache(maxsize=8)
def protein_family(
    seed: int, count: int = 4, masses: tuple[float, float] = (SMALLEST, LARGEST), largest_subunit: float = math.inf
) -> tuple[Protein, ...]:
    """`count` proteins within `masses` (Da), one per equal step of log mass; other seeds, other proteins.

    largest_subunit: Da; heavier proteins are assemblies of at least so many subunits.
    """
    edges = np.geomspace(*masses, count + 1)
    bodies = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        mass = math.exp(rng.uniform(math.log(edges[index]), math.log(edges[index + 1])))
        possible = [s for s in SYMMETRIES if SMALLEST_SUBUNIT <= mass / copies_in(s) <= largest_subunit]
        bodies.append(build_protein(mass, str(rng.choice(possible)), rng))
    return tuple(bodies)


def copies_in(symmetry: str) -> int:
    """Subunits of an assembly: n for Cn, 2n for Dn."""
    return int(symmetry[1:]) * (2 if symmetry[0] == "D" else 1)


def build_protein(mass: float, symmetry: str, rng: np.random.Generator) -> Protein:
    """A compact assembly of `mass` Da with the point group `symmetry` (Cn or Dn, axis along z)."""
    copies = copies_in(symmetry)
    body = _subunit(round(mass / copies / RESIDUE_MASS), rng)
    body = _ring(body, int(symmetry[1:]), rng)
    if symmetry[0] == "D":
        body = _stacked(body, rng)
    body = body - body.mean(axis=0)
    true_mass = len(body) * RESIDUE_MASS
    name = f"{symmetry}_{true_mass / 1e3:.0f}kDa"
    return Protein(name, true_mass, body, np.ones(len(body)), residue_form)


def _subunit(residues: int, rng: np.random.Generator) -> np.ndarray:
    """Domains that touch: (residues, 3) in Å."""
    count = max(1, round(residues * RESIDUE_MASS / DOMAIN))
    shares = rng.dirichlet(np.full(count, 12.0)) * residues
    sizes = np.diff(np.round(np.concatenate([[0], np.cumsum(shares)])).astype(int))
    body = _domain(sizes[0], rng)
    for size in sizes[1:]:
        domain = _domain(size, rng)
        placed = [_docked(domain, body, way) for way in random_rotation(TRIES, rng)[:, 0]]
        body = np.concatenate([body, min(placed, key=lambda sites: float((sites**2).sum()))])
        body = body - body.mean(axis=0)
    return body


def _domain(residues: int, rng: np.random.Generator) -> np.ndarray:
    """A bundle of parallel helices cut to an ellipsoid, turned at random: (residues, 3) in Å."""
    axes = rng.uniform(0.75, 1.35, size=3)
    axes = axes / np.prod(axes) ** (1 / 3)
    reach = 1.3 * axes * (3 * residues * RESIDUE_VOLUME / (4 * math.pi)) ** (1 / 3) + HELIX_SPACING
    across = math.ceil(2 * reach.max() / HELIX_SPACING)
    rows = np.arange(-across, across + 1)
    i, j = (grid.ravel() for grid in np.meshgrid(rows, rows))
    centres = HELIX_SPACING * np.stack([i + 0.5 * j, math.sqrt(0.75) * j], axis=1) + rng.uniform(-5, 5, 2)
    centres = centres + rng.normal(0, 0.4, centres.shape)
    steps = np.arange(-math.ceil(reach[2] / HELIX_RISE), math.ceil(reach[2] / HELIX_RISE) + 1)
    phase = rng.uniform(0, 2 * math.pi, len(centres))[:, None] + HELIX_TWIST * steps
    shift = rng.uniform(0, HELIX_RISE, len(centres))[:, None]
    sites = np.stack([
        centres[:, :1] + HELIX_RADIUS * np.cos(phase),
        centres[:, 1:] + HELIX_RADIUS * np.sin(phase),
        HELIX_RISE * steps + shift,
    ], axis=-1).reshape(-1, 3)  # fmt: skip
    innermost = np.argsort(((sites / axes) ** 2).sum(axis=1), kind="stable")[:residues]
    sites = sites[innermost]
    return (sites - sites.mean(axis=0)) @ random_rotation(1, rng)[0].T


def _ring(subunit: np.ndarray, order: int, rng: np.random.Generator) -> np.ndarray:
    """`order` copies about the z axis, as close as they go."""
    if order == 1:
        return subunit
    rings = [_closed_ring(subunit @ turn.T, order) for turn in random_rotation(TRIES, rng)]
    return min(rings, key=lambda sites: float((sites**2).sum()))


def _closed_ring(subunit: np.ndarray, order: int) -> np.ndarray:
    """The ring of this subunit, turned as it is, at the smallest radius that keeps neighbours apart."""
    turn = _about_z(2 * math.pi / order).T
    outward = np.array([1.0, 0.0, 0.0])
    radius = _first_contact(lambda r: _shared(subunit + r * outward, (subunit + r * outward) @ turn))
    first = subunit + radius * outward
    return np.concatenate([first @ _about_z(2 * math.pi * k / order).T for k in range(order)])


def _stacked(ring: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The ring and its image by a two-fold axis across z."""
    ring = ring @ _about_z(rng.uniform(0, 2 * math.pi)).T
    up, flip = np.array([0.0, 0.0, 1.0]), np.diag([1.0, -1.0, -1.0])
    height = _first_contact(lambda z: _shared(ring + z * up, (ring + z * up) @ flip))
    upper = ring + height * up
    return np.concatenate([upper, upper @ flip])


def _docked(domain: np.ndarray, body: np.ndarray, way: np.ndarray) -> np.ndarray:
    """`domain` moved from the centre of `body` along `way` until it just touches."""
    return domain + way * _first_contact(lambda distance: _shared(domain + distance * way, body))


def _first_contact(overlap: Callable[[float], float], step: float = 3.0) -> float:
    """The first multiple of `step` Å at which no more than CONTACT is shared."""
    distance = 0.0
    while overlap(distance) > CONTACT:
        distance += step
    return distance


def _shared(one: np.ndarray, other: np.ndarray) -> float:
    """Share of `one`'s residues in cells of a residue's volume that `other` occupies."""
    cell = RESIDUE_VOLUME ** (1 / 3)
    number = np.array([1, 1 << 20, 1 << 40])
    mine, theirs = (np.floor(sites / cell).astype(np.int64) @ number for sites in (one, other))
    return float(np.isin(mine, theirs).mean())


def _about_z(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
