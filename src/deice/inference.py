"""Inference: an image and an estimator to a denoised image, in bounded memory.

An image that the device may hold whole goes there once (`deice.resident`); any other is read and denoised tile by tile.
"""

import logging
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deice.calibrating import calibrate, calibrates
from deice.checkpoint import Model
from deice.conditions import Conditions
from deice.devices import choose_device, memory_left
from deice.errors import MemoryFault, UserError
from deice.estimating import estimate_into
from deice.estimators import choose_estimator
from deice.filters import Filter
from deice.image import Image
from deice.lanes import DOWNLOADING, NETWORK, READING, UPLOADING
from deice.onnx_model import OnnxNet
from deice.openvino_net import by_openvino
from deice.ops.normalise import NORMALISERS, Affine, Statistics, finite_statistics, replace_not_finite, statistics
from deice.pretrained import PRETRAINED, unlike_in_noise, unlike_in_size
from deice.random_estimates import prepared_for_estimate
from deice.resident import downloaded, fits, held_bytes, loaded, uploaded
from deice.scenes import Scene, open_views
from deice.schemes import Noise2Noise
from deice.several_views import Average, Stacked, averaged, half_difference

log = logging.getLogger(__name__)

FILTER_BYTES = 40  # a pixel, measured: the image, its transform and what turns one into the other


def denoise(
    image: Any, model: Model | Filter | Path | str = PRETRAINED, *, device: str = "auto", precision: str = "auto",
    max_memory: int | None = None, tile: int | None = None, calibration: bool | None = None, **parameters: Any,
) -> Image:
    """Denoise one image and return it as an Image (1, *space) float32 in the input's grey scale and geometry.

    image: a path, an Image (v, *space), a pair of paths (halves), or an array: (*space), or (v, *space) for a model
    whose images have fewer axes. model: a Model, a run's folder, a .safetensors or .onnx file, "pretrained" for the one
    in this package, a filter, or a filter's name with its `parameters` (sigma_pixels=2.0, …). calibration: of a
    network's answer on the very picture (None: if the model says so). Extract particles from the raw data, never from
    what this returns.
    Raises UserError where image or model is at fault.
    """
    estimator = choose_estimator(model, parameters, _axes(image) if model == PRETRAINED else 2)
    opened = _opened(image, estimator)
    conditions = Conditions(choose_device(device), precision, max_memory, tile, calibration=calibration)
    if isinstance(estimator, Model):
        estimator = by_openvino(estimator, conditions, prod(opened.space))
    canvas = np.zeros(opened.space, np.float32)
    denoise_into(canvas, opened, estimator, conditions)
    return Image(canvas[None], opened.geometry)


def _axes(image: Any) -> int:
    """Axes of what is to be denoised; an array of three is a volume, but for one or two pictures."""
    if isinstance(image, Image | str | Path) or (isinstance(image, tuple) and isinstance(image[0], str | Path)):
        return len(_opened(image, None).space)
    shape = np.shape(image)
    return 2 if len(shape) == 3 and shape[0] <= 2 else min(len(shape), 3)


def _opened(image: Any, estimator: Model | Filter | None) -> Image:
    if isinstance(image, Image):
        return image
    if isinstance(image, str | Path):
        return open_scene(Scene(Path(image).stem, (Path(image),)), estimator)
    if isinstance(image, tuple) and all(isinstance(part, str | Path) for part in image):
        return open_scene(Scene(Path(image[0]).stem, tuple(Path(part) for part in image)), estimator)
    array = np.asarray(image)
    axes = estimator.axes if isinstance(estimator, Model) else min(array.ndim, 3)
    if array.ndim not in (axes, axes + 1):
        raise UserError(f"an array of shape {array.shape}; expected {axes} axes, or views of {axes} axes")
    return Image(array if array.ndim == axes + 1 else array[None])


def open_scene(scene: Scene, estimator: Model | Filter | None, axes: str | None = None) -> Image:
    """The views of a scene as one Image; a model of volumes reads three axes as a volume."""
    if axes is None and isinstance(estimator, Model) and estimator.axes == 3:
        axes = "zyx"
    images = open_views(scene, axes)
    if len(images) == 1:
        return images[0]
    return Image(Stacked(tuple(view for image in images for view in image.views)), images[0].geometry)


def denoise_into(canvas: np.ndarray, image: Image, estimator: Model | Filter, conditions: Conditions) -> None:
    """Add the denoised `image` to `canvas` (*space), which must hold zeros; of a model that segments, probability."""
    if isinstance(estimator, Model):
        conditions = suited(conditions, image, estimator)
        if fits(image, estimator, conditions) or calibrates(estimator, conditions):
            canvas += denoise_resident(image, estimator, conditions)[0][0]
        else:
            _denoise_mapped(canvas, image, estimator, conditions)
        return
    with conditions.stage(READING):
        views, found = checked_views(image)
    needed, left = FILTER_BYTES * prod(image.space), memory_left(conditions.device, conditions.max_memory)
    if conditions.max_memory is not None and needed > left:
        raise MemoryFault(f"a filter takes the image whole, {needed / 1e6:.0f} MB, and {left / 1e6:.0f} MB are left; "
                          "grant more by --max-memory")
    with conditions.stage(NETWORK):
        mean = np.zeros(image.space, np.float32)
        for view, numbers in zip(views, found):
            mean += replace_not_finite(np.asarray(view), numbers.mean) / np.float32(len(views))
        canvas[...] = estimator.apply(torch.from_numpy(mean).to(conditions.device), image.pixel_size).cpu().numpy()


def checked_views(image: Image) -> tuple[list[Any], list[Statistics]]:
    """Each view (*space) of `image`, and its statistics; UserError for one that is empty or does not vary."""
    views = [image.views[i] for i in range(image.views.shape[0])]
    return views, [checked(statistics(view)) for view in views]


def checked(found: Statistics) -> Statistics:
    """The statistics of a view that has something to denoise; counts what had to be replaced."""
    if not found.count:
        raise UserError("no finite value in the image; expected a picture, check how the file was written")
    if not found.varies:
        raise UserError(f"every value is {found.mean:g}; expected a picture that varies")
    if found.not_finite:
        log.warning("%d values that are not finite (%.2g %% of the image) were replaced by their neighbours",
                    found.not_finite, 100 * found.not_finite / (found.count + found.not_finite))
    return found


def suited(conditions: Conditions, image: Image, model: Model) -> Conditions:
    """The conditions under which `model` denoises `image`; UserError where it cannot, a word where it may be worse."""
    axes = len(image.space)
    if model.axes != axes:
        raise UserError(f"an image of {axes} axes; the model was trained on {model.axes} axes: use one for "
                        f"{'volumes' if axes == 3 else 'pictures'}")
    if model.pixel_size and image.pixel_size and abs(image.pixel_size / model.pixel_size - 1) > 0.1:
        log.warning("the image has %.4g Å per pixel, the model learnt at %.4g Å: expect a worse result",
                    image.pixel_size, model.pixel_size)
    if model.packaged and (remark := unlike_in_size(image.pixel_size, axes)):
        log.warning("%s", remark)
    if not isinstance(model.module, OnnxNet):
        return conditions
    if conditions.precision not in ("auto", "fp32"):
        log.warning("an ONNX model computes in fp32: --precision %s is not used", conditions.precision)
    device = model.module.start(conditions.device, conditions.max_memory)
    return replace(conditions, device=device, precision="fp32")


def denoise_resident(
    image: Image, model: Model, conditions: Conditions, float16: bool = False
) -> list[tuple[np.ndarray, Any]]:
    """Denoise an image that the device holds whole: (*space) of float32 or float16, and its figures for a header.

    Where the conditions want the uncertainty, it is the second of the list.
    """
    held = 0 if conditions.granted is None else conditions.in_flight * held_bytes(image)
    conditions = replace(conditions, reserve=conditions.reserve + held)
    with conditions.stage(READING):
        host = loaded(image, conditions.device)
    with conditions.stage(UPLOADING):
        views, found = uploaded(host, conditions.device)
        found = [checked(numbers) for numbers in found]
        noise = None
        if _averages(model, views, conditions):
            noise = half_difference(views, found) if len(views) == 2 else None
            views = [averaged(views, found)]
            found = [checked(finite_statistics(views[0]))]
        del host
    with conditions.stage(NETWORK):
        answer = torch.zeros(image.space, device=conditions.device)
        affines = _affines(model, views, found)
        estimate_into(answer, views, affines, model, conditions)
        answers = [answer]
        if calibrates(model, conditions):
            if model.packaged and (remark := unlike_in_noise(views[0])):
                log.warning("%s", remark)
            answers = calibrate(answer, views[0], affines[0], model, conditions, noise=noise)
    with conditions.stage(DOWNLOADING):
        return [downloaded(answer, float16) for answer in answers]


def _denoise_mapped(canvas: np.ndarray, image: Image, model: Model, conditions: Conditions) -> None:
    """Read tiles from where the image lies, and add their answers where `canvas` lies: both may be files."""
    with conditions.stage(READING):
        views, found = checked_views(image)
    with conditions.stage(NETWORK):
        if _averages(model, views, conditions):
            average = Average(tuple(views), tuple(found))
            views, found = [average], [checked(statistics(average))]
        affines = _affines(model, views, found)
        if getattr(model.scheme, "kept_for_estimate", 0):
            views, affines = prepared_for_estimate(model.scheme, views, affines, conditions.device)
        estimate_into(canvas, views, affines, model, conditions)


def _averages(model: Model, views: list[Any], conditions: Conditions) -> bool:
    """Whether the average of the views is denoised, rather than each of them."""
    learnt_so = isinstance(model.scheme, Noise2Noise) and model.scheme.averages(model.axes)
    return len(views) > 1 and (learnt_so or calibrates(model, conditions))


def _affines(model: Model, views: list[Any], found: list[Statistics]) -> list[Affine]:
    name = model.recipe.data.normaliser
    if name == "standard":
        return [Affine(numbers.mean, numbers.sd) for numbers in found]
    return [NORMALISERS[name](view) for view in views]
