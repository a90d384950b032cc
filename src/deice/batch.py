"""A batch of files: outputs planned before any work, finished ones skipped, faulty ones named, the rest done."""

import logging
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deice.checkpoint import Model
from deice.errors import BatchFailure, UserError
from deice.filters import Filter
from deice.image import Image
from deice.inference import Conditions, denoise_into, describe, open_scene
from deice.io import create, is_zarr, writable_folder
from deice.scenes import Scene, half_of, stem
from deice.schemes import Noise2Noise
from deice.untrained import Untrained

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of one scene of a batch: written, skipped (finished before), or failed for a reason."""

    scene: Scene
    path: Path
    state: str
    reason: str = ""


def plan_outputs(scenes: Sequence[Scene], out: Path, inputs: Sequence[Path]) -> list[Path]:
    """Each scene's output, DIR/<same name>.mrc, of OME-Zarr .zarr, before any work.

    Raises UserError for an output that is, or lies in, one of the `inputs` (also of those left aside), or is another
    scene's output.
    """
    taken = {path.resolve() for path in inputs}
    if inside := taken & {out.resolve(), *out.resolve().parents}:
        raise UserError(f"{out}: lies in the input {inside.pop()}; choose another -o")
    writable_folder(out)
    outputs: dict[Path, Scene] = {}
    for scene in scenes:
        path = (out / output_name(scene)).resolve()
        if path in taken:
            raise UserError(f"{path}: the output would overwrite an input; choose another -o")
        if path in outputs:
            raise UserError(f"{scene.files[0]} and {outputs[path].files[0]} would both be written to {path}; "
                            "denoise them into different folders")
        outputs[path] = scene
    return list(outputs)


def output_name(scene: Scene) -> str:
    """NAME.zarr for what is read from OME-Zarr, NAME.mrc for all else."""
    return f"{scene.name}.zarr" if is_zarr(scene.files[0]) else f"{scene.name}.mrc"


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
    unknown = image.pixel_size is None
    with create(path, image.space, image.geometry, float16, describe(estimator)) as data:
        if not float16:
            denoise_into(data, image, estimator, conditions)
        else:
            with _scratch(path.parent, image.space) as canvas:
                denoise_into(canvas, image, estimator, conditions)
                for row in range(len(canvas)):
                    data[row] = canvas[row]
    if unknown:
        log.warning("the header gives no pixel size; the output keeps the header as it is (--pixel-size sets it)")


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


def denoise_files(
    scenes: Sequence[Scene], out: Path, estimator: Model | Filter | Untrained, conditions: Conditions, *,
    inputs: Sequence[Path] = (), overwrite: bool = False, halves: Path | None = None, **how: Any,
) -> Iterator[Outcome]:
    """Denoise scene after scene; finished outputs are skipped, a faulty scene fails by itself.

    halves: a folder for each half denoised by itself, which the correlation of the removed noise is measured on.
    """
    files = [*inputs, *(path for scene in scenes for path in scene.files)]
    outputs = plan_outputs(scenes, out, files)
    alone = [[Scene(stem(file), (file,)) for file in scene.files] if len(scene.files) > 1 else [] for scene in scenes]
    if halves is not None:
        plan_outputs([half for pair in alone for half in pair], halves, [*files, *outputs])
    for scene, path, pair in zip(scenes, outputs, alone):
        jobs = [(scene, path)]
        if halves is not None:
            jobs += [(half, halves / output_name(half)) for half in pair]
        wanted = [job for job in jobs if overwrite or not job[1].exists()]
        try:
            if not wanted:
                yield Outcome(scene, path, "skipped")
                continue
            denoiser = estimator.model(scene, how.get("axes")) if isinstance(estimator, Untrained) else estimator
            for part, target in wanted:
                denoise_scene(part, target, denoiser, conditions, **how)
            yield Outcome(scene, path, "written")
        except UserError as error:
            yield Outcome(scene, path, "failed", str(error))


def finish(outcomes: Sequence[Outcome]) -> None:
    """Say what was skipped; raise the one failure of a single file, BatchFailure for a part of a batch."""
    skipped = sum(outcome.state == "skipped" for outcome in outcomes)
    if skipped:
        log.info("%d finished before, skipped (--overwrite denoises them again)", skipped)
    failures = [(str(outcome.scene.files[0]), outcome.reason) for outcome in outcomes if outcome.state == "failed"]
    if failures and len(outcomes) == 1:
        name, reason = failures[0]
        raise UserError(reason if reason.startswith(name) else f"{name}: {reason}")
    if failures:
        raise BatchFailure(failures, len(outcomes) - len(failures))
