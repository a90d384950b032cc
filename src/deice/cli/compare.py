"""deice compare: several methods on the same files, one table."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def compare(
    *inputs: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    methods: str,
    truth: Path | None = None,
    axes: Literal["zyx"] | None = None,
    pixel_size: float | None = None,
    device: str = "auto",
    topaz: str | None = None,
) -> None:
    """Several methods on the same files: a table, a figure, and every method's estimates.

    Against a truth the table holds what a denoiser must beat, fitted with the truth in hand. Without one the halves
    judge: even/odd correlation and FRC of the denoised halves, which rise with any smoothing, and beside them the
    correlation of what was removed from each, which is 0 where only noise was removed.
    Writes DIR/table.md, .csv, .json and .png, and under DIR/METHOD the estimates, named as the inputs.

    Example: deice compare halves/ -o compared --methods run,gaussian:sigma=3,topaz:unet

    Parameters
    ----------
    inputs
        Files, globs or folders; halves are paired by name: _EVN/_ODD, _half1/_half2, even/ and odd/ folders.
    out
        Folder of the table.
    methods
        Separated by commas: a run's folder or a .safetensors model (with @full: given the
        average of both halves; @halves: the mean of both, each denoised by itself),
        gaussian:sigma=3, lowpass:cutoff=20, wiener:defocus=1.5,strength=1, topaz:unet, topaz:unet,cutoff=4.
    truth
        Folder of noiseless images with the same file names.
    axes
        zyx for volumes whose header does not say so.
    pixel_size
        Å per pixel, where the header does not say or is wrong.
    device
        auto, cpu or cuda.
    topaz
        The python of the environment that Topaz lives in (or the variable DEICE_TOPAZ_PYTHON).
    """
    from deice.bench.comparison import Files, as_markdown, compare_files
    from deice.bench.methods import split_methods
    from deice.cli.options import listen

    listen()
    files = Files(inputs, truth, axes, pixel_size)
    print(as_markdown(compare_files(files, split_methods(methods), out, device=device, topaz=topaz)))
