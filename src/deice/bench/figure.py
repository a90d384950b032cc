"""The suite's and the comparison's figure: crops of one case by every method, and the mean shell correlations."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deice.errors import UserError
from deice.io import read

log = logging.getLogger(__name__)
CROP = 256  # pixels


def panel(title: str, crops: dict[str, Path], entries: Mapping[str, Sequence[dict[str, Any]]]) -> Any:
    """A row of the figure. crops: name → the file of one case; entries: the judge's, by method."""
    from deice.report.panels import Panel

    curves = {}
    for name, several in entries.items():
        for curve in ("frc", "frc_halves"):
            if curve in several[0]["curves"]:
                curves[name] = _mean(several, curve)
                break
    return Panel(title, {name: middle(path) for name, path in crops.items()}, curves)


def save(path: Path, panels: Sequence[Any], note: str) -> None:
    """Write the figure; UserError where what draws it is missing."""
    try:
        from deice.report.panels import save_panels
    except ImportError as error:
        raise UserError(f"{path}: {error}; expected matplotlib and jinja2 for the figure: install them, or leave the "
                        "figure out (figure=False)") from error
    save_panels(path, panels, note)


def middle(path: Path) -> np.ndarray:
    """The middle of a picture, or of a volume's middle plane: at most CROP pixels a side, float32."""
    views = read(path, "zyx").views[0]
    plane = views[len(views) // 2] if views.ndim == 3 else views
    starts = [max(0, (size - CROP) // 2) for size in plane.shape]
    return np.asarray(plane[tuple(slice(start, start + CROP) for start in starts)], dtype=np.float32)


def _mean(several: Sequence[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the cases' curves, on the frequencies of the first."""
    at = np.array(several[0]["curves"]["frequency"])
    each = [np.interp(at, one["curves"]["frequency"], one["curves"][name]) for one in several]
    return at, np.mean(each, axis=0)
