"""Opening what the user named for training: scenes from files, folders, packed pairs, Images or arrays."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deice.errors import PairFault, RecipeFault, UserError
from deice.image import Image
from deice.io.packed import open_packed
from deice.io.tilts import tilt_range_beside
from deice.ops.noise import neighbour_correlation
from deice.ops.normalise import Affine
from deice.ops.slab_noise import noise_spectrum
from deice.ops.wedge import power_in_wedge, ramps
from deice.recipe import Data, name_of
from deice.scenes import expand, group, match, open_views
from deice.schemes import Noise2Noise, Noise2Void, Recorrupted, Scheme, Supervised
from deice.sources import Source, holds_label, packed_source, source_of, with_labels
from deice.worlds.drawn import WORLDS

log = logging.getLogger(__name__)
LOOKED_AT = 5  # sources whose noise is measured
NOTABLE_CORRELATION = 0.05  # of neighbouring pixels' noise: what blind spots would learn of it as signal
NOTABLE_NOISE = 0.05  # of the power: less than that leaves nothing to recorrupt with
FILLED = 0.4  # of the power that was measured: more in the missing wedge is not what a reconstruction has
MIRRORED = 1.5  # so much less power in the mirrored wedge speaks for it
CROP = {2: 1024, 3: 96}  # pixels along each axis that are measured


@dataclass(frozen=True)
class Opened:
    """Sources for training and, where the data say so themselves, for validation; the scheme as the data need it."""

    training: list[Source]
    validation: list[Source]
    scheme: Scheme
    axes: int
    pixel_size: float | None


def open_for_training(inputs: Sequence[Any], target: Any, scheme: Scheme, data: Data) -> Opened:
    """Open `inputs`; `target`: a folder of targets named as the inputs, or arrays (*space), one per scene.

    Raises UserError (PairFault, FileFault, RecipeFault) for views that are missing or do not belong together.
    """
    if data.world is not None:
        return _open_world(data.world, inputs, target, scheme)
    labelled = getattr(scheme, "gives_probability", False)
    if labelled and (target is None or _packed_folder(inputs) is not None):
        raise RecipeFault(f"{name_of(scheme)} learns from labels; expected a folder of label volumes by --target")
    if target is not None and not labelled:
        scheme = _directed(scheme)
    if isinstance(scheme, Supervised):
        scheme = _with_suitable_noise(scheme, data.normaliser)
    folder = _packed_folder(inputs)
    if folder is not None and getattr(scheme, "tilted", False):
        raise RecipeFault(f"{folder}: packed windows have no tilt range; give the tomograms themselves")
    if folder is not None:
        return _open_packed(folder, scheme, data)
    named = _named_images(inputs, target, data.axes)
    directed = getattr(scheme, "directed", False)
    with ThreadPoolExecutor(data.threads) as threads:
        sources = list(threads.map(lambda scene: source_of(*scene[:2], data.normaliser, directed), named))
    for source in sources:
        if len(source.views) < scheme.views_needed:
            raise PairFault(f"{source.name}: {len(source.views)} view; {name_of(scheme)} needs {scheme.views_needed} "
                            "views of each scene: give both halves, a --target, or use noise2void")
    if data.tilt_range is not None and not getattr(scheme, "tilted", False):
        log.warning("a tilt range is given, but %s has no use for it", name_of(scheme))
    if getattr(scheme, "tilted", False):
        sources = [_with_ramps(source, file, data.tilt_range) for source, (_, _, file) in zip(sources, named)]
    if labelled:
        sources = _labelled(sources, scheme)
    if isinstance(scheme, Noise2Void):
        _warn_of_correlated_noise(sources, scheme)
    if isinstance(scheme, Recorrupted):
        _warn_of_missing_noise(sources, scheme)
    return Opened(sources, [], scheme, _common_axes(sources), _common_pixel_size(named))


def _open_world(name: str, inputs: Sequence[Any], target: Any, scheme: Scheme) -> Opened:
    """No sources: training draws its windows from the world called `name`."""
    if name not in WORLDS:
        raise RecipeFault(f"[data]: world is {name!r}; expected one of {', '.join(WORLDS)}")
    if inputs or target is not None:
        raise RecipeFault(f"world {name!r} and files as well; expected one of them to learn from")
    if not isinstance(scheme, Supervised) or not scheme.directed:
        raise RecipeFault(f"world {name!r} gives noisy windows with their truth; expected the scheme supervised with "
                          "directed = true")
    return Opened([], [], scheme, WORLDS[name].axes, None)


def _labelled(sources: Sequence[Source], scheme: Any) -> list[Source]:
    """The sources with the last view as labels; RecipeFault where none of those that the scheme asks for occurs."""
    found = [with_labels(source) for source in sources]
    if not any(holds_label(source, scheme.labels) for source in found):
        raise RecipeFault(f"no voxel of any target has one of the labels {list(scheme.labels)}; expected them in "
                          "the targets: name others by --scheme segmentation:labels=2, several in a recipe")
    return found


def _directed(scheme: Scheme) -> Scheme:
    if not isinstance(scheme, Noise2Noise | Supervised):
        raise RecipeFault(f"{name_of(scheme)} learns without a target; leave --target out, "
                          "or use noise2noise or supervised")
    return replace(scheme, directed=True)


def _with_suitable_noise(scheme: Supervised, normaliser: str) -> Supervised:
    """Synthetic noise that suits grey values normalised so: counts need rates, unit variance the standard one."""
    if scheme.noise != "gaussian" and not scheme.directed and normaliser == "standard":
        raise RecipeFault(f"{scheme.noise} noise on pictures of mean 0; counts need rates: use --normaliser percentile")
    return replace(scheme, unit_input=normaliser == "standard")


def _packed_folder(inputs: Sequence[Any]) -> Path | None:
    """The folder, if the one input is a folder of packed pairs."""
    if len(inputs) != 1 or not isinstance(inputs[0], str | Path):
        return None
    folder = Path(inputs[0])
    return folder if (folder / "train_input.bin").is_file() else None


def _open_packed(folder: Path, scheme: Scheme, data: Data) -> Opened:
    """Input and target of each packed part; the test files are the validation."""
    shape = None if (folder / "deice.json").exists() or not data.window else _square(data.window)
    parts = []
    for part in ("train", "test"):
        if part == "test" and not (folder / "test_input.bin").exists():
            parts.append([])
            continue
        wanted = folder / f"{part}_target.bin" if (folder / f"{part}_target.bin").exists() else None
        packed = [view for view in open_packed(folder / f"{part}_input.bin", wanted, shape) if view is not None]
        parts.append([packed_source(f"{folder.name}/{part}", packed)])
    views = len(parts[0][0].views)
    if views == 2 and isinstance(scheme, Supervised):
        scheme = replace(scheme, directed=True)
    if views < scheme.views_needed:
        raise PairFault(f"{folder}: no train_target.bin; {name_of(scheme)} needs input and target")
    return Opened(parts[0], parts[1], scheme, parts[0][0].views[0].ndim - 1, None)


def _square(window: tuple[int, ...]) -> tuple[int, ...]:
    """The patch of files without a description: pictures, unless more sizes are given."""
    return window * 2 if len(window) == 1 else window


def _named_images(inputs: Sequence[Any], target: Any, axes: str | None) -> list[tuple[str, list[Image], Path | None]]:
    """Each scene's name, its views, and one of its files where it has any."""
    if all(isinstance(i, str | Path) for i in inputs):
        paths = expand([str(i) for i in inputs])
        scenes = group(paths) if target is None else match(paths, Path(target))
        return [(scene.name, open_views(scene, axes), scene.files[0]) for scene in scenes]
    images = [as_image(given) for given in inputs]
    if target is None:
        return [(f"array {n}", [image], None) for n, image in enumerate(images)]
    targets = [Image(np.asarray(t)[None]) for t in target]
    if len(targets) != len(images):
        raise PairFault(f"{len(images)} inputs and {len(targets)} targets; expected one target per input")
    return [(f"array {n}", [image, wanted], None) for n, (image, wanted) in enumerate(zip(images, targets))]


def as_image(given: Any) -> Image:
    """An Image as it is; an array must be (v, *space)."""
    if isinstance(given, Image):
        return given
    array = np.asarray(given)
    if array.ndim not in (3, 4):
        raise UserError(f"an array of shape {array.shape}; expected views (v, y, x) or (v, z, y, x)")
    return Image(array)


def _with_ramps(source: Source, file: Path | None, given: tuple[float, ...] | None) -> Source:
    """The tomogram with the two ramps of its tilt range as its last views; RecipeFault where nothing says the range."""
    if len(source.region) != 3:
        raise UserError(f"{source.name}: a picture; a missing wedge is that of tomograms: use another scheme, or "
                        "--axes zyx if it is a volume")
    found = given or (tilt_range_beside(file, source.name) if file else None)
    if found is None:
        raise RecipeFault(f"{source.name}: its tilt range is not known; expected {source.name}.tlt, .rawtlt or .mdoc "
                          "beside it, or --tilt-range, as -60,60")
    _say_if_filled(source, found)
    views = (*source.views, *ramps(found, source.views[0].shape))
    return replace(source, views=views, affines=(*source.affines, Affine(), Affine()))


def _say_if_filled(source: Source, tilt_range: tuple[float, ...]) -> None:
    """Warn of a wedge that is not empty, or less so when mirrored: the range, its sign or the tilt axis differs."""
    crop = torch.from_numpy(_middle(source))
    first, last = tilt_range
    here, mirrored = (power_in_wedge(crop, ends) for ends in ((first, last), (-last, -first)))
    if here > FILLED or here > MIRRORED * mirrored:
        advice = (f"tilts from {-last:g} to {-first:g} leave {100 * mirrored:.0f} %: swap the signs"
                  if here > MIRRORED * mirrored else "expected few: check the range, and that the tilt axis is y")
        log.warning("%s: the wedge that tilts from %g to %g degrees leave out holds %.0f %% of the power elsewhere; %s",
                    source.name, first, last, 100 * here, advice)


def _middle(source: Source) -> np.ndarray:
    """The middle of the first view, normalised, at most CROP along each axis."""
    size = [min(CROP[len(source.region)], stop - start) for start, stop in source.region]
    origin = [(start + stop - n) // 2 for n, (start, stop) in zip(size, source.region)]
    return source.read(origin, size)[0]


def _common_axes(sources: Sequence[Source]) -> int:
    counts = {len(source.region) for source in sources}
    if len(counts) > 1:
        raise PairFault("pictures and volumes among the inputs; expected one kind: train on each by itself")
    views = {len(source.views) for source in sources}
    if len(views) > 1:
        raise PairFault(f"scenes with {' and '.join(str(v) for v in sorted(views))} views among the inputs; expected "
                        "the same number for all: halves and lone files cannot be mixed")
    return counts.pop()


def _common_pixel_size(named: Sequence[tuple[str, list[Image], Path | None]]) -> float | None:
    """The median pixel size in Å; a warning where the inputs differ by more than a hundredth."""
    sizes = [images[0].pixel_size for _, images, _ in named if images[0].pixel_size is not None]
    if not sizes:
        return None
    middle = float(np.median(sizes))
    if max(sizes) > 1.01 * middle or min(sizes) < 0.99 * middle:
        log.warning("pixel sizes from %.4g to %.4g Å among the inputs: the model will know no single scale",
                    min(sizes), max(sizes))
    return middle


def _warn_of_correlated_noise(sources: Sequence[Source], scheme: Noise2Void) -> None:
    """Blind spots assume that noise is independent from pixel to pixel; say so where it is not."""
    correlation = np.array([neighbour_correlation(torch.from_numpy(_middle(s))) for s in sources[:LOOKED_AT]])
    for axis in scheme.reaches():
        if -axis <= correlation.shape[1]:
            correlation[:, axis] = 0
    worst = correlation[np.abs(correlation).max(1).argmax()]
    if np.abs(worst).max() > NOTABLE_CORRELATION:
        axes = ", ".join(f"{axis} {value:+.2f}" for axis, value in zip("zyx"[-len(worst):], worst))
        log.warning("the noise of neighbouring pixels is correlated (%s): blind spots assume white noise and will keep "
                    "part of it as signal; halves with noise2noise do not, and noise2void:structure=%s:4 hides more "
                    "along that axis", axes, "zyx"[-len(worst):][int(np.abs(worst).argmax())])


def _warn_of_missing_noise(sources: Sequence[Source], scheme: Recorrupted) -> None:
    """A volume that was filtered has no noise left where it is measured; say so, or nothing would be denoised."""
    for source in sources[:LOOKED_AT]:
        if len(source.region) != 3:
            continue
        crop = torch.from_numpy(_middle(source))[None]
        share = float(noise_spectrum(crop, scheme.axis, scheme.noise_above).mean() / crop.var())
        if share < NOTABLE_NOISE:
            log.warning("%s: frequencies above %g along the tilt axis %s hold %.2g %% of its power: it was filtered, "
                        "or its tilt axis is another (recorrupted:tilt_axis=x); noise below is taken for signal",
                        source.name, scheme.noise_above, scheme.tilt_axis, 100 * share)
