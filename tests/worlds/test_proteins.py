"""Procedural proteins: mass, density, symmetry, one family per seed."""

import gemmi
import numpy as np
import pytest
import torch

from deice.worlds.matter import (
    EXCESS_POTENTIAL,
    PROTEIN_DENSITY,
    RESIDUE_MASS,
    RESIDUE_SCATTERING,
    RESIDUE_VOLUME,
    WATER_SCATTERING,
    damage,
    ice_spectrum,
    residue_form,
)
from deice.worlds.proteins import build_protein, copies_in, protein_family


@pytest.mark.parametrize("symmetry", ["C1", "C3", "D2"])
def test_mass_is_the_one_asked(symmetry):
    protein = build_protein(300e3, symmetry, np.random.default_rng(0))
    assert protein.mass == pytest.approx(300e3, rel=0.01)
    assert len(protein.sites) % copies_in(symmetry) == 0
    assert np.allclose(protein.sites.mean(axis=0), 0, atol=1e-6)


def test_inside_is_as_dense_as_protein():
    """Count residues in balls of 11 Å deep inside a large, single-chain body."""
    protein = build_protein(400e3, "C1", np.random.default_rng(1))
    sites = torch.from_numpy(protein.sites)
    within = (torch.cdist(sites, sites) < 11).sum(dim=1).numpy()
    ball = 4 / 3 * np.pi * 11**3
    deep = np.sort(within)[len(within) // 2 :]  # half the residues lie near a surface
    assert deep.mean() * RESIDUE_MASS / ball == pytest.approx(PROTEIN_DENSITY, rel=0.15)


@pytest.mark.parametrize(("symmetry", "axis"), [("C5", "z"), ("D3", "z"), ("D3", "x")])
def test_symmetry_maps_the_body_onto_itself(symmetry, axis):
    protein = build_protein(250e3, symmetry, np.random.default_rng(2))
    angle = 2 * np.pi / int(symmetry[1:])
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) if axis == "z" else np.diag([1, -1, -1])
    sites = torch.from_numpy(protein.sites)
    nearest = torch.cdist(sites @ torch.from_numpy(turn.T).double(), sites).min(dim=1).values
    assert float(nearest.max()) < 1e-6


def test_bodies_are_compact():
    """Real globular assemblies have up to about 1.4 times the radius of a ball of their mass."""
    for protein in protein_family(3):
        ball = (3 * protein.mass / (4 * np.pi * PROTEIN_DENSITY)) ** (1 / 3)
        assert 0.95 < protein.radius / ball < 1.6


def test_families_differ_by_seed_and_only_by_seed():
    one, other = protein_family(0), protein_family(1)
    assert {p.name for p in one}.isdisjoint({p.name for p in other})
    again = protein_family.__wrapped__(0)
    assert all(np.array_equal(a.sites, b.sites) for a, b in zip(one, again, strict=True))
    assert all(1e5 <= round(p.mass, -4) <= 1e6 for p in one + other)


def test_contrast_of_protein_in_ice():
    """About 3.4 V: 1.35 g/cm³ of average protein over vitreous ice, isolated atoms (Vulović et al. 2013)."""
    assert pytest.approx(3.4, abs=0.1) == EXCESS_POTENTIAL
    at_zero = float(residue_form(torch.zeros((), dtype=torch.float64)))
    assert at_zero == pytest.approx(EXCESS_POTENTIAL * RESIDUE_VOLUME)


def test_scattering_is_that_of_the_atoms():
    """Electron scattering factors at zero angle, International Tables C 4.3.2.2, through gemmi."""
    f = {name: gemmi.Element(name).c4322.calculate_sf(0) for name in "HCNOS"}
    residue = 4.9384 * f["C"] + 7.7583 * f["H"] + 1.3577 * f["N"] + 1.4773 * f["O"] + 0.0417 * f["S"]
    assert pytest.approx(residue, rel=1e-3) == RESIDUE_SCATTERING
    assert pytest.approx(2 * f["H"] + f["O"], rel=1e-3) == WATER_SCATTERING


def test_damage_is_that_of_grant_and_grigorieff():
    """Their critical exposure at 3 Å is 4.3 electrons/Å²: amplitudes fall to exp(-1/2)."""
    frequency = torch.tensor([1 / 3, 0.0])
    critical = 0.24499 * 3**1.6649 + 2.8141
    left = damage(frequency, critical)
    assert float(left[0]) == pytest.approx(np.exp(-0.5), rel=2e-3)
    assert float(left[1]) == pytest.approx(1, abs=1e-4)


def test_ice_grows_with_thickness_and_its_fine_structure_melts_in_the_beam():
    frequency = torch.tensor([0.01, 1 / 3.7], dtype=torch.float64)
    thin, thick = (ice_spectrum(frequency, thickness, dose=40) for thickness in (200, 600))
    assert torch.allclose(thick, 3 * thin)
    fresh = ice_spectrum(frequency, 200, dose=0.01)
    assert float(fresh[1] / fresh[0]) > 10
    assert float((thin / fresh)[0]) > 0.9
    assert float((thin / fresh)[1]) < 0.15
