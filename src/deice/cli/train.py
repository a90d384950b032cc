"""deice train: from files to a model."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from deice.cli.training_flags import NO_FLAGS, Flags

FINE_TUNING = {"lr": 3e-4, "warmup": 0.05}  # what a trained model begins with, where nothing else is said

if TYPE_CHECKING:
    from deice.runs import Step


def train(
    *inputs: str,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    recipe: Path | None = None,
    flags: Flags = NO_FLAGS,
    begin: Annotated[str | None, Parameter(name="--from")] = None,
    resume: bool = False,
    tensorboard: bool = False,
    device: str = "auto",
    max_memory: str | None = None,
) -> None:
    """Train a denoiser; the best model by validation is kept.

    Example: deice train halves/ -o run --minutes 10

    On all GPUs of a machine: torchrun --nproc-per-node gpu -m deice train halves/ -o run --batch 128

    Writes RUN/model.safetensors (best), RUN/state.pt, RUN/metrics.jsonl and RUN/recipe.toml (complete, as run).
    Halves are paired by name: _EVN/_ODD, _half1/_half2, even/ and odd/ folders.

    Parameters
    ----------
    inputs
        Files, globs or folders; or a folder of packed .bin pairs.
    out
        Folder of the run; needed, but for --net list.
    recipe
        TOML file with the whole configuration; flags override it.
    begin
        Model to start from: a run's folder, a .safetensors file, or pretrained, the one in this package. The net is
        its net; the rate, where nothing else is said, a third of the usual.
    resume
        Go on with the run in RUN, bit for bit as if it had not been stopped.
    tensorboard
        Write the curves to RUN/tensorboard too (pip install 'deice[tensorboard]').
    device
        auto, cpu or cuda.
    max_memory
        Cap of the memory of each GPU, such as 8GB.
    """
    from deice.cli.options import listen
    from deice.devices import parse_bytes
    from deice.errors import RecipeFault
    from deice.ranks import joined
    from deice.recipe import from_table, merged, read_table
    from deice.runs import RECIPE
    from deice.tensorboard import shown_in_tensorboard
    from deice.training import run

    listen()
    if flags.net == "list":
        list_nets()
        return
    with joined(device) as ranks:
        if out is None:
            raise RecipeFault("no -o; expected the folder of the run, as deice train halves/ -o run")
        written = out / RECIPE if resume else recipe
        base = read_table(written) if written else {"training": FINE_TUNING} if begin else {}
        complete = from_table(merged(base, flags.tables(inputs)))
        if not complete.data.inputs and not complete.data.world:
            raise RecipeFault("no input; expected files, globs or folders, or [data] inputs in the recipe")
        steps = run(complete, complete.data.inputs, out, target=complete.data.target, device=device, resume=resume,
                    start=begin, max_memory=parse_bytes(max_memory) if max_memory else None)
        if tensorboard and ranks.first:
            steps = shown_in_tensorboard(steps, out / "tensorboard")
        if ranks.first:
            show(steps, out)
        else:
            deque(steps, maxlen=0)


def show(steps: Iterator["Step"], out: Path) -> None:
    """Run through the steps, with their figures and what came of them on stderr."""
    from deice.cli.progress import progress, say

    best = step = None
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


def list_nets() -> None:
    """What each net costs and how far it sees, on two axes, as lines on stdout."""
    from deice.nets import describe

    heads = ("--net", "parameters", "receptive field (pixels)", "multiply-adds per pixel")
    rows = [(row.flag, f"{row.parameters:,}", str(row.receptive_field), f"{row.multiply_adds_per_pixel:,}")
            for row in describe(axes=2)]
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    for row in [heads, *rows]:
        print("  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]))
