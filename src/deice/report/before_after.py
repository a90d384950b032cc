"""A picture of what denoising did: the central planes before and after, side by side."""

from pathlib import Path
from typing import Any

import numpy as np

from deice.ops.normalise import replace_not_finite
from deice.report.pictures import central_crop, central_planes, png, stretched

GAP = 8  # pixels of white between planes


def write_before_after(path: Path, before: Any, after: Any) -> None:
    """Write a PNG to `path`: each central plane of `before` left and of `after` right, both (*space) and sliceable."""
    rows = []
    for plane in central_planes(before.shape).values():
        pair = [stretched(central_crop(replace_not_finite(image[plane], 0.0))) for image in (before, after)]
        rows.append(np.hstack([pair[0], np.full((len(pair[0]), GAP), 255, np.uint8), pair[1]]))
        rows.append(np.full((GAP, rows[-1].shape[1]), 255, np.uint8))
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1])), constant_values=255) for row in rows[:-1]]
    path.write_bytes(png(np.vstack(padded)))
