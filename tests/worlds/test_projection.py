"""Projected potentials: mass conserved, places kept, ice of the spectrum it should have."""

import numpy as np
import pytest
import torch

from deice.ops.ctf import plane_frequencies
from deice.ops.fourier import from_half_transform
from deice.worlds.matter import EXCESS_POTENTIAL, PROTEIN_DENSITY, ice_spectrum, point_form, residue_form
from deice.worlds.poses import random_rotation
from deice.worlds.projection import ice, project
from deice.worlds.proteins import Protein, build_protein


def test_projected_potential_is_that_of_the_mass():
    """Sum over pixels · pixel area = number of bodies · excess potential · volume, whatever the pixel size."""
    protein = build_protein(150e3, "C2", np.random.default_rng(0))
    for pixel_size in (1.0, 2.3):
        positions = np.array([[20.0, 30.0], [1.0, 63.5], [50.7, 33.2]])
        rotations = random_rotation(3, np.random.default_rng(1))
        spectrum = project(protein, rotations, positions, (64, 80), pixel_size)
        total = float(from_half_transform(spectrum, (64, 80)).sum()) * pixel_size**2
        assert total == pytest.approx(3 * protein.mass / PROTEIN_DENSITY * EXCESS_POTENTIAL, rel=1e-6)


def test_a_site_lands_where_it_should():
    """A site 3 Å along x and 1 Å along y of a body turned by a quarter about the beam."""
    point = Protein("point", 1.0, np.array([[3.0, 1.0, 7.0]]), np.ones(1), point_form)
    quarter = np.array([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    spectrum = project(point, quarter, np.array([[10.0, 20.0]]), (32, 40), pixel_size=1.0)
    field = from_half_transform(spectrum, (32, 40))
    assert divmod(int(field.argmax()), 40) == (10 + 3, 20 - 1)


def test_fractions_of_a_pixel_count():
    """A blurred site's centre of mass is where it was put."""
    body = Protein("ball", 1.0, np.zeros((1, 3)), np.ones(1), lambda f: torch.exp(-80 * f**2))
    spectrum = project(body, np.eye(3)[None], np.array([[15.3, 17.8]]), (32, 32), pixel_size=1.0)
    field = from_half_transform(spectrum, (32, 32))
    grid = torch.arange(32, dtype=torch.float64)
    assert float((field.sum(1) * grid).sum() / field.sum()) == pytest.approx(15.3, abs=0.01)
    assert float((field.sum(0) * grid).sum() / field.sum()) == pytest.approx(17.8, abs=0.01)


def test_a_ball_of_protein_projects_as_a_ball():
    """Peak of the projection = excess potential · thickness, for residues on a fine grid filling a ball of 40 Å."""
    side = np.arange(-40, 41, 5.15)
    grid = np.stack(np.meshgrid(side, side, side), axis=-1).reshape(-1, 3)
    inside = grid[np.linalg.norm(grid, axis=1) < 40]
    body = Protein("ball", 1.0, inside, np.ones(len(inside)), residue_form)
    spectrum = project(body, random_rotation(1, np.random.default_rng(3)), np.array([[32.0, 32.0]]), (64, 64), 2.0)
    centre = from_half_transform(spectrum, (64, 64))[29:36, 29:36].mean()
    assert float(centre) == pytest.approx(EXCESS_POTENTIAL * 79, rel=0.06)


def test_ice_has_the_spectrum_of_ice():
    shape, pixel_size = (256, 256), 1.5
    rng = np.random.default_rng(5)
    power = sum(ice(shape, pixel_size, 300, 40, rng).abs() ** 2 for _ in range(6)) / 6
    # of a periodic field: E|F|² = number of pixels · power per area / pixel area
    expected = ice_spectrum(plane_frequencies(shape, pixel_size)[0], 300, 40) * 256**2 / pixel_size**2
    ratio = (power / expected)[5:100, 5:100]
    assert float(ratio.mean()) == pytest.approx(1, abs=0.03)
    assert float(power[0, 0]) == 0
