"""deice segment: membranes in tomograms."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True)
class LabellingParameters:
    """How labels are drawn from the probability.

    Parameters
    ----------
    threshold
        Probability from which on a voxel is membrane; 0.5.
    choose_threshold
        Take the threshold of the highest mean Dice on these tomograms, by --truth, and say it: for validation
        tomograms, to be frozen for all others.
    peak
        Probability that one voxel of a patch must have; the threshold.
    smallest
        Å³ of the smallest patch that is kept; 2,000,000, as 200 × 200 × 50.
    """

    threshold: float | None = None
    choose_threshold: Annotated[bool, Parameter(negative="")] = False
    peak: float | None = None
    smallest: float | None = None

    def given(self) -> dict[str, float]:
        """What was said of the labelling."""
        values = {"threshold": self.threshold, "peak": self.peak, "smallest": self.smallest}
        return {name: value for name, value in values.items() if value is not None}


def segment(
    *tomograms: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    method: Literal["ridge"] | None = None,
    model: Annotated[str | None, Parameter(name=["--model", "-m"])] = None,
    labelling: LabellingParameters = LabellingParameters(),
    bright: Annotated[bool, Parameter(negative="")] = False,
    truth: Path | None = None,
    membrane_labels: Annotated[list[int] | None, Parameter(consume_multiple=True, negative=())] = None,
    tolerance: float = 20.0,
    pixel_size: float | None = None,
    device: str = "auto",
    max_memory: str | None = None,
    tile: int | None = None,
    overwrite: bool = False,
    json: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
) -> None:
    """Find membranes in tomograms: a volume of labels and one of probability, and scores where the truth is known.

    Example: deice segment denoised/ -o membranes

    Writes DIR/NAME.mrc (bytes, 1 = membrane) and DIR/NAME_probability.mrc (0 to 1). A probability that was finished
    before is kept; labels are drawn from it anew, so that another --threshold takes seconds.

    Parameters
    ----------
    tomograms
        Files, globs or folders; two halves, paired by name, are one tomogram.
    out
        Folder of the results.
    method
        ridge (the usual): a classical detector of sheets; its figure is a score, not a calibrated probability.
    model
        In place of a method: a run of deice train --scheme segmentation, or its model's file.
    bright
        ridge: membranes are bright on dark.
    truth
        Folder of label volumes with the same names: Dice, IoU, precision, recall and surface-Dice.
    membrane_labels
        Which values of the truth are membrane; 1.
    tolerance
        Å between surfaces that count as the same, of surface-Dice.
    pixel_size
        Å per voxel, where the header does not know or lies.
    device
        auto, cpu or cuda.
    max_memory
        Memory of the tiles: the GPU's, or on the CPU the process's anonymous memory, such as 2GB.
    tile
        Voxels along each axis of a tile (what the memory allows, if not given).
    overwrite
        Make finished probabilities again.
    json
        Write every figure to this file, "-" for stdout.
    """
    from deice.batch import finish
    from deice.cli.figures import write_json
    from deice.cli.options import listen
    from deice.cli.progress import progress, say
    from deice.conditions import Conditions
    from deice.devices import choose_device, parse_bytes
    from deice.errors import RecipeFault
    from deice.membranes import Labelling, Ridge, choose_detector
    from deice.membranes.files import Judging, label_all, markdown, plan, write_probabilities
    from deice.scenes import expand, group

    listen()
    if model is not None and (method is not None or bright):
        raise RecipeFault("--model and --method or --bright; expected one detector: leave the others out")
    if labelling.choose_threshold and (truth is None or labelling.threshold is not None):
        raise RecipeFault("--choose-threshold finds the threshold by --truth; expected --truth, and no --threshold")
    if tile is not None and tile < 1:
        raise RecipeFault(f"--tile is {tile}; expected 1 or more voxels")
    judging = Judging(tolerance, tuple(membrane_labels or [1]))
    drawn = Labelling(**labelling.given())
    detector = choose_detector(model) if model is not None else Ridge(bright=bright)
    conditions = Conditions(choose_device(device), "auto", parse_bytes(max_memory) if max_memory else None, tile)
    files = expand(tomograms)
    jobs, outcomes = plan(group(files), out, files, truth), []
    with progress("segmenting", len(jobs)) as bar:
        for outcome in write_probabilities(jobs, detector, conditions, pixel_size, overwrite):
            outcomes.append(outcome)
            bar.advance()
    outcomes, figures = label_all(jobs, outcomes, drawn, judging, labelling.choose_threshold)
    write_json(figures, json)
    if labelling.choose_threshold:
        say(f"threshold {figures['threshold']:g}")
    if figures["mean"] and json != "-":
        print(markdown(figures))
    finish(outcomes)
