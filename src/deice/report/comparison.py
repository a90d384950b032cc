"""Scenes before and after: pictures, spectra, shell correlations and figures, one scene in memory at a time."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from deice import metrics
from deice.errors import FileFault, UserError
from deice.io import read
from deice.report.evidence import Before, pixels
from deice.report.figures import Curve
from deice.report.pictures import binned, central_crop, central_planes, inline

log = logging.getLogger(__name__)

MOST_PICTURES = 6  # a volume gives three
MOST_SCENES = 4
MOST_PIXELS = 2**23  # of one image in a curve: 2896² or 203³, from its middle

Where = tuple[slice | int, ...]


@dataclass(frozen=True)
class Picture:
    """One plane of one scene: layers (name → address of a PNG) of its middle at full size, and of all of it, binned."""

    title: str
    size: tuple[int, int]  # width, height of the middle
    layers: dict[str, str]
    overviews: dict[str, str]

    @property
    def style(self) -> str:
        """CSS: its shape; no pixel larger than 4 of the screen's, no picture higher than a screen."""
        width, height = self.size
        return f"aspect-ratio: {width} / {height}; max-width: min({4 * width}px, {42 * width / height:.1f}rem)"


@dataclass
class Comparison:
    """What the page shows of the scenes. Curves and figures: one entry a scene, by name."""

    pictures: list[Picture] = field(default_factory=list)
    spectra: dict[str, list[Curve]] = field(default_factory=lambda: defaultdict(list))
    against_truth: dict[str, list[Curve]] = field(default_factory=lambda: defaultdict(list))
    between_halves: dict[str, list[Curve]] = field(default_factory=lambda: defaultdict(list))
    figures: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    pixel_sizes: list[float | None] = field(default_factory=list)
    labels: tuple[str, ...] = ()
    shown: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def pixel_size(self) -> float | None:
        """Å per pixel where all scenes have the same; None where they differ or do not say."""
        return self.pixel_sizes[0] if len(set(self.pixel_sizes)) == 1 else None


def compare(scenes: Sequence[Before]) -> Comparison:
    """Look at the first scenes; one that cannot be read is left out by name, with the reason."""
    comparison = Comparison()
    for scene in scenes:
        if len(comparison.shown) == MOST_SCENES or len(comparison.pictures) >= MOST_PICTURES:
            break
        try:
            _add(comparison, scene)
        except UserError as error:
            comparison.left_out.append(f"{scene.name} is left out: {error}")
    return comparison


def _add(comparison: Comparison, scene: Before) -> None:
    sources = _sources(scene)
    paths = [path for several in sources.values() for path in several]
    images = [read(path, "zyx") for path in paths]
    space = images[0].space
    for path, image in zip(paths, images):
        if image.space != space:
            raise FileFault(path, f"{image.space} pixels where {paths[0].name} has {space}")
    pictures = [_picture(scene, sources, name, plane) for name, plane in central_planes(space).items()]
    _add_curves(comparison, {name: partial(pixels, several, _middle(space)) for name, several in sources.items()})
    comparison.pictures += pictures
    comparison.shown.append(scene.name)
    comparison.pixel_sizes.append(images[0].pixel_size)
    if scene.denoised and not comparison.labels:
        comparison.labels = read(scene.denoised, "zyx").geometry.labels


def _sources(scene: Before) -> dict[str, Sequence[Path]]:
    """The files of each version of the scene; a full average that is missing is the mean of the halves."""
    sources: dict[str, Sequence[Path]] = {
        "noisy": [scene.noisy] if scene.noisy else scene.halves,
        "denoised": [scene.denoised] if scene.denoised else scene.denoised_halves,
        "truth": [scene.truth] if scene.truth else (),
        **dict(zip(("even", "odd"), ([path] for path in scene.halves))),
        **dict(zip(("denoised even", "denoised odd"), ([path] for path in scene.denoised_halves))),
    }
    return {name: several for name, several in sources.items() if several}


def _picture(scene: Before, sources: dict[str, Sequence[Path]], name: str, plane: Where) -> Picture:
    layers = {layer: pixels(sources[layer], plane) for layer in ("noisy", "denoised", "truth") if layer in sources}
    if "noisy" in layers and "denoised" in layers:
        layers["removed"] = layers["noisy"] - layers["denoised"]
    crops = {layer: central_crop(picture) for layer, picture in layers.items()}
    height, width = next(iter(crops.values())).shape
    overviews = {layer: inline(binned(picture)) for layer, picture in layers.items() if layer != "truth"}
    title = f"{scene.name} · {name}" if name else scene.name
    return Picture(title, (width, height), {layer: inline(crop) for layer, crop in crops.items()}, overviews)


def _middle(space: Sequence[int]) -> Where:
    side = round(MOST_PIXELS ** (1 / len(space)))
    starts = [max(0, (length - side) // 2) for length in space]
    return tuple(slice(start, start + side) for start in starts)


def _add_curves(comparison: Comparison, load: dict[str, Callable[[], np.ndarray]]) -> None:
    """Spectra of all, correlations with the truth, correlations between halves: each where its images exist."""
    image = {name: torch.from_numpy(load[name]()) for name in ("noisy", "denoised", "truth") if name in load}
    if {"noisy", "denoised"} <= image.keys():
        image["removed"] = image["noisy"] - image["denoised"]
    level = float(next(iter(image.values())).double().var()) or 1.0  # grey scales differ from image to image
    for name, one in image.items():
        frequencies, power = _curve(metrics.radial_power_spectrum(one))
        comparison.spectra[name].append((frequencies, power / level))
    for name in image.keys() & {"noisy", "denoised"} if "truth" in image else ():
        comparison.against_truth[name].append(_curve(metrics.fourier_shell_correlation(image[name], image["truth"])))
    image.clear()
    pairs = {"halves": ("even", "odd"), "denoised halves": ("denoised even", "denoised odd")}
    halves = {
        name: (torch.from_numpy(load[even]()), torch.from_numpy(load[odd]()))
        for name, (even, odd) in pairs.items()
        if even in load and odd in load
    }
    for name, (even, odd) in halves.items():
        comparison.between_halves[name].append(_curve(metrics.fourier_shell_correlation(even, odd)))
        comparison.figures[name].append(metrics.correlation(even, odd))
    if len(halves) == 2:
        removed = metrics.removed_noise_correlation(halves["halves"], halves["denoised halves"])
        comparison.figures["removed noise"].append(removed)


def _curve(shells: tuple[torch.Tensor, ...]) -> Curve:
    return shells[0].numpy(), shells[1].numpy()
