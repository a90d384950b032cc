"""Particles from density maps: scale, background and grid do not matter to what is seen."""

import numpy as np
import pytest

from deice.errors import FileFault
from deice.image import Geometry
from deice.io import write
from deice.worlds.maps import otsu_threshold, protein_from_map
from deice.worlds.matter import EXCESS_POTENTIAL, PROTEIN_DENSITY


def ball(path, radius=40.0, voxel=4.0, scale=1.0, background=0.0):
    grid = (np.arange(32) - 14) * voxel
    z, y, x = np.meshgrid(grid, grid, grid, indexing="ij")
    density = (np.sqrt(z**2 + y**2 + x**2) < radius).astype(np.float32)
    noise = 0.02 * np.random.default_rng(0).standard_normal(density.shape).astype(np.float32)
    write(path, scale * (density + noise) + background, Geometry().with_pixel_size(voxel))
    return path


@pytest.mark.parametrize(("scale", "background"), [(1.0, 0.0), (250.0, -30.0)])
@pytest.mark.parametrize("pixel_size", [4.0, 2.5, 5.5])
def test_mass_and_potential_are_those_of_the_volume(tmp_path, scale, background, pixel_size):
    body = protein_from_map(ball(tmp_path / "ball.mrc", scale=scale, background=background), pixel_size)
    volume = 4 / 3 * np.pi * 40**3
    assert body.mass == pytest.approx(volume * PROTEIN_DENSITY, rel=0.08)
    assert body.weights.sum() == pytest.approx(body.mass / PROTEIN_DENSITY * EXCESS_POTENTIAL)
    assert body.radius == pytest.approx(40, rel=0.05)
    assert np.allclose(np.average(body.sites, axis=0, weights=body.weights), 0, atol=1e-6)


def test_a_given_mass_is_kept(tmp_path):
    body = protein_from_map(ball(tmp_path / "ball.mrc"), 4.0, mass=5e5)
    assert body.weights.sum() == pytest.approx(5e5 / PROTEIN_DENSITY * EXCESS_POTENTIAL)


def test_axes_of_the_map_are_z_y_x(tmp_path):
    density = np.zeros((16, 16, 16), np.float32)
    density[8, 8, 2:14] = 1
    write(tmp_path / "rod.mrc", density, Geometry().with_pixel_size(2.0))
    sites = protein_from_map(tmp_path / "rod.mrc", 2.0).sites
    assert np.ptp(sites[:, 0]) == pytest.approx(22)
    assert np.ptp(sites[:, 1]) == np.ptp(sites[:, 2]) == 0


def test_threshold_parts_two_classes():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 5000), rng.normal(10, 1, 500)])
    assert 3 < otsu_threshold(values) < 7


@pytest.mark.parametrize(
    ("density", "geometry", "said"),
    [
        (np.zeros((8, 8, 8), np.float32), Geometry().with_pixel_size(2.0), "varying"),
        (np.eye(8, dtype=np.float32), Geometry().with_pixel_size(2.0), "density map"),
        (np.arange(512, dtype=np.float32).reshape(8, 8, 8), Geometry(), "voxel size"),
    ],
    ids=["constant", "picture", "no voxel size"],
)
def test_unfit_maps_are_refused(tmp_path, density, geometry, said):
    path = tmp_path / "unfit.mrc"
    write(path, density, geometry)
    with pytest.raises(FileFault, match=said):
        protein_from_map(path, 2.0)


def test_the_proteasome_weighs_about_what_it_should(data):
    """T20S, 700 kDa; a map blurred to 5 Å is fatter than its model."""
    body = protein_from_map(data / "maps" / "3j9i.mrc", 5.0)
    assert 600e3 < body.mass < 1050e3
