"""Inference: tiles → estimate → blend, in bounded memory, for one image or a batch of files.

Tiled equals whole for every net whose statistics are fixed: the halo holds all that an output pixel sees, origins lie
on the net's pooling grid, and grey values are normalised by the statistics of the whole image.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deice.checkpoint import Model, describe_net, load_model
from deice.devices import autocast, choose_device, choose_precision, is_out_of_memory, memory_left, place, put
from deice.errors import MemoryFault, RecipeFault, UserError
from deice.filters import FILTERS, Filter
from deice.image import Image
from deice.onnx_model import OnnxNet, load_onnx
from deice.ops.normalise import NORMALISERS, Affine, Statistics, replace_not_finite, statistics
from deice.ops.tiles import Span, add_tile, core_of, grid, read_tile, round_up
from deice.random_estimates import drawing_for, prepared_for_estimate
from deice.recipe import name_of
from deice.scenes import Scene, open_views
from deice.schemes import Noise2Noise
from deice.several_views import Average, Stacked

log = logging.getLogger(__name__)

LARGEST_TILE = {("cpu", 2): 1024, ("cpu", 3): 160, ("cuda", 2): 4096, ("cuda", 3): 320}  # core and halo, per axis
BLEND = 16  # pixels over which neighbouring tiles fade into each other
FILTER_BYTES = 40  # a pixel, measured: the image, its transform and what turns one into the other
DRAWN_AT_ONCE = 10  # windows of a random estimate
CONVOLUTION_WORKSPACE = 2.0  # measured: what convolutions hold beside their inputs and outputs


@dataclass(frozen=True)
class Conditions:
    """Where and within what memory; `tile`: the core's length along each axis (None: what the memory allows)."""

    device: torch.device
    precision: str = "auto"
    max_memory: int | None = None
    tile: int | None = None


def denoise(
    image: Any, model: Model | Filter | Path | str, *, device: str = "auto", precision: str = "auto",
    max_memory: int | None = None, tile: int | None = None, **parameters: Any,
) -> Image:
    """Denoise one image and return it as an Image (1, *space) float32 in the input's grey scale and geometry.

    image: a path, an Image (v, *space), a pair of paths (halves), or an array: (*space), or (v, *space) for a model
    whose images have fewer axes. model: a Model, a run's folder, a .safetensors or .onnx file, a filter, or a filter's
    name with its `parameters` (sigma_pixels=2.0, …). Extract particles from the raw data, never from what this returns.
    Raises UserError where image or model is at fault.
    """
    estimator = choose_estimator(model, parameters)
    opened = _opened(image, estimator)
    canvas = np.zeros(opened.space, np.float32)
    denoise_into(canvas, opened, estimator, Conditions(choose_device(device), precision, max_memory, tile))
    return Image(canvas[None], opened.geometry)


def choose_estimator(model: Any, parameters: Mapping[str, Any]) -> Model | Filter:
    """A model from its run, .safetensors or .onnx file, or a filter from its name and parameters."""
    if isinstance(model, str) and model in FILTERS:
        try:
            return FILTERS[model](**parameters)
        except TypeError as error:
            raise RecipeFault(f"{model}: {error}; give its parameters") from error
    if parameters:
        raise RecipeFault(f"{', '.join(parameters)}: parameters of a filter, but {model} is a model; leave them out")
    estimator = load_estimator(model) if isinstance(model, str | Path) else model
    if isinstance(estimator, Model) and estimator.segments:
        raise RecipeFault(f"{name_of(estimator.scheme)}: a model that segments and does not denoise; use deice segment")
    return estimator


def load_estimator(path: Path | str) -> Model:
    """A model from a run's folder, a .safetensors or an .onnx file."""
    return load_onnx(Path(path)) if str(path).endswith(".onnx") else load_model(path)


def describe(estimator: Model | Filter) -> str:
    """The estimator in a few words, for labels and reports."""
    if isinstance(estimator, Model):
        return f"{name_of(estimator.scheme)} {describe_net(estimator.net)}"
    return repr(estimator)


def _opened(image: Any, estimator: Model | Filter) -> Image:
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
    views, found = checked_views(image)
    if isinstance(estimator, Model):
        _by_tiles(canvas, views, found, image, estimator, conditions)
        return
    needed, left = FILTER_BYTES * prod(image.space), memory_left(conditions.device, conditions.max_memory)
    if conditions.max_memory is not None and needed > left:
        raise MemoryFault(f"a filter takes the image whole, {needed / 1e6:.0f} MB, and {left / 1e6:.0f} MB are left; "
                          "grant more by --max-memory")
    mean = np.zeros(image.space, np.float32)
    for view, numbers in zip(views, found):
        mean += replace_not_finite(np.asarray(view), numbers.mean) / np.float32(len(views))
    canvas[...] = estimator.apply(torch.from_numpy(mean).to(conditions.device), image.pixel_size).cpu().numpy()


def checked_views(image: Image) -> tuple[list[Any], list[Statistics]]:
    """Each view (*space) of `image`, and its statistics; UserError for one that is empty or does not vary."""
    views = [image.views[i] for i in range(image.views.shape[0])]
    return views, [_checked(view) for view in views]


def _checked(view: Any) -> Statistics:
    """The statistics of a view that has something to denoise; counts what had to be replaced."""
    found = statistics(view)
    if not found.count:
        raise UserError("no finite value in the image; expected a picture, check how the file was written")
    if not found.varies:
        raise UserError(f"every value is {found.mean:g}; expected a picture that varies")
    if found.not_finite:
        log.warning("%d values that are not finite (%.2g %% of the image) were replaced by their neighbours",
                    found.not_finite, 100 * found.not_finite / (found.count + found.not_finite))
    return found


def _by_tiles(
    canvas: np.ndarray, views: list[Any], found: list[Statistics], image: Image, model: Model, conditions: Conditions
) -> None:
    if model.axes != canvas.ndim:
        raise UserError(f"an image of {canvas.ndim} axes; the model was trained on {model.axes} axes: use one for "
                        f"{'volumes' if canvas.ndim == 3 else 'pictures'}")
    _say_what_differs(model, image)
    if len(views) > 1 and isinstance(model.scheme, Noise2Noise) and model.scheme.averages(model.axes):
        average = Average(tuple(views), tuple(found))
        views, found = [average], [_checked(average)]
    affines = _affines(model, views, found)
    if isinstance(model.module, OnnxNet):
        conditions = _of_onnxruntime(model.module, conditions)
    if getattr(model.scheme, "kept_for_estimate", 0):
        views, affines = prepared_for_estimate(model.scheme, views, affines, conditions.device)
    model = replace(model, module=place(model.module, model.axes, conditions.device).eval())
    cores = choose_cores(canvas.shape, model, len(views), conditions)
    while True:
        try:
            for tile in grid(canvas.shape, cores, model.halo, model.net.stride, BLEND):
                add_tile(canvas, tile, _estimate_tile(views, affines, tile, model, conditions))
            return
        except RuntimeError as error:
            smaller = _halved(cores, model.net.stride)
            if not is_out_of_memory(error) or smaller == cores:
                raise
            log.warning("out of memory with tiles of %s; trying %s", _times(cores), _times(smaller))
            cores = smaller
            canvas[...] = 0
            torch.cuda.empty_cache()


def _of_onnxruntime(net: OnnxNet, conditions: Conditions) -> Conditions:
    """The conditions under which onnxruntime really works: fp32, and the GPU only where it can."""
    if conditions.precision not in ("auto", "fp32"):
        log.warning("an ONNX model computes in fp32: --precision %s is not used", conditions.precision)
    return replace(conditions, device=net.start(conditions.device, conditions.max_memory), precision="fp32")


def _affines(model: Model, views: list[Any], found: list[Statistics]) -> list[Affine]:
    name = model.recipe.data.normaliser
    if name == "standard":
        return [Affine(numbers.mean, numbers.sd) for numbers in found]
    return [NORMALISERS[name](view) for view in views]


@torch.no_grad()
def _estimate_tile(
    views: list[Any], affines: list[Affine], tile: Sequence[Span], model: Model, conditions: Conditions
) -> np.ndarray:
    """The core of one tile in grey values, or of probability: the mean over the views."""
    grey = (replace_not_finite(read_tile(view, tile), affine.offset) for view, affine in zip(views, affines))
    normalised = np.stack([affine.apply(block) for block, affine in zip(grey, affines)])
    batch = torch.from_numpy(normalised)[None].to(conditions.device)
    precision = choose_precision(conditions.precision, conditions.device)

    def net(pictures: Tensor) -> Tensor:
        answers = []
        for picture in pictures.split(at_once(tile, model, conditions)):
            with autocast(conditions.device, precision):
                answers.append(model.module(put(picture)).float())
        return torch.cat(answers)

    with drawing_for(tile, model.module, conditions.device) if model.draws else nullcontext():
        estimate = model.scheme.estimate(net, batch)
    answers = core_of(estimate, tile)[0].cpu().numpy()
    if model.segments:
        return answers.mean(0)
    return sum(affine.undo(answer) for affine, answer in zip(affines, answers)) / np.float32(len(answers))


def at_once(tile: Sequence[Span], model: Model, conditions: Conditions) -> int:
    """Pictures in the network together: one, for the memory's sake; on a GPU more of what has small windows."""
    if not model.draws or conditions.device.type != "cuda":
        return 1
    budget = memory_left(conditions.device, conditions.max_memory)
    return min(DRAWN_AT_ONCE, max(1, budget // tile_bytes([len(span.weight) for span in tile], model, 1)))


def choose_cores(shape: Sequence[int], model: Model, views: int, conditions: Conditions) -> list[int]:
    """The core of a tile along each axis: as large as the memory and the device's best size allow.

    Raises MemoryFault, with what would be needed, where not even the smallest tile fits.
    """
    halo, stride = round_up(model.halo, model.net.stride), model.net.stride
    if conditions.tile is not None:
        return [min(round_up(conditions.tile, stride), round_up(size, stride)) for size in shape]
    largest = max(LARGEST_TILE[conditions.device.type, len(shape)] - 2 * halo, 2 * halo, stride)
    lengths = model.recipe.data.window if model.draws else (largest,) * len(shape)
    cores = [min(round_up(size, stride), round_up(length, stride)) for size, length in zip(shape, lengths)]
    budget = memory_left(conditions.device, conditions.max_memory)
    while (needed := tile_bytes(cores, model, views)) > budget:
        smaller = _halved(cores, stride)
        if smaller == cores:
            raise MemoryFault(f"the smallest tile needs {needed / 1e6:.0f} MB and {budget / 1e6:.0f} MB are left; "
                              "grant more by --max-memory, or use a smaller net")
        cores = smaller
    return cores


def tile_bytes(cores: Sequence[int], model: Model, views: int) -> int:
    """Memory that one tile takes: activations, workspace, and the views with their normalised copies."""
    halo = round_up(model.halo, model.net.stride)
    pixels = prod(core + 2 * halo for core in cores)
    return int(4 * pixels * (model.net.floats_per_pixel * CONVOLUTION_WORKSPACE + 4 * views))


def _halved(cores: Sequence[int], stride: int) -> list[int]:
    """Half the longest core."""
    longest = int(np.argmax(cores))
    return [max(stride, round_up(c // 2, stride)) if i == longest else c for i, c in enumerate(cores)]


def _say_what_differs(model: Model, image: Image) -> None:
    """What the user should know of an image that is unlike what the model learnt from."""
    if model.pixel_size and image.pixel_size and abs(image.pixel_size / model.pixel_size - 1) > 0.1:
        log.warning("the image has %.4g Å per pixel, the model learnt at %.4g Å: expect a worse result",
                    image.pixel_size, model.pixel_size)


def _times(sizes: Sequence[int]) -> str:
    return "×".join(str(size) for size in sizes)
