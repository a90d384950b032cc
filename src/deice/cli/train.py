"""deice train: from files to a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True)
class Flags:
    """What differs between runs; everything else stands in the recipe.

    Parameters
    ----------
    target
        Folder of targets, named as the inputs: the pair is learnt in this direction only.
    scheme
        noise2noise (halves), noise2void (single images), supervised (clean images, or --target);
        of tomograms also missing_wedge (halves), isonet and self2self (single ones);
        with settings where wanted: noise2void:share=0.02.
    net
        unet or residual_cnn, with settings where wanted: unet:size=16,depth=4.
    loss
        mse, l1, charbonnier, l2, fourier, ssim, gradient, multiscale, or several by weight: mse+0.1*fourier.
    epochs
        Length of the run: so many times the data.
    steps
        Length of the run in steps.
    minutes
        Length of the run in minutes.
    batch
        Windows a step.
    patch
        Pixels along each axis of a training window.
    lr
        Peak learning rate.
    axes
        zyx for volumes whose header does not say so.
    tilt_range
        First and last tilt in degrees, -60,60, for missing_wedge and isonet; as the .tlt, .rawtlt or .mdoc file
        beside each tomogram says, if not given.
    order
        random (local disks) or window (network disks: whole files, a few at a time).
    normaliser
        standard, percentile or none.
    precision
        auto, fp32, bf16 or fp16.
    seed
        Same seed, same run.
    """

    target: Path | None = None
    scheme: str | None = None
    net: str | None = None
    loss: str | None = None
    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None
    batch: int | None = None
    patch: int | None = None
    lr: float | None = None
    axes: Literal["zyx"] | None = None
    tilt_range: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    order: str | None = None
    normaliser: str | None = None
    precision: str | None = None
    seed: int | None = None

    def tables(self, inputs: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """The flags in the recipe's tables."""
        from deice.io.tilts import parse_tilt_range
        from deice.recipe import parse_component

        return {
            "data": {"inputs": list(inputs) or None, "target": str(self.target) if self.target else None,
                     "axes": self.axes, "window": self.patch, "order": self.order, "normaliser": self.normaliser,
                     "tilt_range": parse_tilt_range(self.tilt_range) if self.tilt_range is not None else None},
            "scheme": parse_component(self.scheme) if self.scheme else {},
            "net": parse_component(self.net) if self.net else {},
            "training": {"epochs": self.epochs, "steps": self.steps, "minutes": self.minutes,
                         "batch": self.batch, "lr": self.lr, "loss": self.loss, "precision": self.precision,
                         "seed": self.seed},
        }


def train(
    *inputs: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    recipe: Path | None = None,
    flags: Flags = Flags(),
    begin: Annotated[Path | None, Parameter(name="--from")] = None,
    resume: bool = False,
    device: str = "auto",
    max_memory: str | None = None,
) -> None:
    """Train a denoiser; the best model by validation is kept.

    Example: deice train halves/ -o run --minutes 10

    Writes RUN/model.safetensors (best), RUN/state.pt, RUN/metrics.jsonl and RUN/recipe.toml (complete, as run).
    Halves are paired by name: _EVN/_ODD, _half1/_half2, even/ and odd/ folders.

    Parameters
    ----------
    inputs
        Files, globs or folders; or a folder of packed .bin pairs.
    out
        Folder of the run.
    recipe
        TOML file with the whole configuration; flags override it.
    begin
        Model to start from.
    resume
        Go on with the run in RUN, bit for bit as if it had not been stopped.
    device
        auto, cpu or cuda.
    max_memory
        Cap of the GPU's memory, such as 8GB.
    """
    from deice.cli.options import listen
    from deice.cli.progress import progress, say
    from deice.devices import parse_bytes
    from deice.errors import RecipeFault
    from deice.recipe import from_table, merged, read_table
    from deice.runs import RECIPE
    from deice.training import run

    listen()
    written = out / RECIPE if resume else recipe
    base = read_table(written) if written else {}
    complete = from_table(merged(base, flags.tables(inputs)))
    if not complete.data.inputs:
        raise RecipeFault("no input; expected files, globs or folders, or [data] inputs in the recipe")
    best = step = None
    steps = run(complete, complete.data.inputs, out, target=complete.data.target, device=device, resume=resume,
                start=begin, max_memory=parse_bytes(max_memory) if max_memory else None)
    with progress("training", total=1.0, unit="of the run") as bar:
        for step in steps:
            best = step.validation if step.best else best
            shown = {"loss": step.loss, "validation": best, "windows/s": step.windows_per_second}
            bar.reach(round(step.fraction, 3), **{name: value for name, value in shown.items() if value is not None})
    if step is None:
        say(f"{out}: finished before; nothing left to do")
    elif best is None:
        say(f"{out}: no validation was better than those before")
    else:
        say(f"best validation {best:.6g} · {out}/model.safetensors")
