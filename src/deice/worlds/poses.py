"""Where particles lie and how they are turned."""

from collections.abc import Sequence

import numpy as np


def random_rotation(count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 3, 3) rotation matrices uniform over SO(3), from normal quaternions (Shoemake 1992)."""
    quaternions = rng.standard_normal((count, 4))
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def euler_angles(rotations: np.ndarray) -> np.ndarray:
    """RELION's rot, tilt, psi in degrees: (n, 3) of (n, 3, 3) matrices that turn a particle into its pose.

    Convention (Heymann, Chagoyen & Belnap 2005): matrix = Z(psi) Y(tilt) Z(rot) with
    Z(a) = [[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], Y(b) = [[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]].
    """
    tilt = np.arccos(np.clip(rotations[:, 2, 2], -1, 1))
    rot = np.arctan2(rotations[:, 2, 1], rotations[:, 2, 0])
    psi = np.arctan2(rotations[:, 1, 2], -rotations[:, 0, 2])
    return np.degrees(np.stack([rot, tilt, psi], axis=1))


def scatter(
    radii: Sequence[float], size: tuple[int, int], coverage: float, crowding: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Random positions until discs cover `coverage` of the plane, or no place is found any more.

    radii: in pixels, one per kind of particle; kinds are drawn with equal chance.
    size: (y, x) in pixels.  coverage: share of the area, 0 to 1.
    crowding: 0 = discs never overlap, 1 = anywhere; centres keep (1 - crowding) of the sum of their radii apart.
    Returns positions (n, 2) as y, x in pixels, and kinds (n,).
    """
    positions, kinds = np.empty((0, 2)), np.empty(0, dtype=int)
    radius = np.asarray(radii, dtype=float)
    wanted, covered, failed = coverage * size[0] * size[1], 0.0, 0
    while covered < wanted and failed < 200:
        kind = int(rng.integers(len(radius)))
        # the last disc is left to chance, so that small pictures too are covered as asked on average
        if rng.random() * np.pi * radius[kind] ** 2 > wanted - covered:
            break
        place = rng.uniform(0, 1, 2) * size
        apart = np.linalg.norm(positions - place, axis=1)
        if np.any(apart < (1 - crowding) * (radius[kinds] + radius[kind])):
            failed += 1
            continue
        positions, kinds = np.vstack([positions, place]), np.append(kinds, kind)
        covered, failed = covered + np.pi * radius[kind] ** 2, 0
    return positions, kinds
