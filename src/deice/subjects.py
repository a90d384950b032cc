"""What is measured: each image with its truth, its noisy input and its halves, read when needed."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from deice.errors import FileFault, PairFault, RecipeFault, UserError
from deice.image import Image
from deice.io import is_zarr, read
from deice.scenes import expand, group, match, stem


class Picture(NamedTuple):
    """One picture or volume in memory: pixels (*space) float64, pixel size in Å or None."""

    pixels: Tensor
    pixel_size: float | None


@dataclass(frozen=True)
class Subject:
    """One image and what is known of it; each an array (*space), an Image or a path, not read yet."""

    name: str
    image: Any
    truth: Any = None
    halves: tuple[Any, Any] | None = None
    denoised_halves: tuple[Any, Any] | None = None
    noisy: Any = None


def subjects(images: Any, truth: Any, halves: Any, denoised_halves: Any, noisy: Any) -> list[Subject]:
    """Each image with its partners: lists in the same order, or folders where they bear the same names.

    Raises PairFault where a partner is missing or the lists differ in length.
    """
    items = listed(images)
    if denoised_halves is not None and halves is None:
        raise RecipeFault("denoised halves without the halves they come from; give --halves too")
    truths, noises = _partners(items, truth, "truth"), _partners(items, noisy, "noisy")
    pairs, denoised = (_half_partners(items, given) for given in (halves, denoised_halves))
    names = [stem(Path(item)) if _is_path(item) else f"image {n}" for n, item in enumerate(items, 1)]
    return [Subject(*parts) for parts in zip(names, items, truths, pairs, denoised, noises, strict=True)]


def load(item: Any, axes: str | None = None) -> Picture:
    """An array or tensor (*space), an Image of one view, or a path → its pixels and pixel size.

    A leading axis of one is dropped. Raises FileFault or UserError for several views, for other than two or three axes
    and for pixels that are not finite.
    """
    image = read(item, axes) if _is_path(item) else item
    pixel_size = image.pixel_size if isinstance(image, Image) else None
    array = image.views if isinstance(image, Image) else image
    if isinstance(image, Image) and array.shape[0] != 1:
        raise _fault(item, f"{array.shape[0]} views; expected one picture or volume: run deice split on a movie")
    values = array.detach().cpu().numpy() if isinstance(array, Tensor) else array
    pixels = torch.from_numpy(np.array(values, dtype=np.float64))
    if pixels.ndim > 2 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if pixels.ndim not in (2, 3):
        raise _fault(item, f"{pixels.ndim} axes; expected two (y, x) or three (z, y, x)")
    if not pixels.sum().isfinite():
        bad = pixels.numel() - int(pixels.isfinite().sum())
        raise _fault(item, f"{bad} of {pixels.numel()} pixels are not finite; expected numbers: mend them first")
    return Picture(pixels, pixel_size)


def listed(images: Any) -> list[Any]:
    """One image, several, or files, globs and folders → a list of images or paths."""
    if _is_path(images):
        return list(expand([images]))
    if isinstance(images, Image | np.ndarray | Tensor):
        return [images]
    items = list(images)
    return list(expand(items)) if items and all(map(_is_path, items)) else items


def _partners(items: list[Any], given: Any, what: str) -> list[Any]:
    if given is None:
        return [None] * len(items)
    if _is_path(given) and Path(given).is_dir() and not is_zarr(Path(given)):
        _need_names(items, given)
        return [scene.files[1] for scene in match(items, Path(given))]
    return _as_many(items, listed(given), what)


def _half_partners(items: list[Any], given: Any) -> list[Any]:
    """An (even, odd) pair for each item: given so, or found in a folder under the item's name."""
    if given is None:
        return [None] * len(items)
    if not _is_path(given):
        pairs = list(given)
        is_one_pair = len(items) == 1 and len(pairs) == 2  # (even, odd) instead of [(even, odd)]
        return [tuple(pairs)] if is_one_pair else _as_many(items, [_as_pair(pair) for pair in pairs], "pairs of halves")
    _need_names(items, given)
    found = {scene.name: scene.files for scene in group(expand([given])) if len(scene.files) == 2}
    for item in items:
        if stem(Path(item)) not in found:
            raise PairFault(f"{given}: no halves of {stem(Path(item))}; expected {stem(Path(item))}_EVN and _ODD there")
    return [found[stem(Path(item))] for item in items]


def _as_pair(pair: Iterable[Any]) -> tuple[Any, ...]:
    halves = tuple(pair)
    if len(halves) != 2:
        raise PairFault(f"{len(halves)} halves of one image; expected two: even and odd")
    return halves


def _as_many(items: list[Any], others: list[Any], what: str) -> list[Any]:
    if len(items) != len(others):
        raise PairFault(f"{len(items)} images and {len(others)} {what}; expected as many, in the same order")
    return others


def _need_names(items: list[Any], folder: Any) -> None:
    if not all(map(_is_path, items)):
        raise RecipeFault(f"{folder}: a folder, but arrays have no names to match; expected arrays or files for both")


def _is_path(item: Any) -> bool:
    return isinstance(item, str | Path)


def _fault(item: Any, found: str) -> UserError:
    return FileFault(item, found) if _is_path(item) else UserError(f"an image of {found}")
