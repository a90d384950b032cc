"""Curves as SVG: small, sharp at any size, with letters that stay letters. Only this package imports matplotlib."""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deice import metrics

Curve = tuple[np.ndarray, np.ndarray]  # frequencies in cycles per pixel, values

COLOURS = {"noisy": "#b4b9c0", "denoised": "#0b6e99", "truth": "#2e2e2e", "removed": "#c8553d",
           "halves": "#b4b9c0", "denoised halves": "#0b6e99", "training": "#0b6e99", "validation": "#c8553d"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "deice", "font.family": "sans-serif", "font.size": 9.5,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#9aa0a6", "axes.linewidth": 0.8,
    "axes.labelcolor": "#3c4043", "xtick.color": "#5f6368", "ytick.color": "#5f6368", "text.color": "#3c4043",
    "axes.grid": True, "grid.color": "#eceef0", "grid.linewidth": 0.8, "legend.frameon": False,
    "axes.titlesize": 10, "axes.titlelocation": "left", "axes.axisbelow": True,
}
MOST_POINTS = 600  # of one curve: more cannot be seen
SPECTRUM_DEPTH = 1e-6  # of the highest power
LEVELS = (0.5, 0.143)  # of a shell correlation
RESOLUTIONS = (100, 50, 20, 10, 7, 5, 4, 3, 2.5, 2, 1.5, 1.2, 1)  # Å, marked on the upper edge


def loss_curves(rows: Sequence[dict[str, Any]]) -> str:
    """Training loss (faint as it came, strong as a running mean), validation loss, the best one marked."""
    steps, loss = _column(rows, "loss")
    judged, validation = _column(rows, "validation")
    with matplotlib.rc_context(STYLE):
        figure = Figure((6.4, 3.0), layout="constrained")
        axes = figure.add_subplot(xlabel="step", ylabel="loss")
        smooth = _running_mean(loss, max(1, len(loss) // 40))
        if len(loss):
            axes.plot(*_thinned(steps, loss), color=COLOURS["training"], alpha=0.25, linewidth=0.8)
            axes.plot(*_thinned(steps, smooth), color=COLOURS["training"], label="training, smoothed")
        if len(validation):
            axes.plot(judged, validation, ".-", color=COLOURS["validation"], label="validation", markersize=4)
            best = int(np.argmin(validation))
            axes.plot(judged[best], validation[best], "o", color=COLOURS["validation"], fillstyle="none",
                      markersize=10, label=f"best: {validation[best]:.4g} at step {judged[best]:.0f}")
        _limit_to_what_matters(axes, smooth, validation)
        if len(loss) or len(validation):
            axes.legend()
        return _svg(figure)


def rates(rows: Sequence[dict[str, Any]]) -> str:
    """Learning rate and windows per second over the steps."""
    with matplotlib.rc_context(STYLE):
        figure = Figure((6.4, 2.0), layout="constrained")
        for place, key in enumerate(("lr", "windows_per_second"), 1):
            title = {"lr": "learning rate", "windows_per_second": "windows per second"}[key]
            axes = figure.add_subplot(1, 2, place, title=title, xlabel="step")
            axes.plot(*_thinned(*_column(rows, key)), color="#5f6368")
            axes.set_ylim(bottom=0)
        return _svg(figure)


def power_spectra(curves: dict[str, list[Curve]], pixel_size: float | None) -> str:
    """Radial power spectra, a strong line for the mean over the images, faint ones for each."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _over_frequency("power per shell, relative", pixel_size)
        axes.set_yscale("log")
        for name, several in curves.items():
            _mean_and_each(axes, name, several, name)
        # an exactly known truth falls to the rounding of its numbers: the plot ends where no eye needs it
        top = max(values.max() for several in curves.values() for _, values in several)
        axes.set_ylim(max(axes.get_ylim()[0], SPECTRUM_DEPTH * top), 3 * top)
        axes.legend()
        return _svg(figure)


def shell_correlations(curves: dict[str, list[Curve]], pixel_size: float | None) -> str:
    """FRC or FSC curves with the 0.5 and 0.143 levels, the mean over the images strong, each faint."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _over_frequency("correlation per shell", pixel_size)
        for level in LEVELS:
            axes.axhline(level, color="#bdc1c6", linewidth=0.8, linestyle=(0, (4, 3)))
            axes.annotate(f"{level:g}", (0.5, level), (-2, 2), textcoords="offset points", ha="right", fontsize=8)
        for name, several in curves.items():
            _mean_and_each(axes, name, several, name + _crossings(several, pixel_size))
        axes.set_ylim(-0.1, 1.02)
        axes.legend()
        return _svg(figure)


def _crossings(curves: Sequence[Curve], pixel_size: float | None) -> str:
    """": 0.5 at 12.1 Å, …" for the mean curve; "" where it crosses no level or the pixel size is unknown."""
    grid, mean = _mean(curves)
    said = [] if pixel_size is None else [
        f"{level:g} at {crossed:.1f} Å"
        for level in LEVELS
        if (crossed := metrics.crossing(torch.from_numpy(grid), torch.from_numpy(mean), level, pixel_size)) is not None
    ]
    return ": " + ", ".join(said) if said else ""


def _mean(curves: Sequence[Curve]) -> Curve:
    """The mean of curves of different images, on the frequencies of the first."""
    grid = curves[0][0]
    return grid, np.mean([np.interp(grid, *curve) for curve in curves], axis=0)


def _over_frequency(label: str, pixel_size: float | None) -> tuple[Figure, Axes]:
    """An empty plot over cycles per pixel, with the same places in Å on the upper edge where they are known."""
    figure = Figure((6.4, 3.2), layout="constrained")
    axes = figure.add_subplot(xlabel="spatial frequency (cycles per pixel)", ylabel=label, xlim=(0, 0.5))
    if pixel_size:
        upper = axes.secondary_xaxis("top")
        marked = [r for r in RESOLUTIONS if 0.03 <= pixel_size / r <= 0.5]
        kept = [r for i, r in enumerate(marked) if i == 0 or pixel_size / r - pixel_size / marked[i - 1] > 0.03]
        upper.set_xticks([pixel_size / r for r in kept], [f"{r:g} Å" for r in kept])
    return figure, axes


def _mean_and_each(axes: Axes, name: str, curves: Sequence[Curve], label: str) -> None:
    if len(curves) > 1:
        for curve in curves:
            axes.plot(*_thinned(*curve), color=COLOURS[name], alpha=0.22, linewidth=0.7)
    width = 3 if name in ("noisy", "halves") else 1.6  # drawn first, still seen where the next curve covers it
    axes.plot(*_thinned(*_mean(curves)), color=COLOURS[name], linewidth=width, label=label)


def _column(rows: Sequence[dict[str, Any]], key: str) -> Curve:
    points = [(row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float)]
    return np.array([step for step, _ in points], float), np.array([value for _, value in points], float)


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The mean over the last `width` values, over fewer at the start."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    last = np.arange(1, len(values) + 1)
    first = np.maximum(0, last - width)
    return (total[last] - total[first]) / (last - first)


def _limit_to_what_matters(axes: Axes, smooth: np.ndarray, validation: np.ndarray) -> None:
    """The first steps of a run are high above the rest and would flatten all that follows: they may leave the plot."""
    values = np.concatenate([smooth[-(-len(smooth) // 20) :], validation])
    values = values[np.isfinite(values)]
    if len(values) and values.max() > values.min():
        margin = 0.15 * (values.max() - values.min())
        axes.set_ylim(values.min() - margin, values.max() + margin)


def _thinned(x: np.ndarray, y: np.ndarray) -> Curve:
    step = -(-len(x) // MOST_POINTS) or 1
    return x[::step], y[::step]


def _svg(figure: Figure) -> str:
    """The figure as an <svg> element to stand inside a page: no XML head, no ids that two figures would share."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return re.sub(r'<g id="[^"]*"', "<g", text)
