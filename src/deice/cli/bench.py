"""deice bench: the tables of docs/benchmarks, on this machine."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from deice.cli.bench_speed import speed, stream

bench = App(name="bench", help="The tables of docs/benchmarks, on this machine.")
bench.command(speed)
bench.command(stream)


@bench.command
def quality(
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    suite: Literal["micrographs", "tomograms"] = "micrographs",
    levels: str = "0.3,0.1,0.05,0.02,0.01",
    methods: str | None = None,
    recipe: Path | None = None,
    minutes: float | None = None,
    train: int | None = None,
    test: int | None = None,
    size: int | None = None,
    with_ice: bool = False,
    seed: int = 0,
    device: str = "auto",
    topaz: str | None = None,
    workers: int = 1,
) -> None:
    """Methods on simulated scenes whose truth is known, at several noise levels; one table a level.

    Builds a training set and a test set of other proteins in DIR/data, trains, denoises and judges; what is finished
    is not done again. Writes DIR/quality.md, .csv, .json and .png, and every estimate under DIR/snr_LEVEL/METHOD.
    noisy, pointwise, gaussian, wiener and tegunov, fitted with the truth in hand, stand in every table.

    Example: deice bench quality --suite micrographs -o quality --levels 0.02,0.01 --minutes 8

    Parameters
    ----------
    out
        Folder of the suite and of its tables.
    suite
        micrographs or tomograms.
    levels
        Signal/noise variance per pixel of the full average.
    methods
        What stands beside the baselines: deice (trained on the suite's training halves), FILE.toml (the same by
        another recipe), a model (each with @full: given the average of all frames; @halves: the mean of both halves,
        each denoised by itself), a filter with
        its parameters, pretrained (the packaged model, given the average of all frames and nothing else),
        topaz:unet, topaz:unet,cutoff=4, topaz:unet-small, topaz:fcnn, topaz:trained,epochs=100; of tomograms
        topaz:unet-3d-10a, topaz:unet-3d-20a. Without it: deice, and of micrographs Topaz's pretrained models where
        Topaz is known.
    recipe
        TOML file for the method deice, instead of the default recipe.
    minutes
        Minutes of training at each level, instead of the recipe's.
    train
        Scenes to train on.
    test
        Scenes to judge on.
    size
        Pixels along the long axes of a scene.
    with_ice
        Judge against the truth with the structure of the ice, which no number of electrons would remove.
    seed
        Other seeds: other scenes, other proteins, another training.
    device
        auto, cpu or cuda.
    topaz
        The python of the environment that Topaz lives in (or the variable DEICE_TOPAZ_PYTHON).
    workers
        Scenes that are drawn at the same time, each by a process of its own.
    """
    from deice.bench.methods import split_methods
    from deice.bench.page import as_markdown
    from deice.bench.quality import Plan, extent_of, run
    from deice.cli.options import listen
    from deice.errors import RecipeFault

    listen()
    try:
        ratios = tuple(float(level) for level in levels.split(","))
    except ValueError:
        raise RecipeFault(f"--levels {levels}; expected numbers, as 0.02,0.01") from None
    extent = extent_of(suite, levels=ratios, seed=seed, train=train, test=test, size=size)
    plan = Plan(suite, extent, tuple(split_methods(methods or "")), recipe, minutes, device, topaz, with_ice,
                workers=workers)
    print(as_markdown(run(out, plan)))


@bench.command
def sources(
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    only: str | None = None,
    minutes: float | None = None,
    scale: Literal["full", "small"] = "full",
    parallel: int = 1,
    workers: int = 1,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """The tables of the source documents on simulated pictures whose truth is known, theirs beside ours.

    Draws the pictures into DIR/data, then works on the rows of the tables, each a training with its measurement. A row
    is kept as DIR/rows/NAME.json when it is done: the same command again goes on with what is left. Writes
    DIR/sources.md, .csv and .json, and each table as DIR/tables/NAME.md.

    Example: deice bench sources -o sources --minutes 9 --parallel 6 --workers 16

    Parameters
    ----------
    out
        Folder of pictures, rows and tables.
    only
        Tables, or how their names begin, as v29,v32: v33_clean, v33_shot, v32_clean, v32_shot, v29, v31, n2n, v28f.
    minutes
        Length of this leg: no row is begun that would not fit into it.
    scale
        full, for a GPU; small to try it: tiny pictures, a few steps.
    parallel
        Rows at a time on one device; a row that states a time has it for itself.
    workers
        Pictures that are drawn at the same time, each by a process of its own.
    seed
        Other seeds: other pictures, other proteins.
    device
        auto, cpu or cuda.
    """
    from deice.bench.sources import Plan, run
    from deice.cli.options import listen

    listen()
    names = tuple(filter(None, (only or "").split(",")))
    document = run(out, Plan(names, minutes, scale, parallel, device, workers, seed))
    print((out / "sources.md").read_text())
    print(f"Left: {', '.join(document['left']) or 'nothing'}.")


@bench.command
def tomograms(
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    minutes: float | None = None,
    scenes: int = 3,
    size: Annotated[tuple[int, int, int], Parameter(negative="")] = (64, 192, 192),
    levels: str = "0.15,0.05",
    methods: str | None = None,
    budget: float = 25.0,
    parallel: int = 1,
    segmenter: float = 20.0,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Every method that could denoise one tomogram, each trained on that very tomogram, in one table a noise level.

    Draws the tomograms into DIR/data, then works on the rows, a method on a scene at a level. A row is kept as
    DIR/rows/NAME.json when it is done: the same command again goes on with what is left. Writes DIR/tomograms.md, .csv,
    .json and .png (central planes, shell correlations), and DIR/trainings.png (validation over time).

    Example: deice bench tomograms -o tomograms --minutes 9 --parallel 8

    Parameters
    ----------
    out
        Folder of tomograms, rows and tables.
    minutes
        Length of this leg: no row is begun that would not fit into it; 0 writes the tables of the rows there are.
    scenes
        How many tomograms, each with proteins of its own.
    size
        Voxels of 10 Å along z, y and x.
    levels
        Signal/noise variance per voxel of all frames.
    methods
        Of the table, as raw,f2fd: raw, gaussian, tegunov, wiener, recorrupted, f2fd, noise2void, noise2void_z,
        self2self, self2self_blocks, isonet, missing_wedge, cryocare, noise2noise, truth. Without it all.
    budget
        Seconds that ours may train for; a rival has three times as many, and stops where its own validation is flat.
    parallel
        Rows at a time, each in a process of its own, spread over all GPUs that are visible.
    segmenter
        Seconds that a net is trained to find membranes in each kind of input, on the other scenes; 0: the ridge only.
    seed
        Other seeds: other tomograms.
    device
        auto, cpu or cuda.
    """
    from deice.bench.rivals import Plan, run
    from deice.cli.options import listen
    from deice.errors import RecipeFault

    listen()
    try:
        ratios = tuple(float(level) for level in levels.split(","))
    except ValueError:
        raise RecipeFault(f"--levels {levels}; expected numbers, as 0.15,0.05") from None
    names = tuple(filter(None, (methods or "").split(",")))
    document = run(out, Plan(minutes, scenes, size, ratios, names, budget, parallel, device, seed, segmenter))
    print((out / "tomograms.md").read_text())
    print(f"Left: {', '.join(document['left']) or 'nothing'}.")
