"""The contrast transfer function against torch-ctf, and its constants against published values."""

import math

import pytest
import torch
from torch_ctf import calculate_ctf_2d

from deice.ops.ctf import (
    Optics,
    contrast_transfer,
    electron_wavelength,
    envelope,
    interaction_constant,
    plane_frequencies,
)


@pytest.mark.parametrize("shape", [(64, 64), (65, 48)])
@pytest.mark.parametrize(
    "optics",
    [
        Optics(kv=300, defocus=1.5),
        Optics(kv=200, cs=1.4, defocus=0.6, amplitude_contrast=0.1),
        Optics(kv=100, cs=2.0, defocus=-0.8, amplitude_contrast=0.0),
        Optics(kv=300, defocus=2.2, astigmatism=0.2, astigmatism_angle=25),
        Optics(kv=120, defocus=3.0, astigmatism=0.3, astigmatism_angle=-60, phase_shift=90),
    ],
    ids=["300", "200", "overfocus", "astigmatic", "phase plate"],
)
def test_equals_torch_ctf(optics, shape):
    frequency, azimuth = plane_frequencies(shape, pixel_size=1.5)
    ours = contrast_transfer(optics, frequency, azimuth)
    # torch-ctf takes the opposite sign; its angle too starts at the x axis, whatever its docstring says
    theirs = -calculate_ctf_2d(
        defocus=torch.tensor(optics.defocus, dtype=torch.float64), astigmatism=optics.astigmatism,
        astigmatism_angle=optics.astigmatism_angle, voltage=optics.kv, spherical_aberration=optics.cs,
        amplitude_contrast=optics.amplitude_contrast, phase_shift=optics.phase_shift, pixel_size=1.5,
        image_shape=shape, rfft=True, fftshift=False,
    )
    assert (ours - theirs).abs().max() < 2e-4  # theirs is float32, at phases of up to 300 radians


def test_larger_defocus_lies_along_the_stated_angle():
    """Thon rings are closer where the defocus is larger: chi is proportional to the defocus."""
    optics = Optics(cs=0, amplitude_contrast=0, defocus=1.0, astigmatism=0.2, astigmatism_angle=30)
    frequency = torch.tensor(0.02, dtype=torch.float64)
    phase = [-torch.asin(contrast_transfer(optics, frequency, math.radians(angle))) for angle in (30, 120)]
    assert float(phase[0] / phase[1]) == pytest.approx(1.2 / 0.8, rel=1e-6)


def test_constants():
    """Kirkland 2010, appendix; Reimer & Kohl 2008, table 2.2."""
    for kv, angstrom in [(100, 0.037014), (200, 0.025079), (300, 0.019687)]:
        assert electron_wavelength(kv) == pytest.approx(angstrom, rel=1e-4)
    for kv, radians in [(100, 9.244e-4), (200, 7.288e-4), (300, 6.526e-4)]:
        assert interaction_constant(kv) == pytest.approx(radians, rel=1e-3)


def test_protein_is_dark_under_focus():
    low = torch.tensor([0.0, 0.005, 0.01], dtype=torch.float64)
    assert bool((contrast_transfer(Optics(defocus=1.5), low) < 0).all())


def test_envelope_only_takes_away_and_takes_more_at_high_frequency():
    frequency, azimuth = plane_frequencies((1, 200), pixel_size=1.0)
    left = envelope(Optics(astigmatism=0.1), frequency, azimuth).flatten()
    assert left[0] == 1
    assert bool((left.diff() < 0).all())
    plain = envelope(Optics(b_factor=100, convergence=0, focal_spread=0), torch.tensor(0.2))
    assert float(plain) == pytest.approx(math.exp(-100 * 0.04 / 4), rel=1e-6)
