"""A contact sheet: windows as training sees them, normalised, input beside target, with their histograms."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deice.io.packed import describe
from deice.opening import open_for_training
from deice.recipe import Recipe, completed
from deice.report.figures import STYLE
from deice.report.pictures import central_planes, stretched
from deice.schemes import Supervised
from deice.settings import Data
from deice.sources import Source, fit_window
from deice.stream import RandomOrder

WINDOWS = {2: 6, 3: 4}  # on a sheet; a window of a volume takes three planes of each view
SIDE, HISTOGRAM, DPI = 1.55, 3.1, 110  # inches of a plane and of a histogram; dots per inch
BINS = 48
FEW_LEVELS = 3 * BINS  # an average of counts has few grey values: each is a bin then, or the bins would beat with them
SHOWN = (0.1, 99.9)  # percentiles of all values between which the histograms run
COLOURS = ("#0b6e99", "#c8553d")


@dataclass(frozen=True)
class Patch:
    """One window. views: "input", "target" or "window" → (*space), normalised; title: whence, and how normalised."""

    title: str
    views: dict[str, np.ndarray]


@dataclass(frozen=True)
class Sheet:
    """What a contact sheet shows: the windows, and in one line their size, pixel size and normaliser."""

    patches: list[Patch]
    note: str


def sheet_of(inputs: Sequence[Any], data: Data) -> Sheet:
    """Windows cut by chance from `inputs` (files, folders, a folder of packed pairs), as training cuts them.

    The window's size is `data.window` or the usual one, cut down to the smallest image as training does. Of movie or
    tomogram halves one is the input and the other the target (Noise2Noise takes either way round); of frames, one and
    the mean of the others; with `data.target` the files there; of single images there is only the window.
    Raises UserError as opening for training does.
    """
    opened = open_for_training(inputs, data.target, Supervised(), data)  # which takes any number of views
    sources = [*opened.training, *opened.validation]
    recipe = completed(Recipe(data=data), opened.axes)
    window = fit_window(sources, recipe.data.window, recipe.network.stride)
    places = RandomOrder(sources, window, WINDOWS[opened.axes], recipe.training.seed).batch(0)
    patches = [_patch(sources[place.source], place.origin, window) for place in places]
    pixel_size, normaliser = opened.pixel_size, f"normaliser {data.normaliser}"
    if sources[0].packed:
        packed = describe(Path(inputs[0]))
        pixel_size = packed.get("pixel_size")
        how = packed.get("packing", {}).get("normalize", "unknown")
        normaliser = f"normaliser {how}, when packed"
    scale = "unknown pixel size"
    if pixel_size is not None:
        scale = f"{window[-1] * pixel_size:.4g} Å wide, {pixel_size:.4g} Å per pixel"
    return Sheet(patches, f"windows of {'×'.join(map(str, window))} pixels, {scale} · {normaliser}")


def _patch(source: Source, origin: tuple[int, ...], window: tuple[int, ...]) -> Patch:
    views = source.read(origin, window)
    place = origin[-len(window):]
    sample = f", sample {origin[0]}" if source.packed else ""
    title = f"{source.name}{sample}, from {' '.join(f'{axis} {at}' for axis, at in zip('zyx'[-len(place):], place))}"
    if not source.packed:
        scales = [f"(grey {-affine.offset:+.4g}) / {affine.scale:.4g}" for affine in dict.fromkeys(source.affines)]
        title += "\n" + " and ".join(scales[:2])
    if len(views) == 1:
        return Patch(title, {"window": views[0]})
    others = "target" if len(views) == 2 else f"target: mean of {len(views) - 1} views"
    target = views[1:].mean(0)
    return Patch(title + _agreement(views[0], target), {"input": views[0], others: target})


def _agreement(one: np.ndarray, other: np.ndarray) -> str:
    """The correlation of input and target over the window, and its spread if there were white noise alone."""
    if min(one.std(), other.std()) == 0:
        return ""
    correlation = np.corrcoef(one.ravel(), other.ravel())[0, 1]
    return f"\ninput and target correlate at {correlation:.3f} (chance: ± {one.size ** -0.5:.3f})"


def contact_sheet(sheet: Sheet) -> bytes:
    """The sheet as a PNG: a row for each window, its planes left, the histogram of its values right."""
    values = np.concatenate([view.ravel() for patch in sheet.patches for view in patch.views.values()])
    shown = np.percentile(values, SHOWN)
    columns = max(len(_planes(patch)) for patch in sheet.patches)
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE | {"axes.titlesize": 7, "font.size": 7}):
        size = (SIDE * columns + HISTOGRAM, (SIDE + 0.5) * len(sheet.patches) + 0.5)
        figure = Figure(size, layout="constrained", dpi=DPI)
        grid = figure.add_gridspec(len(sheet.patches), columns + 1, width_ratios=[*[SIDE] * columns, HISTOGRAM])
        for row, patch in enumerate(sheet.patches):
            for column, (name, plane) in enumerate(_planes(patch).items()):
                axes = figure.add_subplot(grid[row, column], xticks=[], yticks=[], title=name)
                axes.imshow(stretched(plane), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes = figure.add_subplot(grid[row, -1], yticks=[], xlim=shown, ylim=(0, 1.1))
            _histogram(axes, patch)
        axes.set_xlabel("normalised grey value")
        figure.suptitle(sheet.note, fontsize=8)
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _planes(patch: Patch) -> dict[str, np.ndarray]:
    """The planes (y, x) that show the patch, by the words that stand over them."""
    return {
        f"{name}, {plane}" if plane else name: view[where]
        for name, view in patch.views.items()
        for plane, where in central_planes(view.shape).items()
    }


def _histogram(axes: Axes, patch: Patch) -> None:
    """The histogram of each view, its peak at 1, with mean and standard deviation; over it what the window is."""
    for (name, view), colour in zip(patch.views.items(), COLOURS):
        counts, edges = np.histogram(view, _bins(view, axes.get_xlim()))
        density = counts / np.diff(edges)
        axes.stairs(density / (density.max() or 1), edges, color=colour, alpha=0.8,
                    label=f"{name.split(':')[0]}: {view.mean():.3g} ± {view.std():.3g}")
    axes.legend(fontsize=6, loc="upper right", handlelength=1)
    axes.set_title(patch.title)


def _bins(view: np.ndarray, shown: tuple[float, float]) -> np.ndarray:
    """The edges of the bins: equal ones over what is `shown`, or around each grey value where there are few."""
    levels = np.unique(view).astype(np.float64)
    if not 1 < len(levels) <= FEW_LEVELS:
        return np.linspace(*shown, BINS + 1)
    between = (levels[1:] + levels[:-1]) / 2
    return np.array([2 * levels[0] - between[0], *between, 2 * levels[-1] - between[-1]])
