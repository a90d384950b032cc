"""Projection and weighted back-projection: against formulas, and against each other."""

import math

import pytest
import torch

from deice.ops.tilts import Tilts

USUAL = tuple(float(angle) for angle in range(-60, 61, 3))


def grid(depth, length):
    """z and x from the centre, (z, 1, x)."""
    z, x = torch.meshgrid(torch.arange(depth) - depth // 2, torch.arange(length) - length // 2, indexing="ij")
    return z[:, None].double(), x[:, None].double()


def ball(depth, rows, length, radius, fine=5):
    """A ball of density 1 with soft voxels at its edge, in the middle of (z, y, x)."""
    steps = (torch.arange(fine) + 0.5) / fine - 0.5
    axes = [(torch.arange(n)[:, None] - n // 2 + steps).flatten() for n in (depth, rows, length)]
    inside = sum(torch.meshgrid(*(axis**2 for axis in axes), indexing="ij")) <= radius**2
    return inside.float().reshape(depth, fine, rows, fine, length, fine).mean(dim=(1, 3, 5))


def sampled(shape, angles, inner=1.0):
    """Which (kz, kx) of a full transform of `shape` (z, x) the tilts reach, shrunk by `inner` degrees; and radii."""
    kz = torch.fft.fftfreq(shape[0])[:, None]
    kx = torch.fft.fftfreq(shape[1])[None, :]
    angle = torch.rad2deg(torch.atan(kz / torch.where(kx == 0, 1e-9, kx)))
    return (angle > angles[0] + inner) & (angle < angles[-1] - inner), torch.hypot(kz, kx)


def test_a_projected_ball_is_the_length_of_its_chords():
    radius, tilts = 14.0, Tilts(USUAL, 48, 96)
    pictures = tilts.project(ball(48, 36, 96, radius))
    u = torch.arange(tilts.width) - tilts.width // 2
    y = torch.arange(36)[:, None] - 18
    squared = (radius**2 - u**2 - y**2).clamp_min(0)
    inside = squared > 4**2  # away from the rim, where the slope is infinite
    for number in (0, 10, 20, 31, 40):
        error = pictures[number] - 2 * squared.sqrt()
        assert float(error[inside].abs().max()) < 0.03 * 2 * radius
        assert float(error[inside].square().mean().sqrt()) < 0.007 * 2 * radius
        # mass: the same at every tilt (near the ball, for the slab's copies stand further off)
        near = u.abs() < 24
        assert float(pictures[number][:, near].sum()) == pytest.approx(4 / 3 * math.pi * radius**3, rel=0.01)


@pytest.mark.parametrize("length", [96, 97])
def test_a_point_is_seen_at_x_cos_plus_z_sin_and_so_are_its_copies(length):
    """A Gaussian off the centre, whose projection is known exactly."""
    x0, z0, width = 13.3, -9.2, 2.5
    z, x = grid(64, length)
    tilts = Tilts(USUAL, 64, length)
    pictures = tilts.project(torch.exp(-((x - x0) ** 2 + (z - z0) ** 2) / (2 * width**2)).float())
    u = torch.arange(tilts.width) - tilts.width // 2
    for number, angle in enumerate(map(math.radians, USUAL)):
        seen, period = x0 * math.cos(angle) + z0 * math.sin(angle), length * math.cos(angle)
        expected = sum(torch.exp(-((u - seen - n * period) ** 2) / (2 * width**2)) for n in range(-4, 5))
        expected = expected * width * math.sqrt(2 * math.pi)
        assert float((pictures[number, 0] - expected).abs().max()) < 1e-4 * float(expected.max())


@pytest.mark.parametrize("angles", [USUAL, tuple(float(a) for a in range(-40, 61, 2))])
def test_back_projection_gives_back_what_was_sampled_and_nothing_else(angles):
    """Shell by shell the correlation with the phantom inside the sampled wedge exceeds 0.9; outside it is empty."""
    rng = torch.Generator().manual_seed(1)
    shape, window = (64, 64), torch.zeros(64, 64)
    window[20:44, 20:44] = 1  # small enough that tilts 3° apart sample it up to 0.4 cycles per voxel
    phantom = torch.nn.functional.avg_pool2d(
        torch.randn(6, 1, 64, 64, generator=rng), 3, stride=1, padding=1
    )[:, 0] * window  # fmt: skip
    tilts = Tilts(angles, *shape)
    volume = tilts.back_project(tilts.project(phantom.transpose(0, 1))).transpose(0, 1)
    one, other = torch.fft.fft2(phantom), torch.fft.fft2(volume)
    reached, radius = sampled(shape, angles, inner=2)
    for low, high in [(0.05, 0.12), (0.12, 0.2), (0.2, 0.28), (0.28, 0.36)]:
        here = reached & (radius >= low) & (radius < high)
        a, b = one[:, here], other[:, here]
        correlation = (a * b.conj()).real.sum() / (a.abs().square().sum() * b.abs().square().sum()).sqrt()
        assert float(correlation) > 0.9
        # grey values too, not only their pattern
        assert float((a.conj() * b).real.sum() / a.abs().square().sum()) == pytest.approx(1, abs=0.15)
    wedge, _ = sampled(shape, angles, inner=-6)
    empty = ~wedge & (radius > 0.1) & (radius < 0.45)
    filled = reached & (radius > 0.1) & (radius < 0.45)
    assert float(one.abs().square()[:, empty].mean()) > 0.2 * float(one.abs().square()[:, filled].mean())
    assert float(other.abs().square()[:, empty].mean()) < 0.01 * float(other.abs().square()[:, filled].mean())


def test_rows_are_independent():
    """Any block of rows gives what the whole gives: both ways."""
    rng = torch.Generator().manual_seed(2)
    tilts = Tilts(USUAL, 24, 40)
    block = torch.randn(24, 7, 40, generator=rng)
    whole = tilts.project(block)
    assert torch.allclose(tilts.project(block[:, 2:5]), whole[:, 2:5], atol=1e-4)
    volume = tilts.back_project(whole)
    assert torch.allclose(tilts.back_project(whole[:, 2:5]), volume[:, 2:5], atol=1e-4)


def test_unevenly_spaced_tilts_are_weighted_by_the_gap_they_fill():
    """Every second tilt left out on one side: nearly the same volume, while unweighted its power would halve there."""
    z, x = grid(48, 48)
    phantom = torch.exp(-((x - 3) ** 2 + (z + 4) ** 2) / 18).float()
    dense = tuple(float(a) for a in range(-60, 61, 2))
    sparse = tuple(a for a in dense if a <= 0 or a % 4 == 0)
    one, other = (t.back_project(t.project(phantom)) for t in (Tilts(dense, 48, 48), Tilts(sparse, 48, 48)))
    assert float((one - other).norm() / one.norm()) < 0.05
