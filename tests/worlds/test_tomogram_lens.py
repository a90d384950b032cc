"""Pictures of thick matter: the weak-phase picture where it is weak, never less than nothing where it is not."""

import pytest
import torch

from deice.ops.ctf import Optics, contrast_transfer, envelope, interaction_constant, plane_frequencies
from deice.ops.fourier import from_half_transform, half_transform
from deice.worlds.lens import intensity


def field(strength):
    rng = torch.Generator().manual_seed(0)
    return strength * torch.randn(65, 81, generator=rng)


@pytest.mark.parametrize("astigmatism", [0.0, 0.3])
@pytest.mark.parametrize("phase_shift", [0.0, 60.0])
def test_weak_matter_follows_the_contrast_transfer_function(astigmatism, phase_shift):
    optics = Optics(defocus=3.0, astigmatism=astigmatism, astigmatism_angle=25, phase_shift=phase_shift, b_factor=200)
    potential = field(0.5)  # V·Å: 3e-4 rad
    frequency, azimuth = plane_frequencies((65, 81), 8.0)
    lens = contrast_transfer(optics, frequency, azimuth) * envelope(optics, frequency, azimuth)
    centred = half_transform((potential - potential.mean()).double(), 2)
    weak = from_half_transform(2 * interaction_constant(300) * lens * centred, (65, 81))
    found = intensity(potential, optics, 8.0) - 1
    assert float((found - weak).norm() / weak.norm()) < 2e-3


def test_strong_matter_leaves_no_negative_intensity_and_keeps_the_electrons():
    optics = Optics(defocus=3.0, amplitude_contrast=0.0, b_factor=0)
    picture = intensity(field(4000.0), optics, 8.0)
    assert float(picture.min()) >= 0
    assert float(picture.mean()) == pytest.approx(1, abs=0.02)


def test_an_ideal_lens_shows_phase_as_absorption():
    potential = field(10.0)
    phase = interaction_constant(300) * (potential - potential.mean())
    assert torch.allclose(intensity(potential, None, 8.0), torch.exp(-2 * phase), atol=1e-5)


def test_matter_is_dark_and_absorbers_are_darker():
    y, x = torch.meshgrid(torch.arange(64) - 32, torch.arange(64) - 32, indexing="ij")
    disc = ((y**2 + x**2) < 5**2).float()
    optics = Optics(defocus=4.0)
    bare = intensity(200 * disc, optics, 10.0)
    gold = intensity(200 * disc, optics, 10.0, transmitted=1 - 0.4 * disc)
    middle = (slice(30, 35), slice(30, 35))
    assert float(gold[middle].mean()) < float(bare[middle].mean()) < 1
