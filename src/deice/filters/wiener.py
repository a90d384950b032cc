"""Tegunov's Wiener-like deconvolution filter, with the strength conventions of two programs.

Source: tom_deconv by D. Tegunov; in use described by Tegunov & Cramer, Nat. Methods 16 (2019) 1146-1152.
Its assumed signal-to-noise ratio falls exponentially with the frequency and is held down below
`highpass_nyquist`:

    snr(x)  = exp(−x·falloff·100 / pixel size) · 10^(3·strength) · (1 − cos(π·min(1, x / highpass_nyquist)))
    gain(x) = ctf / (ctf² + 1/snr)                      x: frequency as a fraction of Nyquist, at most 1
    ctf(k)  = −√(1−A²)·sin w + A·cos w                  w = π/2·(Cs·λ³·k⁴ − 2·λ·defocus·k²) − phase shift
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.ops.cosine import filter_mirrored


@dataclass(frozen=True)
class Wiener:
    """The deconvolution filter's parameters.

    defocus: µm, underfocus positive; 0 for an image whose optics are to be left alone. strength, falloff:
    of the assumed signal-to-noise ratio. convention: what strength means: "tegunov" 10^(3·strength), as in
    tom_deconv; "isonet" 10^strength with 1e-6 added to the ratio, as in IsoNet and the programs that took
    its port. tom_deconv calls them deconvstrength and snrfalloff, and has highpassnyquist, phaseflipped and
    phaseshift too. highpass_nyquist: fraction of Nyquist. voltage: kV. spherical_aberration: mm.
    amplitude_contrast: 0 to 1. phase_shift: degrees. phase_flipped: the phases were corrected already, use
    |ctf|.

    The filter itself has no gain at zero frequency; the image's mean is kept nevertheless. (IsoNet's port restores the
    standard deviation as well: a factor, which this leaves out.)
    """

    defocus: float | None = None
    strength: float = 1.0
    falloff: float = 1.0
    convention: Literal["tegunov", "isonet"] = "tegunov"
    highpass_nyquist: float = 0.02
    voltage: float = 300.0
    spherical_aberration: float = 2.7
    amplitude_contrast: float = 0.07
    phase_shift: float = 0.0
    phase_flipped: bool = False

    def __post_init__(self):
        if self.convention not in ("tegunov", "isonet"):
            raise RecipeFault(f"strength convention {self.convention!r}; expected 'tegunov' or 'isonet'")
        if not 0 < self.highpass_nyquist <= 1:
            raise RecipeFault(f"a high-pass at {self.highpass_nyquist} of Nyquist; expected above 0, to 1")
        if not 0 <= self.amplitude_contrast <= 1:
            raise RecipeFault(f"an amplitude contrast of {self.amplitude_contrast}; expected 0 to 1")
        if not self.voltage > 0:
            raise RecipeFault(f"a voltage of {self.voltage} kV; expected a number above 0, as 300")

    def apply(self, image: Tensor, pixel_size: float | None = None) -> Tensor:
        """Deconvolve `image` (*space) of `pixel_size` Å → (*space); RecipeFault without defocus or pixel
        size."""
        if self.defocus is None:
            raise RecipeFault("a Wiener filter without a defocus; expected one in µm: give --defocus "
                              "(0 leaves the optics alone)")
        if pixel_size is None:
            raise RecipeFault("a Wiener filter for an image of unknown pixel size: give --pixel-size")
        return filter_mirrored(image, lambda frequency: self.gain(frequency, pixel_size), image.ndim)

    def gain(self, frequency: Tensor, pixel_size: float) -> Tensor:
        """The filter at `frequency` (any shape) in cycles per pixel of `pixel_size` Å."""
        nyquist = (2 * frequency).clamp(max=1)
        ctf = self.ctf(nyquist / (2 * pixel_size))
        if self.phase_flipped:
            ctf = ctf.abs()
        snr = self.signal_to_noise(nyquist, pixel_size)
        return snr * ctf / (snr * ctf**2 + 1)  # = ctf / (ctf² + 1/snr), also where snr is 0

    def signal_to_noise(self, nyquist: Tensor, pixel_size: float) -> Tensor:
        """The assumed spectral signal-to-noise ratio at fractions of Nyquist 0…1 (any shape)."""
        highpass = 1 - torch.cos(math.pi * (nyquist / self.highpass_nyquist).clamp(max=1))
        exponential = torch.exp(-nyquist * self.falloff * 100 / pixel_size)
        if self.convention == "tegunov":
            return exponential * 10 ** (3 * self.strength) * highpass
        return exponential * 10**self.strength * highpass + 1e-6

    def ctf(self, frequency: Tensor) -> Tensor:
        """The contrast transfer function at `frequency` in 1/Å (any shape); positive at 0 as A."""
        volts = self.voltage * 1e3
        wavelength = 12.2643247 / math.sqrt(volts * (1 + volts * 0.978466e-6))  # Å
        squared = frequency**2
        aberration = self.spherical_aberration * 1e7 * wavelength**3 * squared**2
        defocus = 2 * wavelength * (self.defocus or 0.0) * 1e4 * squared
        phase = math.pi / 2 * (aberration - defocus) - math.radians(self.phase_shift)
        sine = math.sqrt(1 - self.amplitude_contrast**2)
        return -sine * torch.sin(phase) + self.amplitude_contrast * torch.cos(phase)
