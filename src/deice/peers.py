"""Other programs in the same tables, where the user has them: Topaz, in a Python of its own.

Nothing of Topaz is imported or shipped here. Its Python is started once per batch on `topaz_driver.py`; pictures go in
and out as .npy files.
"""

import json
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deice.errors import RecipeFault, UserError

log = logging.getLogger(__name__)

TOPAZ_PYTHON = "DEICE_TOPAZ_PYTHON"
PRETRAINED = {2: ("unet", "unet-small", "fcnn", "affine"), 3: ("unet-3d-10a", "unet-3d-20a")}  # by the number of axes
CUTOFF = 4.0  # standard deviations beyond which a pixel is cut, in the rows that are fair to Topaz
DRIVER = Path(__file__).with_name("topaz_driver.py")
INSTALL = "docs/topaz.md says how to install it beside"


@dataclass(frozen=True, eq=False)
class PeerAnswer:
    """A denoised picture (*space) float32 in the input's grey values, and what it cost: seconds, peak bytes."""

    image: np.ndarray
    seconds: float
    bytes: int


def find_topaz(given: Path | str | None = None) -> Path | None:
    """The Python that has Topaz: `given`, else the environment's DEICE_TOPAZ_PYTHON; None where neither is set.

    Raises RecipeFault where what is set is no program.
    """
    said = given or os.environ.get(TOPAZ_PYTHON)
    if not said:
        return None
    found = shutil.which(str(said))
    if found is None:
        raise RecipeFault(f"--topaz {said}: no program there; expected the python of Topaz's environment ({INSTALL})")
    return Path(found)


def denoise_by_topaz(
    python: Path, model: str, images: Iterable[np.ndarray], *, cuda: bool = False, cutoff: float = 0.0,
    whole: bool = False,
) -> Iterator[PeerAnswer]:
    """Each picture (y, x) or volume (z, y, x), all of one kind, denoised by one process of Topaz, in order.

    model: a pretrained name (PRETRAINED) or a file that `train_topaz` wrote. cutoff: pixels further than so many
    standard deviations from the mean are set to the mean first, as Topaz's --pixel-cutoff does; 0: its default, none.
    whole: not in patches, as its --patch-size 0; else in patches of its default size.
    Raises UserError for images of another kind than the model's, and with Topaz's own last line where it fails.
    """
    refuse_unknown_model(model)
    with tempfile.TemporaryDirectory(prefix="deice-topaz-") as scratch:
        folder = Path(scratch)
        pairs, axes = [], set()
        for number, image in enumerate(images):
            _refuse_another_kind(model, image.ndim)
            axes.add(image.ndim)
            pairs.append([str(folder / f"in_{number}.npy"), str(folder / f"out_{number}.npy")])
            np.save(pairs[-1][0], image.astype(np.float32, copy=False))
        if len(axes) > 1:
            raise UserError(f"pictures and volumes at once for topaz:{model}; expected one kind")
        report = folder / "report.json"
        _drive(python, folder, {"task": "denoise", "model": model, "axes": max(axes, default=2), "pairs": pairs,
                                "cutoff": cutoff, "whole": whole, "cuda": cuda, "report": str(report)})
        for (_, path), cost in zip(pairs, json.loads(report.read_text()), strict=True):
            yield PeerAnswer(np.load(path), cost["seconds"], cost["bytes"])


def refuse_unknown_model(model: str) -> None:
    """RecipeFault for what is neither a pretrained name nor a file."""
    known = [name for names in PRETRAINED.values() for name in names]
    if model not in known and not Path(model).is_file():
        raise RecipeFault(f"topaz:{model} is unknown; expected one of {', '.join(known)}, or a model's file")


def _refuse_another_kind(model: str, axes: int) -> None:
    """UserError for an image of `axes` axes that the model is not for; of a trained file nothing is known."""
    fitting = [count for count, names in PRETRAINED.items() if model in names] or [*PRETRAINED]
    if axes not in fitting:
        raise UserError(f"an image of {axes} axes for topaz:{model}; expected {' or '.join(map(str, fitting))}: "
                        f"{', '.join(PRETRAINED[2])} are for pictures, {', '.join(PRETRAINED[3])} for volumes")


def train_topaz(
    python: Path, halves: Sequence[tuple[np.ndarray, np.ndarray]], out: Path, *, model: str = "unet",
    epochs: int = 100, cuda: bool = False,
) -> Path:
    """Topaz's own Noise2Noise training on (even, odd) pairs, (y, x) each, with its defaults; returns the model's file.

    It starts from the pretrained weights (it has no other way), and the last epoch is kept: its "best" is chosen on a
    single batch. Crops of 800 pixels, less where a picture is smaller; a tenth of the pairs is held out, at least one.
    """
    if len(halves) < 2:
        raise UserError(f"{len(halves)} pair of halves for Topaz's training; expected two or more: one is held out")
    from deice.io import write

    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="deice-topaz-") as scratch:
        folder = Path(scratch)
        for number, pair in enumerate(halves):
            for side, half in zip(("even", "odd"), pair, strict=True):
                (folder / side).mkdir(exist_ok=True)
                write(folder / side / f"pair_{number:04d}.mrc", half)
        crop = min(800, *(size for pair in halves for size in pair[0].shape))
        holdout = max(0.1, 1.01 / len(halves))
        options = {"--device": 0 if cuda else -1, "--arch": model, "--num-epochs": epochs, "--save-interval": epochs,
                   "--crop": crop, "--holdout": holdout, "--num-workers": 0}
        _drive(python, folder, {"task": "train", "even": str(folder / "even"), "odd": str(folder / "odd"),
                                "prefix": str(folder / "model"),
                                "options": [str(word) for pair in options.items() for word in pair]})
        trained = folder / f"model_epoch{epochs}.sav"
        if not trained.is_file():
            raise UserError(f"Topaz's training left no {trained.name}; expected the model of its last epoch")
        return Path(shutil.copy(trained, out / "topaz.sav"))


def _drive(python: Path, folder: Path, job: dict[str, Any]) -> None:
    """Run one job in Topaz's Python; UserError with the last line it said where it fails."""
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    try:
        done = subprocess.run([str(python), str(DRIVER), str(path)], capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(f"{python}: cannot be started ({error.strerror}); expected a Python with Topaz") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["nothing said"]
        raise UserError(f"Topaz in {python} failed: {said[-1].strip()}; expected a working Topaz ({INSTALL})")
    for line in done.stderr.splitlines():
        log.debug("topaz: %s", line)
