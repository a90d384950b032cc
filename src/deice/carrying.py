"""How windows travel: in which type to a GPU, and how they come to the network's scale, there or on the processor."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from deice.sources import Source

CARRIED = {np.dtype(kind): getattr(torch, kind) for kind in ("int8", "uint8", "int16", "uint16", "float16", "float32")}


def carried_as(sources: Sequence[Source]) -> torch.dtype:
    """The type in which windows travel to a GPU: that of the files if all have the same, of 4 bytes at most."""
    kinds = {np.dtype(view.dtype).newbyteorder("=") for source in sources for view in source.views}
    return CARRIED.get(kinds.pop(), torch.float32) if len(kinds) == 1 else torch.float32


def rows_of(source: Source) -> Tensor:
    """(v, 4): offset, factor, lowest and highest value of each view's affine."""
    return torch.tensor([[affine.offset, 1 / affine.scale, -math.inf if affine.low is None else affine.low,
                          math.inf if affine.high is None else affine.high] for affine in source.affines])


def normalise_rows(rows: np.ndarray, affines: np.ndarray) -> None:
    """In place, float32 (n, v, *window) to the network's scale, as `Affine.apply` by (n, v, 4)."""
    shape = (*affines.shape[:2], *(1,) * (rows.ndim - 2))
    offset, factor, low, high = (affines[:, :, column].reshape(shape) for column in range(4))
    np.subtract(rows, offset, out=rows)
    np.multiply(rows, factor, out=rows)
    if np.isfinite(low).any():
        np.clip(rows, low, high, out=rows)


def normalised(windows: Tensor, affines: Tensor) -> Tensor:
    """Grey values (b, v, *window) of any type → float32 at the network's scale, as `Affine.apply` by (b, v, 4)."""
    shape = (*affines.shape[:2], *(1,) * (windows.ndim - 2))
    offset, factor, low, high = (column.reshape(shape) for column in affines.unbind(2))
    return windows.to(torch.float32).sub(offset).mul_(factor).clamp_(low, high)
