"""Tables of the bench: rows from the judge's entries; Markdown, CSV, and plain values for JSON."""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from deice.tables import Row

RINGS = 64  # from zero to Nyquist, fewer where an image has fewer shells
Entries = Sequence[dict[str, Any]]
COLUMNS = {
    "psnr": ("PSNR dB", 2),
    "ssim": ("SSIM", 3),
    "cc": ("CC", 3),
    "frc": ("FRC area", 3),
    "frc_0.5": ("FRC 0.5 at Å", 1),
    "frc_0.143": ("FRC 0.143 at Å", 1),
    "frc_gap": ("worst ring − linear", 3),
    "frc_gap_wiener": ("− Wiener", 3),
    "even_odd": ("even/odd CC", 3),
    "frc_halves": ("FRC area between halves", 3),
    "frc_halves_0.143": ("between halves 0.143 at Å", 1),
    "removed_noise": ("removed noise CC", 3),
    "removed_noise_worst": ("its worst ring", 3),
    "ap": ("picking AP", 3),
    "seconds": ("s", 2),
    "gigabytes": ("GB", 2),
    "n": ("n", 0),
}  # key: title, digits


def table_of(entries: Mapping[str, Entries], training: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """{"methods": {name: {figure: mean, …, "n", "se": {figure: standard error over images}}}}.

    frc_gap: of the rings, the lowest difference to the noisy pictures' FRC, both means over images; frc_gap_at: its
    frequency in cycles per pixel. A radial filter moves no FRC, so the noisy one is that of every linear radial filter.
    frc_gap_wiener: the same against the fitted Wiener filter, which passes that limit where it can only guess: its
    gains follow the sign of each ring's chance correlation with the truth.
    removed_noise_worst: the ring where what was removed correlates most, sign kept.
    training: what is to be said of a method's training, under its name.
    """
    methods = {}
    for name, several in entries.items():
        row = _summary(several)
        for figure, limit in (("frc_gap", "noisy"), ("frc_gap_wiener", "wiener")):
            if limit in entries and "frc" in several[0]["curves"]:
                gaps = [_rings(one, "frc") - _rings(other, "frc")
                        for one, other in zip(several, entries[limit], strict=True)]
                _worst(row, figure, gaps, lowest=True)
        if all("removed" in one["curves"] for one in several):
            _worst(row, "removed_noise_worst", [_rings(one, "removed") for one in several], lowest=False)
        methods[name] = row | training.get(name, {})
    return {"methods": methods}


def columns_of(table: dict[str, Any]) -> dict[str, tuple[str, int]]:
    """The columns that hold something in this table."""
    rows = table["methods"].values()
    return {key: title for key, title in COLUMNS.items() if any(row.get(key) is not None for row in rows)}


def as_csv(levels: dict[str, dict[str, Any]]) -> str:
    """One line per level and method: every figure and its standard error."""
    lines = []
    for level, table in levels.items():
        for name, row in table["methods"].items():
            figures = {key: value for key, value in row.items() if key != "se"}
            errors = {f"{key}_se": value for key, value in row["se"].items()}
            lines.append({"level": level, "method": name, **figures, **errors})
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for line in lines for key in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _summary(several: Entries) -> dict[str, Any]:
    """Means, standard errors and crossings over the images; memory is the highest of them."""
    row = Row()
    for one in several:
        frequency = torch.tensor(one["curves"].get("frequency", []), dtype=torch.float64)
        curves = {name: (frequency, torch.tensor(one["curves"][name], dtype=torch.float64))
                  for name in ("frc", "frc_halves") if name in one["curves"]}
        row.add(one["figures"], curves)
    sizes = {one["pixel_size"] for one in several}
    summary = row.summary(sizes.pop() if len(sizes) == 1 else None)
    summary["gigabytes"] = max(one["figures"]["gigabytes"] for one in several)
    summary["se"].pop("gigabytes")
    return summary


def _worst(row: dict[str, Any], name: str, curves: list[Tensor], lowest: bool) -> None:
    """The worst ring of the mean of `curves`, its frequency, and the standard error over images there."""
    count = min(map(len, curves))
    several = torch.stack([_fewer(curve, count) for curve in curves])
    mean = several.mean(0)
    ring = int(mean.argmin() if lowest else mean.abs().argmax())
    row[name] = float(mean[ring])
    row[f"{name}_at"] = (ring + 0.5) * 0.5 / count
    values = several[:, ring].tolist()
    row["se"][name] = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def _rings(entry: dict[str, Any], name: str) -> Tensor:
    """A shell correlation gathered into at most RINGS rings of equal width, weighted by the coefficients: (rings,)."""
    values, weights = (torch.tensor(entry["curves"][key], dtype=torch.float64) for key in (name, "n"))
    count = min(RINGS, len(values))
    ring = torch.arange(len(values)) * count // len(values)
    total = torch.zeros(count, dtype=torch.float64).index_add_(0, ring, values * weights)
    return total / torch.zeros(count, dtype=torch.float64).index_add_(0, ring, weights)


def _fewer(curve: Tensor, count: int) -> Tensor:
    """A curve of rings on `count` of them, where images differ in size."""
    if len(curve) == count:
        return curve
    at = (torch.arange(count) * len(curve)) // count
    return curve[at]
