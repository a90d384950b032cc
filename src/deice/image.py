"""Image: independent noisy views of one scene, with the geometry that must survive denoising."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Geometry:
    """Where the pixels lie: what a reader finds in a header and a writer gives back.

    voxel_size: (x, y, z) in Å; None = the file does not say (0 or 1 in an MRC header means unknown too).
    stated_voxel_size: what the header says where it means unknown, so that a writer can say the same again.
    origin: (x, y, z) in Å.  nstart: (x, y, z) in pixels.  map_order: MRC's MAPC, MAPR, MAPS.
    cell_angles: MRC's alpha, beta, gamma in degrees.  labels: the lines of history found in the file.
    """

    voxel_size: tuple[float, float, float] | None = None
    stated_voxel_size: tuple[float, float, float] = (0.0, 0.0, 0.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    nstart: tuple[int, int, int] = (0, 0, 0)
    map_order: tuple[int, int, int] = (1, 2, 3)
    cell_angles: tuple[float, float, float] = (90.0, 90.0, 90.0)
    labels: tuple[str, ...] = ()

    @property
    def pixel_size(self) -> float | None:
        """Å per pixel along the fastest axis; None if unknown."""
        return None if self.voxel_size is None else self.voxel_size[0]

    def with_pixel_size(self, pixel_size: float) -> "Geometry":
        """The same place with an isotropic pixel of `pixel_size` Å (a user's --pixel-size)."""
        return replace(self, voxel_size=(pixel_size, pixel_size, pixel_size))


@dataclass(frozen=True, eq=False)
class Image:
    """`views`: (v, *space), anything with shape, dtype and slicing; v independent noisy views of one scene.

    A lone micrograph is (1, y, x), movie halves (2, y, x), even/odd tomograms (2, z, y, x).
    A movie before its frames are summed is (t, y, x): t views of one exposure.
    """

    views: Any
    geometry: Geometry = field(default_factory=Geometry)

    @property
    def space(self) -> tuple[int, ...]:
        """The trailing axes, (y, x) or (z, y, x)."""
        return tuple(self.views.shape[1:])

    @property
    def pixel_size(self) -> float | None:
        """Å per pixel; None if unknown."""
        return self.geometry.pixel_size

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """One view as (*space); several as (v, *space)."""
        array = np.asarray(self.views[0] if self.views.shape[0] == 1 else self.views[:])
        return array.astype(dtype) if dtype is not None else array
