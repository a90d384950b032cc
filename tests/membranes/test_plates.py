"""Plates against closed forms: a plane, a shell, a line, a ball."""

import math

import pytest
import torch

from deice.membranes.plates import UPPER, eigenvalue_gap, half_sphere, plate_responses, response_to_plane, sheetness

SIDE = 48
MIDDLE = (slice(24, 25),) * 3


def positions(side=SIDE):
    """z, y, x from the middle voxel, (3, side, side, side)."""
    axis = torch.arange(side, dtype=torch.float64) - side // 2
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))


def dark(distance, width):
    return -torch.exp(-((distance / width) ** 2) / 2)


def unit(*vector):
    return torch.tensor(vector, dtype=torch.float64) / math.sqrt(sum(v * v for v in vector))


@pytest.mark.parametrize("normal", [unit(0, 0, 1), unit(1, 2, 3), unit(-1, 0, 1)])
def test_a_plane_answers_as_its_closed_form_says(normal):
    """Also off its normal. The plane ends before the block does, where no plate in its middle sees it."""
    width, across, along = 2.0, 1.5, 3.0
    where = positions()
    edge = torch.sigmoid((19 - where.square().sum(0).sqrt()) * 2)
    plane = dark(torch.einsum("a,azyx->zyx", normal, where), width) * edge
    normals = half_sphere(20)
    answers = torch.stack([float(r[MIDDLE]) * torch.ones(()) for r in plate_responses(plane, across, along, normals)])
    angles = torch.arccos((normals @ normal).clamp(-1, 1))
    expected = response_to_plane(angles, width, across, along)
    assert torch.allclose(answers.double(), expected, atol=2e-3)
    assert float(expected.max()) > 0.2


def test_a_round_plate_is_the_hessian_of_a_gaussian_shell():
    """The Hessian of a function of the radius has the eigenvalues f'' along the radius and f'/r across it."""
    radius, width, sigma = 12.0, 2.0, 1.5
    where = positions(64)
    shell = dark(where.square().sum(0).sqrt() - radius, width)
    spot = (slice(32, 33), slice(32, 33), slice(44, 45))  # on the shell, along x
    axes = torch.eye(3, dtype=torch.float64)
    z, y, x = (float(r[spot]) for r in plate_responses(shell, sigma, sigma, axes))
    r = torch.linspace(0, 40, 400_001, dtype=torch.float64)
    # of a radial function f smoothed in 3D: r·f is smoothed in 1D, as an odd function
    odd = torch.cat([-(r * dark(r - radius, width)).flip(0)[:-1], r * dark(r - radius, width)])
    line = torch.cat([-r.flip(0)[:-1], r])
    step = float(r[1])

    def smoothed(at):
        kernel = torch.exp(-((line - at) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
        return float((odd * kernel).sum() * step) / at

    h = 0.05
    below, here, above = (smoothed(radius + d) for d in (-h, 0, h))
    assert x == pytest.approx(sigma**2 * (above - 2 * here + below) / h**2, rel=5e-3)
    for across in (z, y):
        assert across == pytest.approx(sigma**2 * (above - below) / (2 * h) / radius, rel=0.02, abs=1e-4)
    assert x > 5 * abs(z)


def test_the_gap_is_that_of_the_eigenvalues():
    matrices = torch.randn(200, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrices = torch.cat([matrices + matrices.mT, torch.eye(3).double()[None], torch.zeros(1, 3, 3).double(),
                          torch.diag(torch.tensor([2.0, 2, 1]).double())[None]])  # fmt: skip
    found = eigenvalue_gap(torch.stack([matrices[:, a, b] for a, b in UPPER]))
    values = torch.linalg.eigvalsh(matrices)
    assert torch.allclose(found, values[:, 2] - values[:, 1], atol=1e-6)


def test_an_ideal_sheet_scores_one_and_lines_and_balls_do_not():
    across, along, normals = 2.0, 5.0, half_sphere(40)
    z, y, x = positions()
    edge = torch.sigmoid((20 - positions().square().sum(0).sqrt()) * 2)

    def score(volume, depth=1.0):
        return float(sheetness(depth * volume * edge, across, along, normals, MIDDLE))

    sheet = dark((x + 2 * y - z) / math.sqrt(6), across)
    assert score(sheet) == pytest.approx(1, abs=0.08)
    assert score(sheet, 0.5) == pytest.approx(0.5 * score(sheet), rel=1e-3)
    assert score(-sheet) < 0.02
    assert score(dark((y**2 + z**2).sqrt(), across)) < 0.3
    assert score(dark((x**2 + y**2 + z**2).sqrt(), across)) < 0.06


def test_normals_cover_the_half_sphere_evenly():
    normals = half_sphere(60)
    assert torch.allclose(normals.norm(dim=1), torch.ones(60).double())
    nearest = (normals @ torch.nn.functional.normalize(torch.randn(500, 3).double(), dim=1).T).abs().amax(0)
    assert float(nearest.min()) > math.cos(math.radians(16))
