"""The contrast transfer function of an electron microscope, and what envelopes leave of it.

Convention of CTFFIND and RELION: defocus is positive under focus, and the function is
-sin(chi + asin(amplitude contrast)), so that matter denser than ice is dark:
relative intensity = 1 + 2 CTF * phase.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_REST_ENERGY = 510_998.95  # m c², eV
_PLANCK_TIMES_C = 12_398.419_8  # h c, eV Å


@dataclass(frozen=True)
class Optics:
    """The settings of the lens for one picture.

    kv: acceleration voltage, kV.  cs: spherical aberration, mm.  amplitude_contrast: fraction, 0 to 1.
    defocus: mean of the two principal defoci, µm, positive under focus.
    astigmatism: half the difference of the two principal defoci, µm.
    astigmatism_angle: degrees from +x to +y (growing rows) of the axis of the larger defocus.
    phase_shift: of a phase plate, degrees.
    convergence: semi-angle of the illumination, mrad (spatial coherence).
    focal_spread: standard deviation of the defocus over electrons, Å (temporal coherence).
    b_factor: what else blurs, Å²; amplitudes fall as exp(-B k²/4).
    """

    kv: float = 300.0
    cs: float = 2.7
    amplitude_contrast: float = 0.07
    defocus: float = 1.5
    astigmatism: float = 0.0
    astigmatism_angle: float = 0.0
    phase_shift: float = 0.0
    convergence: float = 0.02
    focal_spread: float = 50.0
    b_factor: float = 50.0


def electron_wavelength(kv: float) -> float:
    """Relativistic de Broglie wavelength in Å of an electron accelerated by `kv` kV (0.01969 Å at 300 kV)."""
    energy = 1e3 * kv
    return _PLANCK_TIMES_C / math.sqrt(energy * (energy + 2 * _REST_ENERGY))


def interaction_constant(kv: float) -> float:
    """Phase in rad per V·Å of projected potential (6.526e-4 at 300 kV; Kirkland 2010, eq. 5.6)."""
    energy = 1e3 * kv
    relativity = (_REST_ENERGY + energy) / (2 * _REST_ENERGY + energy)
    return 2 * math.pi / (electron_wavelength(kv) * energy) * relativity


def contrast_transfer(optics: Optics, frequency: Tensor, azimuth: Tensor | float = 0.0) -> Tensor:
    """The function without its envelopes, of the shape of `frequency`.

    frequency: cycles/Å.  azimuth: radians from +x to +y.
    Source: Rohou & Grigorieff 2015 (CTFFIND4), eq. 2 and 3.
    """
    constant = math.radians(optics.phase_shift) + math.asin(optics.amplitude_contrast)
    return -torch.sin(aberration(optics, frequency, azimuth) + constant)


def aberration(optics: Optics, frequency: Tensor, azimuth: Tensor | float = 0.0) -> Tensor:
    """Phase in radians by which the lens advances waves of `frequency` (cycles/Å), without the phase plate's."""
    wavelength = electron_wavelength(optics.kv)
    squared = frequency**2
    chi = math.pi * wavelength * _defocus_along(optics, azimuth) * squared
    return chi - 0.5 * math.pi * 1e7 * optics.cs * wavelength**3 * squared**2


def envelope(optics: Optics, frequency: Tensor, azimuth: Tensor | float = 0.0) -> Tensor:
    """What partial coherence and the B-factor leave of each amplitude, 0 to 1, of the shape of `frequency`.

    frequency: cycles/Å.  azimuth: radians from +x to +y.
    Source: Frank 1973 (spatial), Wade & Frank 1977 (temporal): exp(-(pi alpha (Cs λ² k³ - Δz k))²),
    exp(-(pi λ Δ k²)²/2).
    """
    wavelength = electron_wavelength(optics.kv)
    slope = 1e7 * optics.cs * wavelength**2 * frequency**3 - _defocus_along(optics, azimuth) * frequency
    spatial = (math.pi * 1e-3 * optics.convergence * slope) ** 2
    temporal = 0.5 * (math.pi * wavelength * optics.focal_spread * frequency**2) ** 2
    return torch.exp(-spatial - temporal - optics.b_factor * frequency**2 / 4)


def plane_frequencies(shape: Sequence[int], pixel_size: float) -> tuple[Tensor, Tensor]:
    """Frequency (cycles/Å) and azimuth (radians) of each coefficient of the half transform of a picture."""
    along_y = torch.fft.fftfreq(shape[0], d=pixel_size, dtype=torch.float64)[:, None]
    along_x = torch.fft.rfftfreq(shape[1], d=pixel_size, dtype=torch.float64)[None, :]
    return torch.hypot(along_x, along_y), torch.atan2(along_y, along_x)


def _defocus_along(optics: Optics, azimuth: Tensor | float) -> Tensor | float:
    """Defocus in Å along a direction of the plane."""
    if optics.astigmatism == 0:
        return 1e4 * optics.defocus
    angle = torch.as_tensor(azimuth) - math.radians(optics.astigmatism_angle)
    return 1e4 * (optics.defocus + optics.astigmatism * torch.cos(2 * angle))
