"""Tables of figures: means over images, standard errors, crossings of mean curves; as Markdown and CSV."""

import csv
import io
import math
import statistics
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from deice.metrics import crossing

THRESHOLDS = (0.5, 0.143)
Curve = tuple[Tensor, Tensor]  # frequencies in cycles per pixel, values: (shells,) each
COLUMNS = {
    "psnr": ("PSNR dB", 2),
    "ssim": ("SSIM", 3),
    "rmse": ("RMSE", 4),
    "cc": ("CC", 3),
    "edges": ("edges", 3),
    "frc": ("FRC", 3),
    "frc_0.5": ("FRC 0.5 at Å", 2),
    "frc_0.143": ("FRC 0.143 at Å", 2),
    "n": ("n", 0),
}  # key: title, digits


@dataclass
class Row:
    """One row of a table, image by image: figures to average, and curves whose mean is looked at."""

    figures: dict[str, list[float | None]] = field(default_factory=dict)
    curves: dict[str, list[Curve]] = field(default_factory=dict)

    def add(self, figures: dict[str, float | None], curves: dict[str, Curve]) -> None:
        """The figures and shell correlations of one more image."""
        for name, value in figures.items():
            self.figures.setdefault(name, []).append(value)
        for name, curve in curves.items():
            self.curves.setdefault(name, []).append(curve)

    def summary(self, pixel_size: float | None) -> dict[str, Any]:
        """Means, standard errors (null for one image), and where the mean curves cross, in Å (null: nowhere)."""
        means = {name: _mean(values) for name, values in self.figures.items()}
        crossings = {
            f"{name}_{threshold}": _crossing(curves, threshold, pixel_size)
            for name, curves in self.curves.items() for threshold in THRESHOLDS
        }
        errors = {name: _standard_error(values) for name, values in self.figures.items()}
        return {**means, **crossings, "n": len(next(iter(self.figures.values()))), "se": errors}


def markdown(table: dict[str, Any], columns: dict[str, tuple[str, int]] = COLUMNS) -> str:
    """A table as Markdown, by default with `compare`'s columns: mean ± standard error, "–" where there is none."""
    titles = " | ".join(title for title, _ in columns.values())
    lines = [f"| method | {titles} |", "|:---|" + "---:|" * len(columns)]
    for name, row in table["methods"].items():
        cells = [_cell(row.get(key), row["se"].get(key), digits) for key, (_, digits) in columns.items()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def as_csv(figures: dict[str, Any]) -> str:
    """`measure`'s figures as CSV: one line per image, without the curves."""
    flat = [
        {"name": entry["name"], "pixel_size": entry["pixel_size"], **entry.get("truth", {}), **entry.get("halves", {})}
        for entry in figures["images"]
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for line in flat for key in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _standard_error(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    whole = len(known) == len(values) and len(known) > 1
    return statistics.stdev(known) / math.sqrt(len(known)) if whole else None


def _crossing(curves: list[Curve], threshold: float, pixel_size: float | None) -> float | None:
    """Where the mean of the curves crosses, on the frequencies of the first; images may differ in size."""
    if pixel_size is None:
        return None
    frequency = curves[0][0]
    mean = torch.stack([_resampled(curve, frequency) for curve in curves]).mean(0)
    return crossing(frequency, mean, threshold, pixel_size)


def _resampled(curve: Curve, frequency: Tensor) -> Tensor:
    """Linear interpolation of a curve (shells,) at `frequency`, held constant beyond its ends."""
    at, values = curve
    if len(at) == 1:
        return values.expand(len(frequency))
    upper = torch.searchsorted(at, frequency).clamp(1, len(at) - 1)
    share = ((frequency - at[upper - 1]) / (at[upper] - at[upper - 1])).clamp(0, 1)
    return torch.lerp(values[upper - 1], values[upper], share)


def _cell(value: float | None, error: float | None, digits: int) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")
