"""A tilt series, and what it gives back of the volume."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from deice.ops.tilts import Tilts
from deice.worlds.exposure import signal_to_noise

JUDGED = 64, 256, 256  # z, y, x: voxels in the middle of which signal and noise are compared


@dataclass(frozen=True, eq=False)
class TiltSeries:
    """pictures: (3, t, y, u): noiseless truth, even frames, odd frames; u is wider than the volume's x.

    Each is the relative intensity less 1, as the potential in V, summed over voxels along the beam, that would give
    it at full phase contrast: matter is dark, negative.
    even_share: of the dose in the even frames.
    """

    tilts: Tilts
    pictures: Tensor
    even_share: float
    pixel_size: float

    def reconstruct(self, rows: slice) -> Tensor:
        """Weighted back-projections of these rows of y: (3, z, y, x) of truth, even and odd frames."""
        some = self.pictures[:, :, rows].transpose(0, 1)
        volume = self.tilts.back_project(some.flatten(1, 2))
        return volume.unflatten(1, (3, -1)).transpose(0, 1)

    def average(self, even: Tensor, odd: Tensor) -> Tensor:
        """Of all frames, from the averages of the even and the odd ones, of any shape."""
        return self.even_share * even + (1 - self.even_share) * odd

    @cached_property
    def signal_to_noise(self) -> float:
        """Per voxel of the full tomogram, in its middle: see the function of this name. Noise is that of counting."""
        lengths = (self.tilts.depth, self.pictures.shape[2], self.tilts.length)
        z, y, x = (range(n)[(n - min(n, m)) // 2 : (n + min(n, m)) // 2] for n, m in zip(lengths, JUDGED, strict=True))
        rows = (slice(row, min(row + 16, y.stop)) for row in range(y.start, y.stop, 16))  # not much at a time
        cut = [self.reconstruct(some)[:, z.start : z.stop, :, x.start : x.stop].clone() for some in rows]
        truth, even, odd = torch.cat(cut, dim=2).numpy()
        noise = float(np.var(even - odd, dtype=np.float64)) * self.even_share * (1 - self.even_share)
        return signal_to_noise(truth, noise, self.pixel_size)
