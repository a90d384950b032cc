"""One picture of several methods: their crops side by side, and their shell correlations beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from deice.report.figures import LEVELS, STYLE, Curve
from deice.report.pictures import stretched

SIDE, CURVES, DPI = 1.5, 3.6, 130  # inches of a crop and of a plot; dots per inch
PALETTE = "tab10"


@dataclass(frozen=True)
class Panel:
    """A row of the picture. crops: name → (y, x); curves: name → (cycles per pixel, correlation)."""

    title: str
    crops: dict[str, np.ndarray]
    curves: dict[str, Curve]


def save_panels(path: Path, rows: Sequence[Panel], note: str = "") -> None:
    """Write the rows as one PNG; a crop that a row lacks stays empty."""
    names = list(dict.fromkeys(name for row in rows for name in row.crops))
    drawn = list(dict.fromkeys(name for row in rows for name in row.curves))
    colours = dict(zip(drawn, matplotlib.colormaps[PALETTE](np.arange(len(drawn)) % 10), strict=True))
    with matplotlib.rc_context(STYLE | {"axes.titlesize": 7.5}):
        figure = Figure((SIDE * len(names) + CURVES, (SIDE + 0.35) * len(rows) + 0.3), layout="constrained", dpi=DPI)
        grid = figure.add_gridspec(len(rows), len(names) + 1, width_ratios=[*[SIDE] * len(names), CURVES])
        for number, row in enumerate(rows):
            for column, name in enumerate(names):
                axes = figure.add_subplot(grid[number, column], xticks=[], yticks=[])
                axes.grid(False)
                if name in row.crops:
                    axes.imshow(stretched(row.crops[name]), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                axes.set_title(name if column else f"{row.title}\n{name}")
            axes = figure.add_subplot(grid[number, -1], xlim=(0, 0.5), ylim=(-0.1, 1.02))
            for level in LEVELS:
                axes.axhline(level, color="#bdc1c6", linewidth=0.8, linestyle=(0, (4, 3)))
            for name, (frequency, values) in row.curves.items():
                axes.plot(frequency, values, color=colours[name], linewidth=1, label=name)
            axes.legend(fontsize=6, ncols=2)
            axes.set_xlabel("cycles per pixel" if number == len(rows) - 1 else "")
        figure.supxlabel(note, fontsize=7)
        figure.savefig(path, metadata={"Software": None})
