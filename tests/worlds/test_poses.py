"""Poses: uniform rotations, angles in RELION's convention, positions as asked."""

import numpy as np

from deice.worlds.poses import euler_angles, random_rotation, scatter


def test_rotations_are_rotations():
    rotations = random_rotation(100, np.random.default_rng(0))
    assert np.allclose(rotations @ rotations.swapaxes(1, 2), np.eye(3))
    assert np.allclose(np.linalg.det(rotations), 1)


def test_rotations_are_uniform():
    """Directions: each coordinate of a turned vector is uniform on [-1, 1] (Archimedes). Angles: density
    (1 - cos a)/pi, so the mean trace is 0 and P(a < pi/2) = 1/2 - 1/pi."""
    rotations = random_rotation(20000, np.random.default_rng(1))
    for column in range(3):
        for row in range(3):
            ordered = np.sort(rotations[:, row, column])
            uniform = 2 * (np.arange(20000) + 0.5) / 20000 - 1
            assert np.abs(ordered - uniform).max() / 2 < 1.63 / np.sqrt(20000)  # Kolmogorov-Smirnov, 1 %
    trace = np.trace(rotations, axis1=1, axis2=2)
    assert abs((trace > 1).mean() - (0.5 - 1 / np.pi)) < 0.012
    assert abs(trace.mean()) < 0.03


def test_angles_give_the_matrix_back():
    """matrix = Z(psi) Y(tilt) Z(rot), Heymann, Chagoyen & Belnap 2005."""

    def z(a):
        return np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])

    def y(b):
        return np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])

    rotations = random_rotation(20, np.random.default_rng(2))
    for matrix, (rot, tilt, psi) in zip(rotations, np.radians(euler_angles(rotations)), strict=True):
        assert np.allclose(z(psi) @ y(tilt) @ z(rot), matrix)


def test_positions_cover_what_is_asked_and_keep_apart():
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(20):
        positions, kinds = scatter([15.0, 25.0], (600, 500), coverage=0.15, crowding=0.2, rng=rng)
        radii = np.array([15.0, 25.0])[kinds]
        covered.append((np.pi * radii**2).sum() / (600 * 500))
        apart = np.linalg.norm(positions[:, None] - positions, axis=-1) + 1e9 * np.eye(len(kinds))
        assert (apart >= 0.8 * (radii[:, None] + radii) - 1e-9).all()
    assert abs(np.mean(covered) - 0.15) < 0.01


def test_a_full_plane_ends_the_search():
    positions, _ = scatter([20.0], (100, 100), coverage=1.0, crowding=0.0, rng=np.random.default_rng(4))
    assert 2 <= len(positions) <= 8


def test_no_coverage_no_particles():
    found = [scatter([20.0], (100, 100), 0.0, 0.0, np.random.default_rng(s))[0] for s in range(8)]
    assert all(len(positions) == 0 for positions in found)
