"""Several views that lie in different files: stacked, or averaged, and read only where they are asked for."""

from collections.abc import Sequence
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

    @property
    def dtype(self) -> np.dtype:
        """One in which every view fits."""
        return np.result_type(*(part.dtype for part in self.parts))

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
        return averaged([np.asarray(part[index], np.float32) for part in self.parts], self.scales)


def averaged(parts: Sequence[Any], scales: Sequence[Statistics]) -> Any:
    """The mean of arrays or tensors of one shape, each of which counts as much, in the mean of their grey scales."""
    normal = sum(Affine(scale.mean, scale.sd).apply(part) for part, scale in zip(parts, scales)) / len(parts)
    mean, sd = (float(np.mean([getattr(scale, name) for scale in scales])) for name in ("mean", "sd"))
    return Affine(mean, sd).undo(normal)


def half_difference(parts: Sequence[Any], scales: Sequence[Statistics]) -> Any:
    """Half the difference of two halves, in the mean of their grey scales: noise like their mean's, without signal."""
    one, two = (Affine(scale.mean, scale.sd).apply(part) for part, scale in zip(parts, scales))
    return (one - two) * (float(np.mean([scale.sd for scale in scales])) / 2)
