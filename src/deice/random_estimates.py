"""Estimates that are random: the same draws for the same tile, dropout on, views prepared as in training."""

import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from deice.ops.normalise import Affine
from deice.ops.tiles import Span
from deice.prepared import Prepared
from deice.sources import Source

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@contextmanager
def drawing_for(tile: Sequence[Span], module: nn.Module, device: torch.device) -> Generator[None]:
    """Within it dropout is on, and torch's own random numbers are a function of the tile; the caller's are kept."""
    dropped = [layer for layer in module.modules() if isinstance(layer, DROPOUTS)]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        seed = np.random.SeedSequence([span.start for span in tile]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(seed >> 1))
        try:
            for layer in dropped:
                layer.train()
            yield
        finally:
            for layer in dropped:
                layer.eval()


def prepared_for_estimate(
    scheme: Any, views: Sequence[Any], affines: Sequence[Affine], device: torch.device
) -> tuple[list[Any], list[Affine]]:
    """The views that `scheme` makes of a scene's `views`, in grey values again, and the affines that normalise them.

    They are made on `device` and kept in memory where they are few, else in a scratch file in $TMPDIR. All are in the
    mean grey scale of `views`.
    """
    source = Source("the image", tuple(views), tuple(affines), tuple((0, size) for size in views[0].shape))
    kept = scheme.kept_for_estimate
    prepared = Prepared(scheme, [source], kept, device, Path(tempfile.gettempdir()), seed=0, store_on="cpu")
    prepared.fill(0, None)
    mean = Affine(float(np.mean([a.offset for a in affines])), float(np.mean([a.scale for a in affines])))
    grey = [view.mul_(mean.scale).add_(mean.offset).numpy() for view in prepared.stores[0]]
    return grey, [mean] * len(grey)
