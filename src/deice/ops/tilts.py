"""A slab seen at many tilts, and back: projection and weighted back-projection about the y axis.

Signs: at the tilt θ a point (x, z), counted from the centre of the volume, is seen at u = x cos θ + z sin θ; y stays.
The centre of n voxels, and of n pixels, is number n // 2. The picture's transform at the frequency κ is that of the
volume at (kx, kz) = κ (cos θ, sin θ) (Bracewell 1956): tilts from -60° to 60° leave |kx| < |kz| / tan 60° empty.

Rows of y never meet, so everything works on a few rows at a time, and both ways are sums over the frequencies along x:
exact for what voxels can hold, with no interpolation between them, and each the adjoint of the other.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from deice.ops.fourier import conjugate_weight


@dataclass(frozen=True)
class Tilts:
    """angles: degrees, growing, within ±80.  depth, length: voxels of the volume along z and x.

    margin: pixels of each picture beyond what the volume needs, over which it fades.
    """

    angles: tuple[float, ...]
    depth: int
    length: int
    margin: int = 16

    @property
    def width(self) -> int:
        """Pixels along u of a picture that shows all of the volume at every tilt."""
        return 2 * max(self._reach(angle) for angle in self._radians)

    def project(self, block: Tensor) -> Tensor:
        """Sums along the beam, in units of one voxel: `block` (z, y, x) → (t, y, u).

        The slab goes on beyond the block's ends along x, where it repeats itself: a tilted view shows more of it.
        """
        spectrum = torch.fft.rfft(block, dim=2).permute(2, 0, 1)
        spectrum = spectrum * (conjugate_weight((self.length,), block) / self.length)[:, None, None]
        seen = torch.bmm(self._shear_forward.conj(), spectrum)
        pictures = block.new_empty(len(self.angles), block.shape[1], self.width)
        for number, angle in enumerate(self._radians):
            cosine, sine = self._waves(angle, self.length, _centred(self.width))
            known = seen[: len(cosine), number]
            pictures[number] = (known.real.T @ cosine - known.imag.T @ sine) / math.cos(angle)
        return pictures

    def back_project(self, series: Tensor) -> Tensor:
        """Weighted back-projection: `series` (t, y, u), sums along the beam → (z, y, x).

        Each picture is weighted by |κ| and by the angle that it stands for, half way to its neighbours (Gilbert 1972;
        Radermacher 1992), so that grey values are those of the volume wherever it was sampled.
        """
        rows, period = series.shape[1], self._period
        seen = torch.zeros(period // 2 + 1, len(self.angles), rows, dtype=torch.complex64, device=series.device)
        for number, angle in enumerate(self._radians):
            picture = _weighted(series[number] * _fading(self.width, self.margin))
            reach = self._reach(angle)
            first = self.width // 2 - reach
            cosine, sine = self._waves(angle, period, _centred(2 * reach))
            weight = _fading(2 * reach, self.margin) * self._spans[number] / math.cos(angle)
            picture = picture[:, first : first + 2 * reach] * weight
            seen[: len(cosine), number] = torch.complex(cosine @ picture.T, -sine @ picture.T)
        spectrum = torch.bmm(self._shear_back.transpose(1, 2), seen)
        return torch.fft.irfft(spectrum.permute(1, 2, 0), n=period, dim=2)[..., : self.length].contiguous()

    @property
    def _radians(self) -> list[float]:
        return [math.radians(angle) for angle in self.angles]

    @cached_property
    def _spans(self) -> np.ndarray:
        """Radians that each picture stands for."""
        return np.gradient(np.asarray(self._radians))

    @cached_property
    def _period(self) -> int:
        """Voxels along x after which a back-projection repeats itself: the copies stay clear of the volume."""
        return 2 * max(math.ceil((self._reach(a) + self._half(a)) / (2 * math.cos(a))) for a in self._radians)

    def _half(self, angle: float) -> float:
        """Pixels from the centre within which the volume is seen at `angle`."""
        return 0.5 * (self.length * math.cos(angle) + self.depth * abs(math.sin(angle)))

    def _reach(self, angle: float) -> int:
        return math.ceil(self._half(angle)) + self.margin

    @cached_property
    def _shear_forward(self) -> Tensor:
        return self._shear(self.length)

    @cached_property
    def _shear_back(self) -> Tensor:
        return self._shear(self._period)

    def _shear(self, period: int) -> Tensor:
        """exp(2πi k (z tan θ - centre of x) / period), (k, t, z): a layer at z is seen z tan θ voxels along x."""
        k = torch.arange(period // 2 + 1, dtype=torch.float64)[:, None, None]
        slope = torch.tensor([math.tan(angle) for angle in self._radians], dtype=torch.float64)[:, None]
        return _unit(k * (slope * _centred(self.depth) - self.length // 2) / period)

    @staticmethod
    def _waves(angle: float, period: int, u: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin of 2π κ u, each (k, u), for the frequencies κ = k / (period cos θ) that the pixels hold."""
        count = math.floor(period * math.cos(angle) / 2 + 1e-9) + 1
        step = math.isqrt(count) + 1  # exp(i (a + b)) = exp(i a) exp(i b): few cosines make many
        k = torch.arange(step, dtype=torch.float64)[:, None] * u / (period * math.cos(angle))
        wave = (_unit(step * k)[:, None] * _unit(k)).flatten(0, 1)[:count]
        return wave.real.contiguous(), wave.imag.contiguous()


def _unit(turns: Tensor) -> Tensor:
    """exp(2πi turns), complex64 of a float64 argument."""
    angle = (2 * math.pi * (turns - turns.round())).float()
    return torch.polar(torch.ones_like(angle), angle)


def _centred(size: int) -> Tensor:
    return torch.arange(size, dtype=torch.float64) - size // 2


def _fading(size: int, margin: int) -> Tensor:
    """1 inside, linearly to 0 over the margin at both ends, (size,)."""
    from_end = torch.minimum(torch.arange(size), torch.arange(size).flip(0)) + 0.5
    return (from_end / margin).clamp(max=1).float()


def _weighted(picture: Tensor) -> Tensor:
    """`picture` (y, u) times |κ| in cycles per pixel along u, padded with 0 to twice its width."""
    size = picture.shape[1]
    ramp = torch.fft.rfftfreq(2 * size)
    return torch.fft.irfft(torch.fft.rfft(picture, n=2 * size) * ramp, n=2 * size)[:, :size]
