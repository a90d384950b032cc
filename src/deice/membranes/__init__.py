"""Membranes in tomograms: a probability and labels, by a classical detector or a trained net, and their scores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deice.checkpoint import Model
from deice.conditions import Conditions
from deice.devices import choose_device
from deice.errors import RecipeFault, UserError
from deice.estimators import load_estimator
from deice.image import Image
from deice.inference import checked_views, denoise_into
from deice.io import read
from deice.membranes.components import hysteresis
from deice.membranes.overlaps import scores
from deice.membranes.ridge import Ridge, add_scores
from deice.membranes.thresholds import choose_threshold

__all__ = ["Labelling", "Ridge", "Segmentation", "choose_detector", "choose_threshold", "probability_into", "scores",
           "segment"]  # fmt: skip

METHODS = {"ridge": Ridge}
SMALLEST = 2e6  # Å³: a patch of membrane of 200 × 200 × 50 Å


@dataclass(frozen=True)
class Labelling:
    """How a probability becomes labels: voxels of `threshold` or more, in patches of `smallest` Å³ or more.

    A patch is what hangs together; one of its voxels must have `peak` or more (None: the threshold, so any will do).
    """

    threshold: float = 0.5
    peak: float | None = None
    smallest: float = SMALLEST

    def __post_init__(self):
        if not 0 < self.threshold < 1 or not self.threshold <= self.strong <= 1 or not self.smallest >= 0:
            raise RecipeFault(f"threshold {self.threshold:g}, peak {self.strong:g}, smallest {self.smallest:g} Å³; "
                              "expected 0 < threshold ≤ peak ≤ 1 and a volume of 0 or more")

    @property
    def strong(self) -> float:
        """The probability that one voxel of a component must have."""
        return self.threshold if self.peak is None else self.peak

    def into(self, labels: np.ndarray, probability: Any, pixel_size: float) -> int:
        """Write 1 for membrane and 0 into `labels` (z, y, x); returns how many components there are."""
        smallest = int(np.ceil(self.smallest / pixel_size**3))
        return hysteresis(probability, labels, self.threshold, self.strong, smallest)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """labels (z, y, x) int8: 1 = membrane; probability (z, y, x) float32, 0 to 1; number of components."""

    labels: np.ndarray
    probability: np.ndarray
    components: int


def segment(
    volume: Any, method: str | Path | Ridge | Model = "ridge", *, labelling: Labelling = Labelling(),
    pixel_size: float | None = None, device: str = "auto", max_memory: int | None = None, tile: int | None = None,
) -> Segmentation:
    """Membranes of one tomogram: an Image (v, z, y, x), a path, or an array (z, y, x) with its `pixel_size` in Å.

    method: "ridge", a Ridge, or what `deice train --scheme segmentation` made: a run's folder, its file, or its Model.
    Raises UserError where the volume or the method is at fault.
    """
    image = read(volume, "zyx") if isinstance(volume, str | Path) else volume
    image = image if isinstance(image, Image) else Image(np.asarray(image)[None])
    if pixel_size is not None:
        image = Image(image.views, image.geometry.with_pixel_size(pixel_size))
    probability, labels = np.zeros(image.space, np.float32), np.zeros(image.space, np.int8)
    conditions = Conditions(choose_device(device), "auto", max_memory, tile)
    probability_into(probability, image, choose_detector(method), conditions)
    components = labelling.into(labels, probability, known_pixel_size(image))
    return Segmentation(labels, probability, components)


def choose_detector(method: str | Path | Ridge | Model) -> Ridge | Model:
    """A detector from its name, or a segmentation model from its file; RecipeFault for a model that denoises."""
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]()
    model = load_estimator(method) if isinstance(method, str | Path) else method
    if isinstance(model, Model) and not model.segments:
        given = method if isinstance(method, str | Path) else "the model"
        raise RecipeFault(f"{given}: a denoiser; expected ridge, or a model of deice train --scheme segmentation")
    return model


def probability_into(canvas: np.ndarray, image: Image, detector: Ridge | Model, conditions: Conditions) -> None:
    """Add to `canvas` (z, y, x), which must hold zeros, how likely each voxel of `image` (v, z, y, x) is membrane.

    The ridge's figure is a score from 0 to 1 and not calibrated; a model's is what its training makes it.
    Raises UserError for a picture, for nothing that varies, and for the ridge where the voxel size is not known.
    """
    if len(image.space) != 3:
        raise UserError(f"an image of {len(image.space)} axes; expected a volume: membranes are sought in tomograms")
    if isinstance(detector, Model):
        denoise_into(canvas, image, detector, conditions)
    else:
        views, found = checked_views(image)
        add_scores(canvas, views, found, detector, known_pixel_size(image), conditions)
    for section in canvas:  # blending adds shares of tiles, which sum to 1 but for rounding
        np.clip(section, 0, 1, out=section)


def known_pixel_size(image: Image) -> float:
    """Å per voxel; UserError where it is not known, since membranes have a size."""
    if image.pixel_size is None:
        raise UserError("the header gives no voxel size; expected Å per voxel, since membranes have a thickness: "
                        "say it by --pixel-size")
    return image.pixel_size
