"""Membranes of a batch of files: probabilities, labels drawn from them, and their scores; a faulty file by itself."""

import logging
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deice.batch import Outcome, plan_outputs
from deice.checkpoint import Model
from deice.conditions import Conditions
from deice.errors import FileFault, PairFault, UserError
from deice.estimators import describe
from deice.inference import open_scene
from deice.io import create, read
from deice.membranes import Labelling, Ridge, choose_threshold, known_pixel_size, probability_into, scores
from deice.membranes.overlaps import FIGURES
from deice.scenes import Scene, expand, stem

log = logging.getLogger(__name__)
TITLES = {"dice": "Dice", "iou": "IoU", "precision": "precision", "recall": "recall", "surface_dice": "surface-Dice"}


@dataclass(frozen=True)
class Job:
    """One scene, its two outputs, and the labels it is judged by, if any."""

    scene: Scene
    labels: Path
    probability: Path
    truth: Path | None = None


@dataclass(frozen=True)
class Judging:
    """tolerance: Å, of surface-Dice. wanted: the values of a truth that are membrane."""

    tolerance: float = 20.0
    wanted: tuple[int, ...] = (1,)

    def __post_init__(self):
        if not self.tolerance >= 0 or not self.wanted:
            raise UserError(f"tolerance {self.tolerance:g} Å, membrane labels {list(self.wanted)}; "
                            "expected a length of 0 or more and at least one label")


def plan(scenes: Sequence[Scene], out: Path, inputs: Sequence[Path], truth: Path | None) -> list[Job]:
    """DIR/NAME.mrc and DIR/NAME_probability.mrc of each scene, and its truth in the folder `truth`, before any work.

    Raises UserError for outputs that would overwrite something, PairFault for a scene without its truth.
    """
    files = [*inputs, *(path for scene in scenes for path in scene.files)]
    known = expand([truth]) if truth is not None else []
    truths = [_truth_of(scene, truth, known) if truth is not None else None for scene in scenes]
    labels = plan_outputs(scenes, out, [*files, *known])
    named = [replace(scene, name=f"{scene.name}_probability") for scene in scenes]
    probabilities = plan_outputs(named, out, [*files, *known, *labels])
    return [Job(*parts) for parts in zip(scenes, labels, probabilities, truths)]


def _truth_of(scene: Scene, folder: Path, known: Sequence[Path]) -> Path:
    same = [path for path in known if stem(path) == scene.name]
    if len(same) != 1:
        found = ", ".join(path.name for path in same) or "none"
        raise PairFault(f"{scene.files[0]}: expected one truth {scene.name}.mrc in {folder}, found {found}")
    return same[0]


def write_probabilities(
    jobs: Sequence[Job], detector: Ridge | Model, conditions: Conditions, pixel_size: float | None = None,
    overwrite: bool = False,
) -> Iterator[Outcome]:
    """Write NAME_probability.mrc (float32, 0 to 1) of each job; what the same detector finished before is kept."""
    label = f"membranes by {describe(detector) if isinstance(detector, Model) else detector.name}"
    for job in jobs:
        try:
            if job.probability.exists() and not overwrite:
                _expect_label(job.probability, label)
                yield Outcome(job.scene, job.probability, "skipped")
                continue
            image = open_scene(job.scene, None, "zyx")
            if pixel_size is not None:
                image = replace(image, geometry=image.geometry.with_pixel_size(pixel_size))
            known_pixel_size(image)
            with create(job.probability, image.space, image.geometry, label=label) as canvas:
                probability_into(canvas, image, detector, conditions)
            yield Outcome(job.scene, job.probability, "written")
        except UserError as error:
            yield Outcome(job.scene, job.probability, "failed", str(error))


def _expect_label(path: Path, label: str) -> None:
    """FileFault if another detector made the file; of a long label the header holds the beginning only."""
    found = read(path, "zyx").geometry.labels
    if not any(label[:40] in line for line in found):
        raise FileFault(path, f"holds {' '.join(found)!r}, not {label!r}; give --overwrite, or choose another -o")


def label_all(
    jobs: Sequence[Job], outcomes: Sequence[Outcome], labelling: Labelling, judging: Judging, choose: bool = False
) -> tuple[list[Outcome], dict[str, Any]]:
    """Write NAME.mrc of every job whose probability was written or kept; what became of each, and the figures of all.

    choose: take the threshold that suits these probabilities best, by their truths. Labels are drawn anew each time, in
    seconds: another threshold does not need another probability.
    """
    kept = sum(outcome.state == "skipped" for outcome in outcomes)
    if kept:
        log.info("%d probabilities finished before, kept (--overwrite makes them again)", kept)
    pairs = [(job, outcome) for job, outcome in zip(jobs, outcomes) if outcome.state != "failed"]
    if choose and pairs:
        probabilities, truths = ([_volume(path) for path in paths] for paths in zip(*(
            (job.probability, job.truth) for job, _ in pairs if job.truth is not None)))
        labelling = replace(labelling, threshold=choose_threshold(probabilities, truths, judging.wanted))
    became, figures = [], []
    for job, outcome in zip(jobs, outcomes):
        if outcome.state != "failed":
            try:
                figures.append(_label(job, labelling, judging))
                outcome = Outcome(job.scene, job.labels, "written")
            except UserError as error:
                outcome = Outcome(job.scene, job.labels, "failed", str(error))
        became.append(outcome)
    settings = {"threshold": labelling.threshold, "peak": labelling.strong, "smallest": labelling.smallest,
                "tolerance": judging.tolerance}
    return became, {**settings, "tomograms": figures, **summary(figures)}


def _label(job: Job, labelling: Labelling, judging: Judging) -> dict[str, Any]:
    """Draw the labels of one tomogram; its figures."""
    probability = read(job.probability, "zyx")
    pixel_size = known_pixel_size(probability)
    with create(job.labels, probability.space, probability.geometry, label=f"membranes above {labelling.threshold:g}",
                int8=True) as labels:
        components = labelling.into(labels, probability.views[0], pixel_size)
        share = sum(int(section.sum(dtype=np.int64)) for section in labels) / labels.size
    figures = {"name": job.scene.name, "components": components, "share": share}
    if job.truth is None:
        return figures
    return figures | scores(_volume(job.labels), _volume(job.truth), judging.tolerance / pixel_size, judging.wanted)


def _volume(path: Path) -> Any:
    return read(path, "zyx").views[0]


def summary(tomograms: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Mean and standard error (null for a lone tomogram) of each score over the tomograms that have them."""
    judged = [figures for figures in tomograms if "dice" in figures]
    values = {name: [figures[name] for figures in judged] for name in FIGURES} if judged else {}
    errors = {name: statistics.stdev(v) / len(v) ** 0.5 if len(v) > 1 else None for name, v in values.items()}
    return {"mean": {name: statistics.fmean(v) for name, v in values.items()}, "se": errors}


def markdown(figures: Mapping[str, Any]) -> str:
    """The scores as a table: a row for each tomogram, then the mean ± its standard error."""
    titles = " | ".join(TITLES[name] for name in FIGURES)
    lines = [f"| tomogram | {titles} (within {figures['tolerance']:g} Å) |", "|:---|" + "---:|" * len(FIGURES)]
    for row in figures["tomograms"]:
        lines.append(f"| {row['name']} | " + " | ".join(f"{row[name]:.3f}" for name in FIGURES) + " |")
    errors = {name: "" if error is None else f" ± {error:.3f}" for name, error in figures["se"].items()}
    means = (f"{value:.3f}{errors[name]}" for name, value in figures["mean"].items())
    return "\n".join([*lines, "| mean | " + " | ".join(means) + " |"])
