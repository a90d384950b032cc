"""Drawn volumes seen at many tilts and back, exactly: a coefficient of a picture is a sum over the volume's sections.

Fields repeat themselves along y and x and have an end along z. With k the frequency along x, in cycles per voxel, a
section at z adds exp(-2πi k tan θ z) of its own coefficient to the picture at the tilt θ (`deice.ops.tilts` has the
signs); weighted back-projection is the adjoint, each picture weighted by |κ| = |k| / cos θ.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deice.worlds.drawn.settings import Settings, taken

LAST_TILT = (40.0, 70.0)  # degrees, to either side
STEP = (1.5, 5.0)  # degrees
MOST_TILTS = 61


@dataclass(frozen=True, eq=False)
class Series:
    """Tilt series of fields (b, z, y, x). angles: (b, t) degrees.  weights: (b, t), of those that are there, 0 else.

    waves: (b, half x, t, z).  k: (half x,).  radius, azimuth: of the pictures' coefficients (b, half x, y, t), cycles
    per voxel and radians; beyond Nyquist nothing was measured.
    """

    angles: Tensor
    weights: Tensor
    waves: Tensor
    k: Tensor
    radius: Tensor
    azimuth: Tensor

    @property
    def seen(self) -> Tensor:
        """1 where a picture has pixels fine enough, else 0: (b, half x, y, t)."""
        return (self.radius <= 0.5) * (self.weights[:, None, None] > 0)

    def project(self, field: Tensor) -> Tensor:
        """Transforms (b, half x, y, t) of the pictures of `field` (b, z, y, x)."""
        return torch.matmul(_columns(field), self.waves.transpose(2, 3))

    def back_project(self, pictures: Tensor, power: Tensor) -> Tensor:
        """(..., b, half x, y, t) → (..., b, z, y, x). power: (b,) of |κ| in the weight; 1: weighted back-projection."""
        cosine = torch.cos(torch.deg2rad(self.angles))[:, None]
        kappa = (self.k[:, None] / cosine).clamp_max(0.5)
        ramp = 0.5 * (kappa / 0.5) ** power[:, None, None] / cosine  # |κ| dκ = |κ| dk / cos θ
        depth = self.waves.shape[-1]
        mean = (self.weights > 0) / (self.weights > 0).sum(1, keepdim=True) / depth
        weight = torch.where(self.k[:, None] > 0, ramp * self.weights[:, None], mean[:, None])
        spectrum = torch.matmul(pictures * (weight[:, :, None] * self.seen), self.waves.conj())
        rows = torch.fft.ifft(spectrum, dim=-2).transpose(-1, -3)
        return torch.fft.irfft(rows, n=2 * (len(self.k) - 1), dim=-1)

    def white(self, spread: Tensor, generator: torch.Generator) -> Tensor:
        """Transforms of white noise of standard deviation `spread` (b, t) in every picture: (b, half x, y, t)."""
        count, length, rows, tilts = self.radius.shape
        shape = (count, tilts, rows, 2 * (length - 1))
        white = torch.randn(shape, generator=generator, device=spread.device) * spread[:, :, None, None]
        return torch.fft.rfft2(white).permute(0, 3, 2, 1)


def draw_tilts(count: int, rng: np.random.Generator) -> Settings:
    """first, last, step: (count,) degrees; the two ends are unlike each other now and then."""
    last = rng.uniform(*LAST_TILT, count)
    first = -np.where(rng.random(count) < 0.6, last, rng.uniform(*LAST_TILT, count))
    least = (last - first) / (MOST_TILTS - 1)
    return {"first": first, "last": last, "step": np.maximum(least, rng.uniform(*STEP, count))}


def series_of(tilts: Settings, shape: Sequence[int], device: torch.device) -> Series:
    """The series of fields of `shape` (z, y, x) voxels, of even size along y and x."""
    depth, rows, length = shape
    counts = np.floor((tilts["last"] - tilts["first"]) / tilts["step"] + 1e-6).astype(int) + 1
    numbers = np.arange(counts.max())
    angles = np.minimum(tilts["first"][:, None] + tilts["step"][:, None] * numbers, tilts["last"][:, None])
    weights = np.where(numbers < counts[:, None], np.radians(tilts["step"])[:, None], 0.0)
    angle, weight = taken(np.stack([angles, weights]).astype(np.float32), device)
    k, z = torch.fft.rfftfreq(length, device=device), torch.arange(depth, device=device) - depth // 2
    radians = torch.deg2rad(angle)
    turns = k[:, None, None] * radians.tan()[:, None, :, None] * z
    waves = torch.polar(torch.ones_like(turns), -2 * math.pi * turns)
    across = (k[:, None] / radians.cos()[:, None])[:, :, None]
    along = torch.fft.fftfreq(rows, device=device)[:, None]
    radius = torch.hypot(across, along)
    return Series(angle, weight, waves, k, radius, torch.atan2(along.expand_as(radius), across.expand_as(radius)))


def _columns(field: Tensor) -> Tensor:
    """(b, z, y, x) → (b, half x, y, z), transformed along y and x."""
    return torch.fft.rfft2(field).permute(0, 3, 2, 1)
