"""Where there is still room in a cell: a coarse grid of what is taken. Lengths are Å, places (z, y, x)."""

import itertools
import math

import numpy as np

GRAIN = 40.0  # Å, about the side of a grid's cell


class Room:
    """taken: (z, y, x) of whole grid cells; along y and x the grid repeats itself, along z everything beyond is taken.

    spacing: (3,) Å between the centres of cells.  first: (3,) the centre of the first.
    """

    def __init__(self, floor: float, ceiling: float, extent: tuple[float, float], grain: float = GRAIN):
        lengths = np.array([ceiling - floor, *extent])
        counts = np.maximum(1, np.round(lengths / grain)).astype(int)
        self.spacing = lengths / counts
        self.first = np.array([floor, 0.0, 0.0]) + self.spacing / 2
        self.taken = np.zeros(counts, dtype=bool)
        self._balls: dict[float, np.ndarray] = {}

    @property
    def centres(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the cells along each axis."""
        z, y, x = (f + s * np.arange(n) for f, s, n in zip(self.first, self.spacing, self.taken.shape, strict=True))
        return z, y, x

    def anywhere(self, rng: np.random.Generator, count: int | None = None) -> np.ndarray:
        """A random place (3,), or `count` of them, whether taken or not."""
        shape = (3,) if count is None else (count, 3)
        return self.first - self.spacing / 2 + rng.random(shape) * self.spacing * self.taken.shape

    def fits(self, places: np.ndarray, radius: float) -> bool:
        """Whether balls of `radius` about all of `places` (n, 3) lie in free cells."""
        return bool(self.fitting(places, radius).all())

    def fitting(self, places: np.ndarray, radius: float) -> np.ndarray:
        """About which of `places` (n, 3) a ball of `radius` lies in free cells: (n,)."""
        cells = self._cells(places, radius)
        inside = (cells[:, 0] >= 0) & (cells[:, 0] < self.taken.shape[0])
        index = self._index(np.where(inside[:, None], cells, 0))
        return (inside & ~self.taken[index]).reshape(len(places), -1).all(axis=1)

    def free(self, places: np.ndarray) -> np.ndarray:
        """Which of `places` (n, 3) lie in free cells: (n,)."""
        cells = np.floor((places - self.first) / self.spacing + 0.5).astype(int)
        return ~self.taken[self._index(cells)]

    def take(self, places: np.ndarray, radius: float) -> None:
        """Balls of `radius` about `places` (n, 3)."""
        cells = self._cells(places, radius)
        self.taken[self._index(cells[(cells[:, 0] >= 0) & (cells[:, 0] < self.taken.shape[0])])] = True

    def _index(self, cells: np.ndarray) -> tuple[np.ndarray, ...]:
        return cells[:, 0], cells[:, 1] % self.taken.shape[1], cells[:, 2] % self.taken.shape[2]

    def _cells(self, places: np.ndarray, radius: float) -> np.ndarray:
        """Cells whose centre lies in the balls, (n, 3), more than once where balls overlap."""
        if radius not in self._balls:
            steps = [range(-math.ceil(radius / s), math.ceil(radius / s) + 1) for s in self.spacing]
            ball = np.array(list(itertools.product(*steps)))
            self._balls[radius] = ball[np.linalg.norm(ball * self.spacing, axis=1) <= radius]
        nearest = np.floor((np.atleast_2d(places) - self.first) / self.spacing + 0.5).astype(int)
        return (nearest[:, None] + self._balls[radius]).reshape(-1, 3)
