"""How trainings went: the validation of each over time, a plot a method."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from deice.report.figures import STYLE

ACROSS, SIDE, DPI = 4, 2.2, 110  # plots in a row, inches of one, dots per inch


def save_trainings(path: Path, trainings: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]) -> None:
    """Write one PNG. trainings: name → (seconds, validation) of each; a ring marks the best of each."""
    rows = -(-len(trainings) // ACROSS)
    with matplotlib.rc_context(STYLE | {"font.size": 7.5}):
        figure = Figure((1.4 * SIDE * ACROSS, SIDE * rows), layout="constrained", dpi=DPI)
        for number, (name, several) in enumerate(trainings.items(), 1):
            axes = figure.add_subplot(rows, ACROSS, number, title=name, xlabel="s")
            for seconds, values in several:
                (line,) = axes.plot(seconds, values, linewidth=1)
                best = int(np.argmin(values))
                axes.plot(seconds[best], values[best], "o", color=line.get_color(), fillstyle="none", markersize=6)
        figure.savefig(path, metadata={"Software": None})
