"""deice bench speed and deice bench stream: how fast it is on this machine, beside what else there is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

if TYPE_CHECKING:
    from deice.bench.speed import Plan


def speed(
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    rows: str | None = None,
    minutes: float | None = None,
    scale: Literal["full", "small"] = "full",
    device: str = "auto",
    count: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    size: Annotated[tuple[int, int] | None, Parameter(negative="")] = None,
    memory: Path = Path("/dev/shm"),
    disk: Path | None = None,
    topaz: str | None = None,
    compiled: bool = True,
) -> None:
    """Kernels, training steps, files to files and movies, beside PyTorch, copying, reading and Topaz.

    Each row is checked before it is timed: one whose values or gradients are wrong states its error and no speed, and
    the command ends with exit code 3. A row is kept as DIR/rows/NAME.json when it is done: the same command again goes
    on with what is left. Writes DIR/speed.md, .csv and .json. Pictures are random; what is written for the
    measurement is removed.

    Example: deice bench speed -o speed --rows cnn,unet --minutes 8

    Parameters
    ----------
    out
        Folder of rows and tables.
    rows
        Names, or how they begin: cnn_inference, cnn_micrograph, cnn_training, unet_training, unet3d_training,
        files_cnn_memory, files_unet_memory, files_cnn_disk, files_unet_disk, files_cpu, split_int8, split_int16,
        split_lzw, split_eer. Without it all.
    minutes
        Length of this leg: no row is begun that would not fit into it; 0 writes the tables of the rows there are.
    scale
        full, for a GPU; small to try it.
    device
        auto, cpu or cuda.
    count
        Micrographs from file to file (32).
    size
        Their rows and columns (7676 7420).
    memory
        A folder in memory, for the files that are read from there.
    disk
        A folder on the disk (DIR, if not given).
    topaz
        The python of the environment that Topaz lives in (or the variable DEICE_TOPAZ_PYTHON).
    compiled
        Let PyTorch compile too, which takes half a minute a row.
    """
    from deice.bench.speed import Plan

    run_and_print(out, Plan("speed", listed(rows), minutes, scale, device, count, size, memory, disk, topaz, compiled))


def stream(
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    rows: str | None = None,
    minutes: float | None = None,
    scale: Literal["full", "small"] = "full",
    device: str = "auto",
    disk: Path | None = None,
) -> None:
    """The loader of training beside raw reads; training from 80 GB of files, and on 1, 2, 4 and 8 GPUs.

    A row is kept as DIR/rows/NAME.json when it is done. Writes DIR/stream.md, .csv and speed.json. The page cache is
    dropped before each reading, and the share of the bytes that then came from the disk is stated.

    Example: deice bench stream -o stream --disk /scratch

    Parameters
    ----------
    out
        Folder of rows and tables.
    rows
        Names, or how they begin: load_random, load_window, train. Without it all.
    minutes
        Length of this leg: no row is begun that would not fit into it; 0 writes the tables of the rows there are.
    scale
        full, or small to try it.
    device
        auto, cpu or cuda.
    disk
        A folder on the disk (DIR, if not given).
    """
    from deice.bench.speed import Plan

    run_and_print(out, Plan("stream", listed(rows), minutes, scale, device, disk=disk))


def listed(rows: str | None) -> tuple[str, ...]:
    """The names between commas."""
    return tuple(filter(None, (rows or "").split(",")))


def run_and_print(out: Path, plan: "Plan") -> None:
    """Run a leg and print its tables, also where rows failed."""
    from deice.bench.speed import run
    from deice.cli.options import listen

    listen()
    page = out / f"{plan.door}.md"
    try:
        run(out, plan)
    finally:
        if page.exists():
            print(page.read_text())
