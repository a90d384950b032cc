"""Movies to halves: even, odd and full averages, for arrays in memory and for files in batches.

Noise2Noise needs two pictures of one scene whose noise is independent: the averages of a movie's even and odd frames.
"""

import dataclasses
import difflib
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deice import io
from deice.errors import BatchFailure, FileFault, RecipeFault, UserError
from deice.image import Image
from deice.io.gain import turn
from deice.io.stored import Frames
from deice.movies.halves import Halves, Sums, average, split_movie, sum_movie, write_halves
from deice.movies.pattern import estimate_gain
from deice.scenes import expand, stem

__all__ = ["Outcome", "Splitting", "split", "split_files"]

log = logging.getLogger(__name__)

GAIN_NAME = "gain_estimated.mrc"
UNDER_WAY = 2  # movies: each takes the memory of its averages


@dataclass(frozen=True)
class Splitting:
    """How movies are split.

    gain: a gain reference, a file or multiplicative (y, x) with 0 = defect.  gain_rotation: 0–3 × 90° clockwise, then
    gain_flip: 0 none, 1 upside down, 2 left to right (RELION's --gain_rot and --gain_flip).
    estimate_gain: the pattern that all movies of the set share is divided out.  align: whole-frame drift is undone.
    eer_frames, eer_superres: into how many frames an EER file is summed, and on which grid (0: 4k, 1: 8k, 2: 16k).
    pixel_size: Å, replaces the header's.  float16: write half precision.  seed: of the draws for defects.
    overwrite: split again what is finished.
    """

    gain: Path | str | np.ndarray | None = None
    gain_rotation: int = 0
    gain_flip: int = 0
    estimate_gain: bool = False
    align: bool = False
    eer_frames: int | None = None
    eer_superres: int = 0
    pixel_size: float | None = None
    float16: bool = False
    seed: int = 0
    overwrite: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of one file: the figures of its split, or why it failed; `skipped` if it was finished before."""

    path: Path
    outputs: tuple[Path, Path, Path]
    figures: dict[str, Any] | None = None
    failure: UserError | None = None
    skipped: bool = False

    def report(self) -> dict[str, Any]:
        """The file, its state (written, skipped, failed), its outputs and figures: for machines."""
        state = "failed" if self.failure else "skipped" if self.skipped else "written"
        report = {"movie": str(self.path), "state": state, "outputs": [str(path) for path in self.outputs]}
        return report | (self.figures or {}) | ({"reason": str(self.failure)} if self.failure else {})


def split(
    movies: Path | str | np.ndarray | Image | Iterable[Any],
    out: Path | str | None = None,
    **options: Any,
) -> Image | list[Image]:
    """Even and odd averages of each movie (t, y, x): an Image of views (2, y, x), even first; a list for a list.

    Even are frames 0, 2, 4 … counted from 0. Averages, in the units of one frame: with an odd number of frames, the
    even one has a frame more and the same signal. `options` are the fields of `Splitting`.
    out: a folder for `<stem>_EVN.mrc`, `<stem>_ODD.mrc` and `<stem>.mrc` (all frames), which takes files, globs
    and folders; the Images then read from there, and what is finished there is not done again.
    Raises UserError for a movie that cannot be split; BatchFailure, after all others are done, where some failed.
    """
    how = _splitting(options)
    one = isinstance(movies, Path | str | np.ndarray | Image)
    several: list[Any] = [movies] if one else list(movies)
    if out is None:
        images = list(_split_in_memory(several, how))
        return images[0] if one and len(images) == 1 else images
    if any(isinstance(movie, np.ndarray | Image) for movie in several):
        raise UserError("out= names files after the movies' own, and an array has no name; expected paths: "
                        "or write with deice.write what split returns")  # fmt: skip
    outcomes = list(split_files(expand(several), out, how))
    raise_failures(outcomes)
    images = [_written_halves(outcome) for outcome in outcomes]
    return images[0] if one and len(images) == 1 else images


def split_files(paths: Sequence[Path], out: Path | str, how: Splitting) -> Iterator[Outcome]:
    """Split each file into the folder `out`, yielding what became of it; finished outputs are skipped.

    Everything is refused before any work if two outputs would have one name, or one would overwrite an input.
    With `how.estimate_gain`, `out`/gain_estimated.mrc (multiplicative, `how.gain` included) is made first, or taken
    if it is there.
    Raises UserError for what is wrong with the whole batch.
    """
    out = Path(out)
    jobs = {path: _outputs(path, out) for path in paths}
    _refuse_collisions(jobs, how, out)
    io.writable_folder(out)
    finished = {path for path, outputs in jobs.items() if not how.overwrite and all(map(_complete, outputs))}
    if how.estimate_gain and len(finished) < len(jobs):
        how = _with_estimated_gain(paths, out, how)
    # a movie is read while the one before is searched for defects and written: the disk is never idle
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as averaging, ThreadPoolExecutor(1) as writing:
        under_way: deque[Future[Outcome]] = deque()
        for path, outputs in jobs.items():
            made: Future[Halves] | None = None
            if path not in finished:
                made = averaging.submit(_averaged, reading.submit(_summed, path, how), how)
            under_way.append(writing.submit(_outcome, path, outputs, made, how.float16))
            if len(under_way) == UNDER_WAY:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def raise_failures(outcomes: Sequence[Outcome]) -> None:
    """The error itself if the only file failed, BatchFailure if some of many did."""
    failures = [(outcome.path, outcome.failure) for outcome in outcomes if outcome.failure is not None]
    if failures and len(outcomes) == 1:
        raise failures[0][1]
    if failures:
        named = [(str(path), str(failure).removeprefix(f"{path}: ")) for path, failure in failures]
        raise BatchFailure(named, len(outcomes) - len(failures))


def _splitting(options: dict[str, Any]) -> Splitting:
    known = [field.name for field in dataclasses.fields(Splitting)]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1) or [", ".join(known)]
            raise RecipeFault(f"{name}: no option of split; expected {near[0]}")
    return Splitting(**options)


def _split_in_memory(movies: Sequence[Any], how: Splitting) -> Iterator[Image]:
    named: list[tuple[str, Path | np.ndarray | Image]] = []
    for number, movie in enumerate(movies):
        if isinstance(movie, np.ndarray | Image):
            named.append((f"movie {number}", movie))
        else:
            named += [(path.name, path) for path in expand(movie)]
    if how.estimate_gain:
        gain, _ = estimate_gain((_open(movie, how) for _, movie in named), lambda movie: _gain_of(movie, how))
        how = replace(how, gain=gain, gain_rotation=0, gain_flip=0)
    for name, source in named:
        movie = _open(source, how)
        halves = split_movie(movie, _gain_of(movie, how), how.align, how.seed, name)
        yield Image(np.stack([halves.even, halves.odd]), halves.geometry)


def _open(source: Path | np.ndarray | Image, how: Splitting) -> Image:
    """A movie (t, y, x); UserError if it is none."""
    if isinstance(source, Path):
        return io.read_movie(source, how.eer_frames, how.eer_superres, how.pixel_size)
    movie = source if isinstance(source, Image) else Image(source)
    if len(movie.views.shape) != 3:
        raise UserError(f"an array of shape {tuple(movie.views.shape)}; expected a movie (t, y, x)")
    if how.pixel_size is None:
        return movie
    return replace(movie, geometry=movie.geometry.with_pixel_size(how.pixel_size))


def _gain_of(movie: Image, how: Splitting) -> np.ndarray | None:
    """The multiplicative gain (y, x) for `movie`, what is not finite or negative in it 0."""
    if how.gain is None:
        return None
    if isinstance(how.gain, np.ndarray):
        gain = turn(how.gain, how.gain_rotation, how.gain_flip).astype(np.float32)
        if gain.shape != movie.space:
            raise UserError(f"the gain has shape {gain.shape}, the movie's frames {movie.space}; expected the same")
    else:
        gain = np.array(io.read_gain(how.gain, movie, how.gain_rotation, how.gain_flip), np.float32)
    gain[~(np.isfinite(gain) & (gain > 0))] = 0
    return gain


def _outputs(path: Path, out: Path) -> tuple[Path, Path, Path]:
    name = stem(path)
    return out / f"{name}_EVN.mrc", out / f"{name}_ODD.mrc", out / f"{name}.mrc"


def _refuse_collisions(jobs: Mapping[Path, Sequence[Path]], how: Splitting, out: Path) -> None:
    inputs = {os.path.realpath(path): path for path in jobs}
    if isinstance(how.gain, Path | str):
        if not Path(how.gain).is_file():
            raise FileFault(how.gain, "no such gain reference; check the name")
        inputs[os.path.realpath(how.gain)] = Path(how.gain)
    owners: dict[str, Path] = {}
    for path, outputs in [*jobs.items(), *([(Path(GAIN_NAME), (out / GAIN_NAME,))] if how.estimate_gain else [])]:
        for output in outputs:
            place = os.path.realpath(output)
            if place in inputs:
                raise UserError(f"{output}: would overwrite the input {inputs[place]}; choose another folder with -o")
            if owners.setdefault(place, path) != path:
                raise UserError(f"{owners[place]} and {path}: both would write {output}; expected different names: "
                                "split them into different folders")  # fmt: skip


def _complete(output: Path) -> bool:
    try:
        return output.is_file() and min(io.read(output).space) > 0
    except FileFault as fault:
        log.warning("%s; it is made again", fault)
        return False


def _with_estimated_gain(paths: Iterable[Path], out: Path, how: Splitting) -> Splitting:
    """`how` with the set's own gain; movies that cannot be read are left out here, and named when they are split."""
    place = out / GAIN_NAME
    if how.overwrite or not _complete(place):

        def readable() -> Iterator[Image]:
            for path in paths:
                try:
                    yield _open(path, how)
                except UserError as error:
                    log.info("left out of the gain's estimation: %s", error)

        gain, figures = estimate_gain(readable(), lambda movie: _gain_of(movie, how))
        io.write(place, gain, label=f"gain estimated from {figures['movies']} movies")
        log.info("%s: pattern %.2f %%, error %.2f %%", place, 100 * figures["pattern"], 100 * figures["error"])
    return replace(how, gain=place, gain_rotation=0, gain_flip=0)


def _summed(path: Path, how: Splitting) -> Sums:
    movie = _open(path, how)
    return sum_movie(movie, _gain_of(movie, how), str(path))


def _averaged(summed: Future[Sums], how: Splitting) -> Halves:
    return average(summed.result(), how.align, how.seed)


def _outcome(
    path: Path, outputs: tuple[Path, Path, Path], made: Future[Halves] | None, float16: bool
) -> Outcome:
    """What became of a movie, its averages on the disk; `made` is None where they were there before."""
    if made is None:
        return Outcome(path, outputs, skipped=True)
    try:
        halves = made.result()
        write_halves(halves, outputs, float16)
    except UserError as error:
        return Outcome(path, outputs, failure=error)
    return Outcome(path, outputs, figures=halves.figures)


def _written_halves(outcome: Outcome) -> Image:
    even, odd = (io.read(path) for path in outcome.outputs[:2])
    views = Frames((2, *even.space), even.views.dtype, lambda half: np.asarray((even, odd)[half].views[0]))
    return Image(views, even.geometry)
