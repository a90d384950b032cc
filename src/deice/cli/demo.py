"""deice demo: the whole road on a laptop's CPU."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True)
class Size:
    """How large the demo is.

    Parameters
    ----------
    training
        Movies to learn from.
    unseen
        Movies of other proteins, which are judged.
    size
        Pixels along each side of a movie's frames.
    frames
        Frames of a movie; 40 electrons/Å² in all.
    coverage
        Share of the area under particles.
    minutes
        Minutes of training.
    steps
        Steps of training, in place of minutes.
    seed
        Same seed, same movies.
    """

    training: int = 12
    unseen: int = 4
    size: int = 768
    frames: int = 20
    coverage: float = 0.08
    minutes: float = 3.0
    steps: int | None = None
    seed: int = 0


def demo(
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("demo"),
    settings: Size = Size(),
) -> None:
    """The whole road: movies simulated, split, trained on, denoised, measured against truth, reported.

    Example: deice demo -o demo

    Writes DIR/report.html, and what it was made from: DIR/denoised, DIR/truth, DIR/halves, DIR/table.json.

    Parameters
    ----------
    out
        Folder of everything the demo writes, about 700 MB.
    """
    from deice.cli.options import listen
    from deice.cli.progress import progress, say
    from deice.demo import Demo, road
    from deice.io import writable_folder
    from deice.judgement import markdown

    listen()
    writable_folder(out)
    stages = road(out, Demo(**vars(settings)))
    stage = next(stages, None)
    while stage is not None:
        name = stage.name
        with progress(name, stage.total, "done") as bar:
            while stage is not None and stage.name == name:
                bar.reach(round(stage.done, 3), **stage.figures)
                stage = next(stages, None)
    print(markdown(json.loads((out / "table.json").read_text())))
    say(f"look at {out / 'report.html'}")
