"""Several views that lie in different files: stacked, or averaged, and read only where they are asked for."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from deice.ops.normalise import Affine, Statistics


@dataclass(frozen=True)
class Stacked:
    """Views of several files as one (v, *space), without reading them."""

    parts: tuple[Any, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(v, *space)."""
        return (len(self.parts), *self.parts[0].shape)

    def __getitem__(self, index: int) -> Any:
        return self.parts[index]


@dataclass(frozen=True)
class Average:
    """The mean of several views (*space) as one; each counts as much, whatever its grey scale."""

    parts: tuple[Any, ...]
    scales: tuple[Statistics, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one view."""
        return self.parts[0].shape

    @property
    def dtype(self) -> np.dtype:
        """float32, whatever the views are."""
        return np.dtype(np.float32)

    def __getitem__(self, index: Any) -> np.ndarray:
        normal = [Affine(scale.mean, scale.sd).apply(np.asarray(part[index], np.float32))
                  for part, scale in zip(self.parts, self.scales)]
        mean, sd = (float(np.mean([getattr(scale, name) for scale in self.scales])) for name in ("mean", "sd"))
        return Affine(mean, sd).undo(np.mean(normal, axis=0))
