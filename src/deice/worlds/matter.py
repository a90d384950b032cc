"""How strongly protein and ice scatter electrons: the numbers every picture of this package rests on.

Potentials are sums over isolated, neutral atoms (chemical bonds lower them by about a tenth):
mean inner potential = 47.878 V Å² · sum of f(0) / volume, with the electron scattering factors f(0) at zero
angle of Peng et al. 1996 in Å: H 0.529, C 2.509, N 2.214, O 1.983, P 5.488, S 5.160, Au 10.573.
"""

import math

import torch
from torch import Tensor

POTENTIAL_PER_SCATTERING = 47.878  # h²/(2π m e), V Å²

PROTEIN_DENSITY = 0.813  # Da per Å³, 1.35 g/cm³
RESIDUE_MASS = 111.1  # Da: the average residue C4.94 H7.76 N1.36 O1.48 S0.04 (Senko et al. 1995)
RESIDUE_VOLUME = RESIDUE_MASS / PROTEIN_DENSITY  # 136.7 Å³
RESIDUE_SCATTERING = 22.65  # Å, of that composition

WATER_VOLUME = 32.17  # Å³ per molecule of vitreous ice at 0.93 g/cm³
WATER_SCATTERING = 3.04  # Å

# 4.52 V (Vulović et al. 2013: 4.53 V)
ICE_POTENTIAL = POTENTIAL_PER_SCATTERING * WATER_SCATTERING / WATER_VOLUME
PROTEIN_POTENTIAL = POTENTIAL_PER_SCATTERING * RESIDUE_SCATTERING / RESIDUE_VOLUME  # 7.94 V
EXCESS_POTENTIAL = PROTEIN_POTENTIAL - ICE_POTENTIAL  # 3.4 V: why a protein is seen in ice at all

LIPID_AREA = 64.0  # Å² per lipid of a leaflet; this and the next four: fluid PC (Nagle & Tristram-Nagle 2000)
HEAD_VOLUME, CH2_VOLUME, CH3_VOLUME = 319.0, 28.0, 57.0  # Å³
HEADS_APART, TAILS_THICK = 38.3, 28.5  # Å across the bilayer, from phosphate to phosphate and of the hydrocarbons
HEAD_SCATTERING, CH2_SCATTERING, CH3_SCATTERING = 58.2, 3.567, 4.096  # Å, of C10H18NO8P, CH2 and CH3

GOLD_POTENTIAL = POTENTIAL_PER_SCATTERING * 10.573 * 0.0590 - ICE_POTENTIAL  # 25.4 V over ice; 0.0590 atoms per Å³
# Å, 300 kV: elastic cross-section 1.31e-3 nm² (Langmore & Smith 1992); what gold scatters misses the aperture
GOLD_FREE_PATH = 129.0

# Å, standard deviation per axis of a residue's atoms about their centre, with the atoms' own width
RESIDUE_WIDTH = 1.6
# displaced solvent as a Gaussian of the residue's volume (Fraser, MacRae & Suzuki 1978)
DISPLACED_WIDTH = RESIDUE_VOLUME ** (1 / 3) / math.sqrt(2 * math.pi)


def residue_form(frequency: Tensor) -> Tensor:
    """Fourier transform in V Å³ of one residue's potential less that of the ice it displaces.

    frequency: cycles/Å, any shape.  At 0 it is EXCESS_POTENTIAL · RESIDUE_VOLUME.
    """
    squared = frequency**2
    residue = PROTEIN_POTENTIAL * torch.exp(-2 * math.pi**2 * RESIDUE_WIDTH**2 * squared)
    displaced = ICE_POTENTIAL * torch.exp(-2 * math.pi**2 * DISPLACED_WIDTH**2 * squared)
    return RESIDUE_VOLUME * (residue - displaced)


def point_form(frequency: Tensor) -> Tensor:
    """A point's Fourier transform: 1 everywhere (the voxels of a map carry their own blur)."""
    return torch.ones_like(frequency)


def bilayer(distance: Tensor, blur: float | Tensor) -> Tensor:
    """Potential in V, less that of ice, at `distance` (Å, any shape) from the middle of a membrane.

    Two leaflets of lipid: head groups are dense, the ends of the tails are not; each part's potential is its atoms'
    over its volume, its place and width those of diffraction (Nagle & Tristram-Nagle 2000).
    blur: Å, standard deviation of what the voxels blur besides, one or as `distance`.
    """
    heads = POTENTIAL_PER_SCATTERING * HEAD_SCATTERING - ICE_POTENTIAL * HEAD_VOLUME
    tails = POTENTIAL_PER_SCATTERING * CH2_SCATTERING / CH2_VOLUME - ICE_POTENTIAL
    ends = POTENTIAL_PER_SCATTERING * CH3_SCATTERING / CH3_VOLUME - ICE_POTENTIAL - tails
    width = (3.0**2 + blur**2) ** 0.5  # Å
    head_groups = sum(_bell(distance - side * HEADS_APART / 2, width) for side in (-1, 1)) * heads / LIPID_AREA
    methyls = _bell(distance, width) * ends * 4 * CH3_VOLUME / LIPID_AREA  # two tails in each of two leaflets
    edge = (2 * (2.4**2 + blur**2)) ** 0.5
    core = torch.erf((distance + TAILS_THICK / 2) / edge) - torch.erf((distance - TAILS_THICK / 2) / edge)
    return head_groups + methyls + 0.5 * tails * core


def _bell(distance: Tensor, width: float | Tensor) -> Tensor:
    """Gaussian of integral 1."""
    return torch.exp(-0.5 * (distance / width) ** 2) / (width * math.sqrt(2 * math.pi))


def ice_spectrum(frequency: Tensor, thickness: float, dose: float) -> Tensor:
    """Power spectrum in V² Å⁴ of the projected potential of vitreous ice, of what stands still over an exposure.

    frequency: cycles/Å, any shape.  thickness: Å.  dose: electrons/Å².
    Water molecules scatter with the structure factor of the amorphous solid; the beam shakes them by 1.1 Å²
    (mean square) for each electron/Å² (McMullan, Vinothkumar & Henderson 2015), so that fine structure averages
    out over the frames. What moves is left out: in one frame it is far below the counting noise.
    """
    molecules = thickness / WATER_VOLUME
    blur = torch.exp(-2 * math.pi**2 * 0.5**2 * frequency**2)  # oxygen with its hydrogens, 0.5 Å
    still = POTENTIAL_PER_SCATTERING * WATER_SCATTERING * blur
    return molecules * still**2 * ice_structure_factor(frequency) * _standing_share(frequency, dose)


def ice_structure_factor(frequency: Tensor) -> Tensor:
    """S(k) of amorphous ice, a smooth stand-in for measured curves, `frequency` in cycles/Å.

    0.02 towards zero, a third of liquid water's compressibility limit: amorphous ices are no frozen liquid, long waves
    are nearly absent (Martelli, Torquato, Giovambattista & Car 2017). A peak at 1/3.7 Å, 1 beyond.
    """
    shoulder = 1 - 0.98 * torch.exp(-((frequency / 0.25) ** 6))
    return shoulder + 0.8 * torch.exp(-(((frequency - 1 / 3.7) / 0.03) ** 2))


def damage(frequency: Tensor, dose: float | Tensor) -> Tensor:
    """What `dose` electrons/Å² leave of a protein's amplitudes at `frequency` (cycles/Å), at 300 kV.

    exp(-dose / (2 Ne)) with the critical exposure Ne(k) = 0.245 k^-1.665 + 2.81 (Grant & Grigorieff 2015).
    """
    critical = 0.245 * frequency.clamp_min(1e-4) ** -1.665 + 2.81
    return torch.exp(-dose / (2 * critical))


def _standing_share(frequency: Tensor, dose: float) -> Tensor:
    """Power left in the mean over an exposure of molecules that diffuse: 2 (exp(-a) + a - 1) / a²."""
    per_axis = 1.1 / 3 * dose  # Å², mean square displacement at the end
    a = (2 * math.pi**2 * per_axis * frequency**2).clamp_min(1e-6).double()
    return torch.where(a > 1e-3, 2 * (torch.expm1(-a) + a) / a**2, 1 - a / 3).to(frequency.dtype)
