"""The cell: membranes, filaments and particles as they should be, where they should be, and labelled so."""

import math

import numpy as np
import pytest
import torch

from deice.worlds import voxels
from deice.worlds.cell import ACTIN_LABEL, FIDUCIAL, FIRST_KIND, MEMBRANE, MICROTUBULE_LABEL, draw_cell, kinds_of
from deice.worlds.filaments import ACTIN, MICROTUBULE, Line, draw_line, subunits
from deice.worlds.matter import EXCESS_POTENTIAL, ICE_POTENTIAL, PROTEIN_DENSITY, bilayer
from deice.worlds.membranes import Sheet, Vesicle, draw_sheet
from deice.worlds.room import Room
from deice.worlds.tomogram_world import TomogramWorld
from deice.worlds.voxels import render
from deice.worlds.world import world_of

FULL = TomogramWorld(size=(64, 96, 112), vesicles=150, sheets=80, actin=300, microtubules=250, fiducials=2)
EMPTY = TomogramWorld(size=(32, 40, 48), vesicles=0, sheets=0, actin=0, microtubules=0, coverage=0.05, crowding=0)


def cell_of(world, seed=0):
    return draw_cell(world, kinds_of(world), np.random.default_rng(seed))


def volumes(cell, world):
    found = list(render(cell, world))
    return torch.cat([b.density for b in found], dim=1).numpy(), torch.cat([b.labels for b in found], dim=1).numpy()


def test_a_bilayer_is_two_leaflets_about_4_nm_apart():
    depth = torch.linspace(-40, 40, 1601)
    profile = bilayer(depth, 0.0)
    assert abs(float(depth[:800][profile[:800].argmax()])) == pytest.approx(19, abs=1.5)
    assert float(profile[800]) < 0.3 * float(profile.max())
    assert float(profile[0]) == pytest.approx(0, abs=1e-3)
    # what a voxel of 10 Å shows still has two leaflets
    blurred = bilayer(depth, 4.1)
    assert float(blurred[800]) < 0.6 * float(blurred.max())


def test_a_bilayer_holds_the_potential_of_its_lipids():
    """Per area: atoms of two leaflets (47.878 V Å² · Σ f / area), less the ice that they displace."""
    depth = torch.linspace(-60, 60, 4001)
    total = float(bilayer(depth, 0.0).sum()) * 120 / 4000
    methylenes = (28.5 / 2 * 64 - 2 * 57) / 28  # of a lipid of 64 Å²: what the two methyls leave of the tails
    scattering = 58.2 + methylenes * 3.567 + 2 * 4.096
    volume = 319 + 28.5 / 2 * 64
    assert total == pytest.approx(2 * (47.878 * scattering - ICE_POTENTIAL * volume) / 64, rel=0.01)


def test_distance_from_a_round_vesicle_and_its_copies():
    vesicle = Vesicle(np.array([100.0, 50.0, 900.0]), np.full(3, 200.0), np.eye(3), 0.0, 3, (1000.0, 1200.0))
    points = [(100, 50, 900 + 230), (100, 50 + 1000 - 215, 900), (310, 50, 900 - 1200)]
    z, y, x = torch.tensor(points, dtype=torch.float64).T
    assert vesicle.distance((z, y, x)).tolist() == pytest.approx([30, 15, 10], abs=1e-6)


def test_distance_from_an_ellipsoid_and_from_a_sheet_near_their_surface():
    """Beside points of the surface, along its normal found by brute force."""
    rng = np.random.default_rng(1)
    sheet = draw_sheet(500.0, 400.0, (1000.0, 1000.0), rng)
    sheet = Sheet(sheet.place, sheet.slope, sheet.middle, sheet.waves, 0.0, 400.0, sheet.period)
    vesicle = Vesicle(np.array([500.0, 500, 500]), np.array([180.0, 300, 260]), np.eye(3), 0.0, 3, (2000.0, 2000.0))
    for membrane in (sheet, vesicle):
        points = torch.from_numpy(rng.uniform(150, 850, (200_000, 3)))
        distance = membrane.distance(tuple(points.T))
        surface, near = points[distance.abs() < 3], points[(distance.abs() > 15) & (distance.abs() < 20)][:60]
        assert len(surface) > 500
        true = torch.cdist(near, surface).min(dim=1).values
        claimed = membrane.distance(tuple(near.T)).abs()
        inner = (near - 500).abs().max(dim=1).values < 300  # whose nearest point was sampled too
        assert float((true - claimed)[inner].abs().median()) < 6  # the points lie some 10 Å apart


def test_subunits_of_filaments_form_their_lattices():
    rng = np.random.default_rng(2)
    line = Line(np.zeros(3), np.array([0.0, 0, 1]), np.array([1.0, 0, 0]), 0.0, 1000.0)
    for lattice in (ACTIN, MICROTUBULE):
        places, rotations = subunits(lattice, line, rng)
        assert np.allclose(np.linalg.det(rotations), 1)
        assert np.allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(3), atol=1e-9)
        assert np.allclose(np.hypot(places[:, 0], places[:, 1]), lattice.radius)
    # 13 straight protofilaments, of monomers 41 Å apart
    azimuth = np.round(np.degrees(np.arctan2(places[:, 0], places[:, 1])) % 360, 3)
    assert len(set(azimuth % 359.999)) == 13
    of_one = np.sort(places[azimuth == azimuth[0], 2])
    assert np.allclose(np.diff(of_one), 41)
    # a left-handed turn: along +x, from +y away from +z
    first, second = places[0], places[1]
    turn = np.cross(first[::-1], second[::-1])[0]  # x component, in x, y, z
    assert second[2] > first[2]
    assert turn < 0


def test_filaments_bend_gently():
    rng = np.random.default_rng(3)
    for _ in range(20):
        line = draw_line(ACTIN, np.zeros(3), rng)
        ways = line.directions(np.array([0.0, line.length]))
        assert np.degrees(np.arccos(np.clip(ways[0] @ ways[1], -1, 1))) < 35
        assert abs(ways[0][0]) <= math.sin(math.radians(15)) + 1e-9
        assert np.allclose(np.linalg.norm(np.diff(line.points, axis=0), axis=1), 20, rtol=0.2)


def test_room_is_taken_once():
    room = Room(100.0, 500.0, (400.0, 800.0))
    place = np.array([[300.0, 10.0, 790.0]])
    assert room.fits(place, 60.0)
    assert not room.fits(np.array([[120.0, 10.0, 100.0]]), 60.0), "beyond the sample's surface"
    room.take(place, 60.0)
    assert not room.fits(np.array([[300.0, 395.0, 5.0]]), 60.0), "across the edges, where the cell repeats itself"
    assert room.fits(np.array([[300.0, 200.0, 400.0]]), 60.0)
    assert room.free(np.array([[300.0, 10.0, 790.0], [300.0, 200.0, 400.0]])).tolist() == [False, True]


def test_the_volume_holds_the_particles_matter():
    cell = cell_of(EMPTY)
    density, _ = volumes(cell, EMPTY)
    mass = sum(kind.protein.mass * len(kind.places) for kind in cell.particles)
    assert mass > 0
    assert density.sum() * 10.0**3 == pytest.approx(mass / PROTEIN_DENSITY * EXCESS_POTENTIAL, rel=1e-3)
    sample = 0.8 * 32 * 40 * 48 * 1e3
    coverage = np.mean([
        sum(k.protein.mass * len(k.places) for k in cell_of(EMPTY, s).particles) for s in range(8)
    ]) / PROTEIN_DENSITY / sample  # fmt: skip
    assert coverage == pytest.approx(0.05, rel=0.25)


def test_particles_lie_where_they_are_said_to_lie():
    world = world_of(EMPTY, size=(40, 64, 64), coverage=0.02)
    cell = cell_of(world, 4)
    _, labels = volumes(cell, world)
    for kind in cell.particles:
        reach = kind.protein.radius / 10
        for place in kind.places / 10:
            grid = np.stack(np.meshgrid(*(np.arange(n) for n in labels.shape), indexing="ij"), axis=-1) - place
            for axis in (1, 2):
                grid[..., axis] -= 64 * np.round(grid[..., axis] / 64)
            ball = labels[np.linalg.norm(grid, axis=-1) <= reach]
            assert (ball == kind.label).sum() > 5 * ((ball > 0) & (ball != kind.label)).sum()
            assert (ball == kind.label).mean() > 0.25


def test_labels_agree_with_the_density():
    cell = cell_of(FULL)
    density, labels = volumes(cell, FULL)
    assert labels.dtype == np.int8
    for label in (MEMBRANE, ACTIN_LABEL, MICROTUBULE_LABEL, FIDUCIAL, FIRST_KIND, FIRST_KIND + 1):
        assert (labels == label).sum() > 20, label
        assert density[labels == label].mean() > 0.8, label
    assert density[labels == FIDUCIAL].mean() > 10
    assert density[labels == 0].mean() < 0.4
    assert set(np.unique(labels)) <= set(cell.label_names)
    # nothing outside the sample, 0.8 of the depth
    assert np.abs(density[:3]).max() < 0.05
    assert (labels[:3] == 0).all()


def test_things_keep_apart():
    """Particles of known radius do not overlap each other, within the grain of the room, nor membranes."""
    cell = cell_of(FULL, 1)
    places = np.concatenate([k.places for k in cell.particles])
    radii = np.concatenate([np.full(len(k.places), k.protein.radius) for k in cell.particles])
    apart = places[:, None] - places[None]
    for axis, period in ((1, 960.0), (2, 1120.0)):
        apart[..., axis] -= period * np.round(apart[..., axis] / period)
    gap = np.linalg.norm(apart, axis=-1) - radii[:, None] - radii[None] + 1e9 * np.eye(len(places))
    assert len(places) >= 8
    assert gap.min() > -75
    assert (gap < 0).mean() < 0.05
    points = tuple(torch.from_numpy(places).T)
    for membrane in cell.membranes:
        assert bool((membrane.distance(points).abs() > 15).all())


def test_blocks_of_any_size_give_the_same_volume(monkeypatch):
    cell = cell_of(FULL)
    density, labels = volumes(cell, FULL)
    for rows in (41, 95):
        monkeypatch.setattr(voxels, "BLOCK", rows * 64 * 112)
        found = list(render(cell, FULL))
        assert len(found) == -(-96 // rows)
        assert np.allclose(torch.cat([block.density for block in found], dim=1), density, atol=2e-3)
        assert (torch.cat([block.labels for block in found], dim=1).numpy() != labels).mean() < 1e-4


def test_the_same_random_numbers_give_the_same_cell():
    one, again, other = (cell_of(FULL, seed) for seed in (5, 5, 6))
    for kind in ("particles", "filaments", "crowding"):
        places, same, others = (np.concatenate([b.places for b in getattr(c, kind)]) for c in (one, again, other))
        assert np.array_equal(places, same)
        assert len(places) != len(others) or not np.array_equal(places, others)
    assert [m.reach for m in one.membranes] == [m.reach for m in again.membranes]
