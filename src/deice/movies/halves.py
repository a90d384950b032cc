"""One movie to its even and odd averages: frames pass one at a time, however many there are."""

import logging
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deice.errors import UserError
from deice.image import Geometry, Image
from deice.io.mrc_writing import write_mrc
from deice.movies.sums import half_sums
from deice.ops.defects import draw_sources, find_defects
from deice.ops.drift import ShiftedSum, find_drift
from deice.ops.frames import block_mean, corrected

log = logging.getLogger(__name__)

ALIGNED_AT = 1024  # pixels: the longer axis of the small frames on which the drift is found
ALIGNED_BYTES = 192 << 20  # the most that the small frames of a movie may take together


@dataclass(frozen=True, eq=False)
class Halves:
    """A movie's averages: `even` of frames 0, 2, 4 … and `odd` of frames 1, 3, 5 …, float32 (y, x), per frame.

    counts: frames in each; a movie with an odd number has one more in `even`, of the same signal as it is an average.
    replaced: pixels replaced by draws.  shifts: (t, 2) pixels (y, x) applied to the frames, and their expected error
    in pixels; None where no alignment was asked for.
    """

    even: np.ndarray
    odd: np.ndarray
    counts: tuple[int, int]
    geometry: Geometry
    replaced: int
    shifts: np.ndarray | None = None
    shift_error: float | None = None

    @property
    def full(self) -> np.ndarray:
        """The average of all frames (y, x)."""
        share = np.float32(self.counts[0] / sum(self.counts))
        average = self.even - self.odd
        average *= share
        average += self.odd
        return average

    @property
    def figures(self) -> dict[str, Any]:
        """What was done, for machines."""
        return {
            "frames": sum(self.counts),
            "even": self.counts[0],
            "odd": self.counts[1],
            "replaced_pixels": self.replaced,
            "replaced_share": self.replaced / self.even.size,
            "shifts_yx_pixels": None if self.shifts is None else self.shifts.round(3).tolist(),
            "shift_error_pixels": None if self.shift_error is None else round(self.shift_error, 3),
        }


@dataclass(eq=False)
class Sums:
    """A movie's sums on their way to averages: `pair`, of the even and of the odd frames, float32 (y, x)."""

    movie: Image
    gain: np.ndarray | None
    name: str
    pair: tuple[np.ndarray, ...]


def split_movie(movie: Image, gain: np.ndarray | None, align: bool, seed: int, name: str) -> Halves:
    """Even and odd averages of `movie` (t, y, x): `sum_movie`, then `average`."""
    return average(sum_movie(movie, gain, name), align, seed)


def sum_movie(movie: Image, gain: np.ndarray | None, name: str) -> Sums:
    """Sums of the frames of `movie` (t, y, x) times `gain` (y, x; 0 = defect): the movie is read once.

    Raises UserError for fewer than two frames, for frames without any difference, FileFault for what cannot be read.
    """
    count = movie.views.shape[0]
    if count < 2:
        size = " x ".join(str(n) for n in reversed(movie.space))
        raise UserError(f"{name}: {count} frame of {size} pixels; expected a movie of at least 2 frames: a micrograph "
                        "has no halves, denoise it as it is")  # fmt: skip
    even, odd = half_sums(movie.views, gain)
    if even.min() == even.max() and odd.min() == odd.max():
        raise UserError(f"{name}: every pixel holds {even.flat[0] / ((count + 1) // 2):.6g}; expected frames of "
                        "counts: copy the movie again, or check the gain")  # fmt: skip
    return Sums(movie, gain, name, (even, odd))


def average(sums: Sums, align: bool, seed: int) -> Halves:
    """The averages of `sums`, whose arrays are used up: defects replaced, with `align` from aligned frames.

    Hot and dead pixels (deice.ops.defects says which) are replaced in every frame anew by a draw from their
    neighbourhood, seeded by `seed`, the movie's name and the frame's number: the halves share nothing that is not in
    the scene.
    align: the frames' drift is found and undone (deice.ops.drift). The movie is read once more, with `align` twice.
    Raises UserError where most pixels are defects.
    """
    movie, gain, name, (even, odd) = sums.movie, sums.gain, sums.name, sums.pair
    sums.pair, count = (), movie.views.shape[0]
    counts = ((count + 1) // 2, count // 2)
    defects = find_defects(even, odd, counts, None if gain is None else gain <= 0)
    if defects.mean() > 0.5:
        raise UserError(f"{name}: {defects.mean():.0%} of the pixels are defects; expected fewer than half: "
                        "check the gain reference and its orientation")  # fmt: skip
    repair = _Repair(defects, seed, name)
    shifts = error = None
    if align:
        del even, odd
        shifts, error = _drift(movie.views, gain, repair, name)
        even, odd = _aligned_sums(movie.views, gain, repair, shifts)
    elif defects.any():
        repair.sums(even, odd, movie.views, gain)
    even /= np.float32(counts[0])
    odd /= np.float32(counts[1])
    return Halves(even, odd, counts, movie.geometry, int(defects.sum()), shifts, error)


def write_halves(halves: Halves, outputs: tuple[Path, Path, Path], float16: bool) -> None:
    """Write the even, the odd and the full average as MRC, two at a time; FileFault where one cannot be written."""
    kinds = [f"{count} {kind} frames" for count, kind in zip(halves.counts, ("even", "odd"))]
    kinds.append(f"{sum(halves.counts)} frames")

    def write(number: int) -> None:
        average = (halves.even, halves.odd)[number] if number < 2 else halves.full
        with np.errstate(over="ignore"):  # what float16 cannot hold is found by the statistics
            pixels = average.astype(np.float16) if float16 else average
        write_mrc(outputs[number], pixels, halves.geometry, f"split: mean of {kinds[number]}")

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, range(3)))


class _Repair:
    """Draws for the defects of one movie: the same frame gets the same draws however often it is asked for."""

    def __init__(self, defects: np.ndarray, seed: int, name: str):
        self.defects, self.places = defects, np.flatnonzero(defects)
        self.seed = [seed, zlib.crc32(Path(name).name.encode())]

    def sources(self, number: int) -> np.ndarray:
        """Where the values of the defects of frame `number` are taken from: flat indices."""
        return draw_sources(self.defects, self.places, np.random.default_rng([*self.seed, number]))

    def frame(self, frame: np.ndarray, number: int) -> np.ndarray:
        """`frame` with its defects replaced, in place."""
        if self.places.size:
            frame.reshape(-1)[self.places] = frame.reshape(-1)[self.sources(number)]
        return frame

    def sums(self, even: np.ndarray, odd: np.ndarray, frames: Any, gain: np.ndarray | None) -> None:
        """Replace the defects of the sums, in place, by sums of draws from single frames."""
        def draw(first: int) -> np.ndarray:
            drawn = np.zeros(self.places.size)
            for number in range(first, frames.shape[0], 2):
                y, x = np.divmod(self.sources(number), self.defects.shape[1])
                drawn += np.asarray(frames[number])[y, x] * (1 if gain is None else gain[y, x])
            return drawn

        with ThreadPoolExecutor(2) as threads:
            even.reshape(-1)[self.places], odd.reshape(-1)[self.places] = threads.map(draw, (0, 1))


def _drift(frames: Any, gain: np.ndarray | None, repair: _Repair, name: str) -> tuple[np.ndarray, float | None]:
    """Shifts (t, 2) in pixels and their expected error; without anything to align by: zeros, None and a warning."""
    count, height, width = frames.shape
    size = 1
    while max(height, width) / size > ALIGNED_AT or 4 * count * (height // size) * (width // size) > ALIGNED_BYTES:
        size += 1
    small = np.empty((count, height // size, width // size), np.float32)
    for number, frame in enumerate(corrected(frames, gain)):
        small[number] = block_mean(repair.frame(frame, number), size)
    shifts, error = find_drift(small)
    if not np.any(shifts):
        log.warning("%s: its frames show nothing to align by; left where they are", name)
        return shifts, None
    return shifts * size, error * size


def _aligned_sums(
    frames: Any, gain: np.ndarray | None, repair: _Repair, shifts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    even, odd = ShiftedSum(frames.shape[1:]), ShiftedSum(frames.shape[1:])
    for number, frame in enumerate(corrected(frames, gain)):
        half = odd if number % 2 else even
        half.add(repair.frame(frame, number), shifts[number])
    return even.image(), odd.image()
