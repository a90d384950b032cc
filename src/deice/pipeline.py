"""The pipeline: one file is read while the network works on another and a third is written, on every device.

In flight are a few files a device: eight on a GPU, two on the CPU, fewer where the memory is short of it. Each file's
result is what it would be by itself, and so is its failure.
"""

import logging
import os
import tempfile
import threading
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from math import ceil, prod
from pathlib import Path

import numpy as np
import torch

from deice.calibrating import BYTES, calibrates
from deice.checkpoint import Model
from deice.conditions import Conditions
from deice.devices import available_memory, cap_memory
from deice.errors import UserError
from deice.estimators import describe
from deice.filters import Filter
from deice.image import Image
from deice.inference import denoise_into, denoise_resident, open_scene, suited
from deice.io import create, read_ahead, write_at_once
from deice.lanes import READING, WRITING, Clock, lanes
from deice.onnx_model import OnnxNet
from deice.openvino_net import by_openvino
from deice.resident import fits, held_bytes
from deice.scenes import Scene, half_of
from deice.schemes import Noise2Noise

log = logging.getLogger(__name__)

IN_FLIGHT = {"cuda": 8, "cpu": 2}
HOST_SHARE = 4  # the files in flight may take one part in so many of the host's memory
BESIDE = 128 << 20  # bytes that a file which is not held whole takes while it is read or written


@dataclass(frozen=True)
class Place:
    """Where one file after the other is worked on: an estimator of this device's own, and the conditions there."""

    estimator: Model | Filter
    conditions: Conditions
    stop: threading.Event


def places(
    estimator: Model | Filter, conditions: Conditions, devices: Sequence[torch.device], scenes: Sequence[Scene],
    clock: Clock, axes: str | None = None,
) -> list[Place]:
    """As many places on `devices` as there may be files in flight, judged by the first of the scenes."""
    if isinstance(estimator, Model) and (estimator.draws or isinstance(estimator.module, OnnxNet)):
        devices = devices[:1]  # torch's own random numbers, and onnxruntime's session, are one for all
    for device in devices:
        cap_memory(device, conditions.max_memory)
    own, each = [estimator] + [_copy(estimator) for _ in devices[1:]], 1
    if (image := _first(scenes, estimator, axes)) is not None:
        each = min(_in_flight(image, estimator, conditions, len(devices)), ceil(len(scenes) / len(devices)))
        pixels = prod(image.space) * len(scenes)
        own = [by_openvino(one, conditions, pixels) if isinstance(one, Model) else one for one in own]
    reserve = 0 if devices[0].type == "cuda" else (each - 1) * BESIDE
    conditions = replace(conditions, granted=conditions.memory_left(), reserve=reserve)
    return [Place(own[number % len(devices)], replace(conditions, device=lane.device, lane=lane), lane.stop)
            for number, lane in enumerate(lanes(devices, each, clock))]


def _first(scenes: Sequence[Scene], estimator: Model | Filter, axes: str | None) -> Image | None:
    """The first of the scenes that can be opened; what is wrong with the others will be said in their turn."""
    for scene in scenes:
        with suppress(UserError):
            return open_scene(scene, estimator, axes)
    return None


def _in_flight(image: Image, estimator: Model | Filter, conditions: Conditions, devices: int) -> int:
    """Files at once on each device, by what one like `image` takes of the memory."""
    device, held = conditions.device, held_bytes(image)
    if isinstance(estimator, Model) and calibrates(estimator, conditions):
        held += BYTES * prod(image.space)
    host = available_memory() if device.type == "cuda" else conditions.memory_left()
    bounds = [IN_FLIGHT[device.type], host // HOST_SHARE // (held * devices)]
    if device.type == "cuda":
        bounds += [conditions.memory_left() // 3 // held, (os.cpu_count() or 1) // devices]
    return max(1, min(bounds))


def _copy(estimator: Model | Filter) -> Model | Filter:
    return replace(estimator, module=deepcopy(estimator.module)) if isinstance(estimator, Model) else estimator


def denoise_scene(
    scene: Scene, path: Path, estimator: Model | Filter, conditions: Conditions, *, axes: str | None = None,
    pixel_size: float | None = None, float16: bool = False,
) -> None:
    """Denoise one scene into the file `path`; the file appears only when it is complete."""
    image = open_scene(scene, estimator, axes)
    if isinstance(estimator, Model):
        _say_if_alone(scene, estimator, image)
    if pixel_size is not None:
        image = replace(image, geometry=image.geometry.with_pixel_size(pixel_size))
    if isinstance(estimator, Model):
        conditions = suited(conditions, image, estimator)
    if isinstance(estimator, Model) and (calibrates(estimator, conditions) or fits(image, estimator, conditions)):
        with conditions.stage(READING):
            for file in scene.files:
                read_ahead(file)
        answers = denoise_resident(image, estimator, conditions, float16)
        with conditions.stage(WRITING):
            for target, (pixels, figures) in reversed(list(zip((path, uncertainty_of(path)), answers))):
                write_at_once(target, pixels, image.geometry, describe(estimator), figures)
    else:
        _denoise_into_file(path, image, estimator, conditions, float16)
    if image.pixel_size is None:
        log.warning("the header gives no pixel size; the output keeps the header as it is (--pixel-size sets it)")


def uncertainty_of(path: Path) -> Path:
    """Where the standard error of the picture `path` lies: NAME_uncertainty.mrc."""
    return path.with_name(f"{path.stem}_uncertainty{path.suffix}")


def _denoise_into_file(
    path: Path, image: Image, estimator: Model | Filter, conditions: Conditions, float16: bool
) -> None:
    """Tile by tile into the mapped file, which is never in memory as a whole."""
    with ExitStack() as stack:
        data = stack.enter_context(create(path, image.space, image.geometry, float16, describe(estimator)))
        canvas = stack.enter_context(_scratch(path.parent, image.space)) if float16 else data
        denoise_into(canvas, image, estimator, conditions)
        with conditions.stage(WRITING):
            for row in range(len(canvas)) if float16 else ():
                data[row] = canvas[row]
            stack.close()  # completes the file


def _say_if_alone(scene: Scene, model: Model, image: Image) -> None:
    """Where each half is denoised by itself, a word on the noise of a lone average; a lone half is as it was learnt."""
    scheme = model.scheme
    half_by_half = isinstance(scheme, Noise2Noise) and not scheme.directed and not scheme.averages(model.axes)
    if half_by_half and image.views.shape[0] == 1 and half_of(scene.files[0]) is None:
        log.warning("one view, but the model learnt from halves: a full average has less noise than a half, and is "
                    "denoised as if it were a half; give both halves for the best estimate")


@contextmanager
def _scratch(folder: Path, shape: tuple[int, ...]) -> Generator[np.ndarray]:
    """Zeros (*shape) float32 on disk: tiles add up in float32 there when the output is float16."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(4 * int(np.prod(shape)))
        yield np.memmap(file, np.float32, "r+", shape=shape)
