"""A picture of matter too thick for the weak-phase approximation: walls of membrane seen edge-on, beads of gold.

The specimen is a phase object: the wave behind it is exp(i φ), φ its projected potential times the interaction
constant; the lens shifts the phases of the wave, and the intensity is its square (Kirkland 2010, ch. 3). Where φ is
small this is 1 + 2 · CTF · envelope · φ, the weak-phase picture of the micrographs.
"""

import math

import torch
from torch import Tensor

from deice.ops.ctf import Optics, aberration, envelope, interaction_constant, plane_frequencies
from deice.ops.fourier import from_half_transform, half_transform


def intensity(potential: Tensor, optics: Optics | None, pixel_size: float, transmitted: Tensor | float = 1.0) -> Tensor:
    """Relative intensity of `potential` (y, x), V·Å along the beam: same shape, 1 where there is nothing.

    optics: None = an ideal lens that makes all phase absorption, exp(-2 φ).  transmitted: share of the amplitude that
    strong scatterers let pass, (y, x).
    Amplitude contrast turns a share of the phase to absorption, exp(i φ √(1 - A²) - A φ). The envelopes of partial
    coherence are those of the linear theory, on the intensity.
    """
    phase = interaction_constant(optics.kv if optics else 300.0) * (potential - potential.mean())
    if optics is None:
        return transmitted**2 * torch.exp(-2 * phase)
    contrast = optics.amplitude_contrast
    wave = transmitted * torch.polar(torch.exp(-contrast * phase), math.sqrt(1 - contrast**2) * phase)
    rows, columns = potential.shape
    along_y = torch.fft.fftfreq(rows, d=pixel_size, dtype=torch.float64)[:, None]
    along_x = torch.fft.fftfreq(columns, d=pixel_size, dtype=torch.float64)[None, :]
    chi = aberration(optics, torch.hypot(along_x, along_y), torch.atan2(along_y, along_x))
    chi = chi + math.radians(optics.phase_shift)
    chi[0, 0] = 0  # what goes straight on
    turned = torch.polar(torch.ones_like(chi), chi).to(torch.complex64)
    seen = torch.fft.ifft2(torch.fft.fft2(wave) * turned).abs().square()
    blur = envelope(optics, *plane_frequencies(potential.shape, pixel_size)).float()
    return from_half_transform(half_transform(seen, 2) * blur, potential.shape).clamp_min(0)
