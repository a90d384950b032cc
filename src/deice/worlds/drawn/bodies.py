"""What lies in the ice of drawn pictures: proteins, capsids, vesicles, gold, ice crystals, as scattering sites."""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from deice.worlds.matter import RESIDUE_MASS
from deice.worlds.proteins import SYMMETRIES, build_protein, copies_in

SHELL_SITES, BALL_SITES = 30_000, 20_000
LARGEST_SUBUNIT = 100e3  # Da: larger ones take long to pack


@dataclass(frozen=True, eq=False)
class Bodies:
    """All bodies one after the other, on one device.

    sites: (n, 3) Å about each body's centre.  weights: (n,), 1 for a residue of protein.
    first, count: (bodies,) where the sites of each begin, and how many.  side: (bodies,) Å of the cube that holds it.
    kinds: (bodies,) "protein", "small", "shell", "vesicle", "gold" or "crystal".
    """

    sites: Tensor
    weights: Tensor
    first: np.ndarray
    count: np.ndarray
    side: np.ndarray
    kinds: np.ndarray

    def of_kind(self, kind: str) -> np.ndarray:
        """The numbers of the bodies of this kind."""
        return self._numbers[kind]

    @cached_property
    def _numbers(self) -> dict[str, np.ndarray]:
        return {str(kind): np.flatnonzero(self.kinds == kind) for kind in np.unique(self.kinds)}


@lru_cache(maxsize=2)
def build_bodies(proteins: int, seed: int, device: torch.device) -> Bodies:
    """`proteins` compact proteins of 40 kDa to 2.5 MDa, half as many hollow ones, a sixth of every other kind."""
    rng = np.random.default_rng([seed, 31])
    others = max(2, proteins // 6)
    found: list[tuple[str, np.ndarray, np.ndarray]] = []
    for mass in np.geomspace(40e3, 2.5e6, proteins):
        found.append(("protein", *_protein(mass, rng)))
    for _ in range(others):
        found.append(("small", *_protein(rng.uniform(15e3, 60e3), rng)))
        for _ in range(3):
            radius = math.exp(rng.uniform(math.log(35), math.log(350)))
            found.append(("shell", *_shell(radius, rng.uniform(12, min(60, 0.8 * radius)), rng)))
        found.append(("vesicle", *_vesicle(math.exp(rng.uniform(math.log(120), math.log(700))), rng)))
        found.append(("gold", *_ball(rng.uniform(25, 100), 60.0, 0.0, rng)))
        found.append(("crystal", *_ball(math.exp(rng.uniform(math.log(100), math.log(1500))), 2.0, 0.5, rng)))
    counts = np.array([len(sites) for _, sites, _ in found])
    sites = torch.from_numpy(np.concatenate([sites for _, sites, _ in found])).float()
    weights = torch.from_numpy(np.concatenate([weights for _, _, weights in found])).float()
    side = np.array([2.1 * np.linalg.norm(sites, axis=1).max() + 8 for _, sites, _ in found])
    kinds = np.array([kind for kind, _, _ in found])
    return Bodies(sites.to(device), weights.to(device), np.cumsum(counts) - counts, counts, side, kinds)


def _protein(mass: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    possible = [name for name in SYMMETRIES if 15e3 <= mass / copies_in(name) <= LARGEST_SUBUNIT] or ["D7"]
    sites = build_protein(mass, str(rng.choice(possible)), rng).sites
    return sites, np.ones(len(sites))


def _directions(count: int, rng: np.random.Generator) -> np.ndarray:
    ways = rng.standard_normal((count, 3))
    return ways / np.linalg.norm(ways, axis=1, keepdims=True)


def _lumpy(ways: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A factor of the radius in each direction (n, 3): a few smooth waves of about `strength`."""
    waves = rng.normal(0, 2.0, (5, 3))
    return 1 + strength * np.cos(ways @ waves.T + rng.uniform(0, 2 * np.pi, 5)).mean(axis=1)


def _shell(radius: float, thickness: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A hollow ball of protein, as ferritin or a capsid: capsomers on a sphere."""
    count = int(max(12, 4 * math.pi * radius**2 / (0.8 * thickness**2)))
    golden = math.pi * (3 - math.sqrt(5)) * np.arange(count)
    height = 1 - 2 * (np.arange(count) + 0.5) / count
    across = np.sqrt(1 - height**2)
    centres = radius * np.stack([across * np.cos(golden), across * np.sin(golden), height], axis=1)
    each = max(1, min(400, SHELL_SITES // count))
    spread = thickness / 3 * rng.standard_normal((1, each, 3))
    sites = (centres[:, None] + spread).reshape(-1, 3)
    residues = 4 * math.pi * radius**2 * thickness * 0.6 / 137
    return sites, np.full(len(sites), residues / len(sites))


def _vesicle(radius: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A closed membrane, not quite round: head groups outside, the gap between the tails' ends inside."""
    ways = _directions(SHELL_SITES, rng)
    squash = rng.uniform(0.6, 1.0, 3)
    middle = radius * _lumpy(ways, 0.2, rng)[:, None] * ways * squash
    depth = rng.choice([-19.0, -10.0, 0.0, 10.0, 19.0], len(ways))
    weights = np.where(depth == 0, -0.6, np.where(np.abs(depth) > 15, 1.0, -0.1))
    area = 4 * math.pi * radius**2 * squash.mean() ** 2
    return middle + depth[:, None] * ways, weights * area * 0.25 / len(ways)


def _ball(size: float, strength: float, lumps: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A filled ball of radius `size` Å, `strength` times as dense as protein stands out."""
    ways = _directions(BALL_SITES, rng)
    sites = size * (rng.random(BALL_SITES) ** (1 / 3) * _lumpy(ways, lumps, rng))[:, None] * ways
    residues = strength * 4 / 3 * math.pi * size**3 * 0.813 / RESIDUE_MASS
    return sites, np.full(BALL_SITES, residues / BALL_SITES)
