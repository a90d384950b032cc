"""Filaments: the poses of their subunits along gently bent lines. Lengths are Å, places (z, y, x)."""

import math
from dataclasses import dataclass

import numpy as np

SAMPLED = 20.0  # Å between the points at which it is seen whether a line is in the way of others


@dataclass(frozen=True)
class Lattice:
    """Subunits on `starts` equal helices: each `rise` Å and `twist` degrees after the last, `radius` Å from the axis.

    twist: negative = left-handed.  mass: Da of a subunit.  stiffness: Å, the smallest radius of curvature.
    """

    name: str
    mass: float
    rise: float
    twist: float
    radius: float
    stiffness: float
    starts: int = 1

    @property
    def outer(self) -> float:
        """Å from the axis that the filament takes up."""
        return self.radius + 28


# F-actin, one start (Holmes et al. 1990)
ACTIN = Lattice("actin", 42e3, 27.5, -166.7, 24.0, 8_000.0)
# 13 protofilaments of monomers 41 Å apart; three helices rise three monomers in a turn (Amos & Klug 1974)
MICROTUBULE = Lattice("microtubule", 50e3, 3 * 41 / 13, -360 / 13, 112.0, 40_000.0, starts=3)


@dataclass(frozen=True, eq=False)
class Line:
    """start: (3,).  along, across: unit vectors (3,) at right angles.  bend: 1/Å towards `across`.  length: Å."""

    start: np.ndarray
    along: np.ndarray
    across: np.ndarray
    bend: float
    length: float

    def places(self, at: np.ndarray) -> np.ndarray:
        """(n, 3) at the lengths `at` (n,): a parabola, for bends as gentle as these an arc."""
        return self.start + np.outer(at, self.along) + np.outer(0.5 * self.bend * at**2, self.across)

    def directions(self, at: np.ndarray) -> np.ndarray:
        """(n, 3) unit vectors along the line at the lengths `at` (n,)."""
        ways = self.along + np.outer(self.bend * at, self.across)
        return ways / np.linalg.norm(ways, axis=1, keepdims=True)

    @property
    def points(self) -> np.ndarray:
        """(n, 3), close together."""
        return self.places(np.arange(0, self.length, SAMPLED))


def draw_line(lattice: Lattice, start: np.ndarray, rng: np.random.Generator) -> Line:
    """From `start` in any direction within 15° of the plane, 1000 to 4000 Å long."""
    azimuth, rise = rng.uniform(0, 2 * math.pi), rng.uniform(-1, 1) * math.radians(15)
    along = np.array([math.sin(rise), math.cos(rise) * math.sin(azimuth), math.cos(rise) * math.cos(azimuth)])
    across = _cross(along, rng.standard_normal(3))
    bend = float(rng.uniform(0, 1 / lattice.stiffness))
    return Line(start, along, across / np.linalg.norm(across), bend, float(rng.uniform(1000, 4000)))


def subunits(lattice: Lattice, line: Line, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 3) z, y, x and rotations (n, 3, 3), of x, y, z, of the subunits of a filament on `line`."""
    helix = np.arange(0, line.length, lattice.rise)
    apart = 360 / abs(lattice.twist) * lattice.rise / lattice.starts
    at = np.concatenate([helix + apart * start for start in range(lattice.starts)])
    turn = np.radians(lattice.twist) * np.tile(np.arange(len(helix)), lattice.starts) + rng.uniform(0, 2 * math.pi)
    third = line.directions(at)
    second = _cross(third, line.across)
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    first = _cross(second, third)
    # z, y, x is a left-handed order: first, second and third are so too
    outward = np.cos(turn)[:, None] * first - np.sin(turn)[:, None] * second
    # columns: where the subunit's own x, y and z point, in the order x, y, z
    axes = [outward, _cross(outward, third), third]
    rotations = np.stack([axis[:, ::-1] for axis in axes], axis=2)
    return line.places(at) + lattice.radius * outward, rotations


def _cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cross products (n, 3) or (3,); numpy's own takes several times as long for a few hundred."""
    (a, b, c), (d, e, f) = first.T, second.T
    return np.stack([b * f - c * e, c * d - a * f, a * e - b * d], axis=-1)
