"""deice report: one self-contained HTML page of a run."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def report(folder: Path, /, *, out: Annotated[Path, Parameter(name=["--out", "-o"])]) -> None:
    """One self-contained HTML page of a run: before and after, what was removed, figures, curves, the recipe.

    Shows what the folder holds of: a training run (metrics.jsonl, recipe.toml, model.safetensors; here or in run/),
    pictures (denoised/, halves/, micrographs/, truth/, denoised_halves/, matched by file name) and table.json.
    Extract particles from the raw data, never from denoised images.

    Example: deice report demo -o demo/report.html

    Parameters
    ----------
    folder
        The folder of a run, or one laid out as that of deice demo.
    out
        The page to write; it needs no other file and no network.
    """
    from deice.cli.progress import say
    from deice.report import write_page

    path = write_page(folder, out)
    say(f"{path}, {path.stat().st_size / 1e6:.1f} MB")
