"""The fixed pattern that a camera leaves in all of its movies, estimated from a set and turned into a gain reference.

Even and odd frames share that pattern, so it survives averaging and a network trained on halves learns it as signal.
"""

import logging
from collections.abc import Callable, Iterable

import numpy as np

from deice.errors import UserError
from deice.image import Image
from deice.movies.sums import half_sums
from deice.ops.defects import find_defects
from deice.ops.frames import box_mean

log = logging.getLogger(__name__)

RADIUS = 7  # pixels: what varies more slowly than a window of 15² is left to the scene
CLIP = 5.0  # standard deviations: how far one picture's pixel may stray (ice, gold) and still count in full
TRUSTED, SURE = 0.5, 0.8  # share of the estimate's variance that is pattern: refused below, warned below


class PatternSum:
    """Running sum of picture / its local mean over the pictures (y, x) of a set, each weighted by 1 / its variance.

    The scenes differ, the pattern does not: a variance that averaging does not lower is the pattern's, the rest
    (counting noise and scenes) is the estimate's error. For n counts per pixel in all the movies together the error
    is at least 1/√n: 2,500 counts for 2 %.
    """

    def __init__(self) -> None:
        self.sum: np.ndarray | None = None
        self.pictures, self.weight, self.squares, self.variances = 0, 0.0, 0.0, 0.0

    def add(self, picture: np.ndarray, defects: np.ndarray) -> None:
        """Add a picture (y, x) of counts; its `defects` count as 1, no deviation."""
        picture[defects] = np.median(picture[~defects])
        local = box_mean(picture, RADIUS)
        picture[defects] = local[defects]
        local[local <= 0] = np.inf  # no counts around: no ratio
        ratio = np.divide(picture, local, out=picture)
        ratio -= 1
        ratio[~np.isfinite(local)] = 0
        limit = CLIP * 1.4826 * float(np.median(np.abs(ratio[::2, ::2])))
        np.clip(ratio, -limit, limit, out=ratio)
        variance = max(float(ratio[~defects].var(dtype=np.float64)), 1e-12)
        weight = 1 / variance
        ratio *= np.float32(weight)
        self.sum = ratio if self.sum is None else np.add(self.sum, ratio, out=self.sum)
        self.pictures += 1
        self.weight += weight
        self.squares += weight**2
        self.variances += weight**2 * variance

    def pattern(self) -> tuple[np.ndarray, dict[str, float]]:
        """The pattern (y, x), mean 1, shrunk to what of it is sure, with its figures.

        v, the variance of the weighted mean, holds the pattern's g and the error's e; the single pictures' variance
        holds g and the error before averaging: two equations. The deviation from 1 is multiplied by g / v (Wiener),
        so that dividing by the pattern never adds more than it takes away. The estimate knows the very movies it is
        applied to: of m movies it leaves a correlation of at most −1/(2m) between the noise of the two halves of each,
        and −1/m between the averages of two movies.
        Raises UserError for a single picture, or where less than half of the estimate is pattern.
        """
        if self.sum is None or self.pictures < 2:
            raise UserError(f"{self.pictures} movies to estimate the gain from; expected several, to tell the camera's "
                            "pattern from the scene: leave out the gain's estimation or give more")  # fmt: skip
        deviation = self.sum / np.float32(self.weight)
        found = float(deviation.var(dtype=np.float64))
        share = self.squares / self.weight**2
        pattern = max((found - self.variances / self.weight**2) / (1 - share), 0.0)
        error = max(found - pattern, 0.0)
        trust = pattern / found if found > 0 else 0.0
        figures = {"movies": self.pictures, "pattern": pattern**0.5, "error": error**0.5, "trust": trust}
        if trust < TRUSTED:
            enough = f"about {int(np.ceil(self.pictures * error / pattern))}" if pattern > 0 else "many more"
            raise UserError(f"{self.pictures} movies leave an error of {error**0.5:.2%} on a gain pattern of "
                            f"{pattern**0.5:.2%}; expected an error below the pattern: give {enough} movies, or leave "
                            "out the gain's estimation")  # fmt: skip
        if trust < SURE:
            log.warning("the camera's pattern of %.2f %% is known to %.2f %% from %d movies; more movies would help",
                        100 * pattern**0.5, 100 * error**0.5, self.pictures)  # fmt: skip
        deviation *= np.float32(trust)
        deviation += 1
        return deviation, figures


def estimate_gain(
    movies: Iterable[Image], gain_of: Callable[[Image], np.ndarray | None]
) -> tuple[np.ndarray, dict[str, float]]:
    """A gain reference (y, x), multiplicative, 0 = defect, and its figures, from all `movies` (t, y, x) of a set.

    `gain_of` gives the gain that each movie already has: it is part of the result.
    One movie's sums are held at a time. Movies of another size than the first are left out.
    Raises UserError where the movies do not suffice.
    """
    total, gain = PatternSum(), None
    for movie in movies:
        count = movie.views.shape[0]
        if count < 2 or (total.sum is not None and total.sum.shape != movie.space):
            continue
        gain = gain_of(movie)
        even, odd = half_sums(movie.views, gain)
        defects = find_defects(even, odd, ((count + 1) // 2, count // 2), None if gain is None else gain <= 0)
        even += odd
        del odd
        if np.median(even) > 0 and not defects.all():
            total.add(even, defects)
    pattern, figures = total.pattern()
    estimate = np.reciprocal(pattern, out=pattern)
    return (estimate if gain is None else np.multiply(estimate, gain, out=estimate)), figures
