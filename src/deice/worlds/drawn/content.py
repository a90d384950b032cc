"""Which bodies a drawn picture holds, how many, and how they lie: scattered, packed, in filaments, or none."""

import math
from dataclasses import dataclass

import numpy as np

from deice.worlds.drawn.bodies import Bodies
from deice.worlds.drawn.pasting import Copies

VIEWS = 6  # of each kind of body in a picture: more come by turning them in the plane
MOST = 3000  # copies of one kind in a picture
PARTICLES = {"protein": 0.65, "shell": 0.25, "vesicle": 0.1}  # what a picture is taken for
BESIDES = {"small": 0.2, "vesicle": 0.12, "gold": 0.08, "crystal": 0.12, "filament": 0.15}  # how often


@dataclass(frozen=True, eq=False)
class Content:
    """bodies, blur: (v,) which body each view shows, and how blurred in Å.  copies: of the views.

    coverage: (b,) share of each picture's area under the copies, as if they did not overlap.
    """

    bodies: np.ndarray
    blur: np.ndarray
    copies: Copies
    coverage: np.ndarray


class _Sheet:
    """One picture's copies, as they are drawn."""

    def __init__(self, sample: int, size: int, pixel: float, rng: np.random.Generator):
        self.sample, self.size, self.pixel, self.rng = sample, size, pixel, rng
        self.rows: list[np.ndarray] = []
        self.bodies: list[int] = []
        self.blur: list[float] = []
        self.coverage = 0.0

    def add(self, bodies: Bodies, body: int, places: np.ndarray, angles: np.ndarray, first_view: int,
            scale: float = 1.0, weight: float = 1.0) -> None:  # fmt: skip
        """Copies (n, 2) of one body, in several views, `scale` times as large as it is."""
        side = scale * bodies.side[body] / self.pixel
        count, views = len(places), min(VIEWS, max(1, len(places)))
        self.bodies += [body] * views
        self.blur += [_log_uniform(self.rng, 0.5, 8.0)] * views
        view = first_view + self.rng.integers(views, size=count)
        same = np.ones(count)
        self.rows.append(np.stack([self.sample * same, view, side * same, *places.T, angles, weight * same]))
        self.coverage += count * min(1.0, 0.35 * (side / self.size) ** 2)


def draw_content(bodies: Bodies, pixels: np.ndarray, size: int, rng: np.random.Generator) -> Content:
    """Content for fields of `size`² pixels of `pixels` Å, one for each of (b,)."""
    sheets, views = [], 0
    for sample, pixel in enumerate(pixels):
        sheet = _Sheet(sample, size, float(pixel), rng)
        if rng.random() > 0.07:
            _fill(sheet, bodies, views)
        views += len(sheet.bodies)
        sheets.append(sheet)
    rows = np.concatenate([np.empty((7, 0)), *(row for sheet in sheets for row in sheet.rows)], axis=1)
    whole = rows[:2].astype(np.int64)
    return Content(
        np.array([body for sheet in sheets for body in sheet.bodies], dtype=np.int64),
        np.array([blur for sheet in sheets for blur in sheet.blur]),
        Copies(*whole, *rows[2:]),
        np.array([sheet.coverage for sheet in sheets]),
    )


def _fill(sheet: _Sheet, bodies: Bodies, views: int) -> None:
    """One to three kinds of particles, and now and then something else."""
    rng = sheet.rng
    kinds = bodies.of_kind(str(rng.choice(list(PARTICLES), p=list(PARTICLES.values()))))
    if rng.random() < 0.92:
        share = _log_uniform(rng, 0.01, 0.8)
        count = int(rng.choice([1, 1, 1, 2, 3]))
        for _ in range(count):
            _particles(sheet, bodies, int(rng.choice(kinds)), share / count, views + len(sheet.bodies))
    for kind, often in BESIDES.items():
        if rng.random() < often:
            start = views + len(sheet.bodies)
            if kind == "filament":
                _filaments(sheet, bodies, start)
            else:
                share = {"small": _log_uniform(rng, 0.1, 1.0)}.get(kind, 0.02)
                _particles(sheet, bodies, int(rng.choice(bodies.of_kind(kind))), share, start)


def _particles(sheet: _Sheet, bodies: Bodies, body: int, share: float, start: int) -> None:
    """Copies that cover `share` of the picture: at random places, or on a grid that is out of order."""
    rng, size = sheet.rng, sheet.size
    scale = float(np.exp(rng.normal(0, 0.25)))
    side = scale * bodies.side[body] / sheet.pixel
    count = min(MOST, max(1, rng.poisson(share * size**2 / (0.35 * side**2))))
    if side > size:
        places = size / 2 + rng.uniform(-0.5, 0.5, (1, 2)) * side
    elif rng.random() < 0.4:
        step = side * rng.uniform(0.6, 1.1)
        across = max(1, int(size / step))
        grid = np.stack(np.meshgrid(np.arange(across), np.arange(across)), -1).reshape(-1, 2) * (size / across)
        places = rng.permutation(grid)[:count] + rng.normal(0, 0.15 * step, (min(count, len(grid)), 2))
    else:
        places = rng.uniform(0, size, (count, 2))
    weight = 1.0 if rng.random() < 0.8 else _log_uniform(rng, 0.3, 3.0)
    sheet.add(bodies, body, places % size if side <= size else places, rng.uniform(0, 2 * math.pi, len(places)), start,
              scale, weight)


def _filaments(sheet: _Sheet, bodies: Bodies, start: int) -> None:
    """Helices of a small protein, seen from the side, straight or bent."""
    rng, size = sheet.rng, sheet.size
    body = int(rng.choice(bodies.of_kind("small")))
    rise, radius = rng.uniform(6, 45) / sheet.pixel, rng.uniform(0, 90) / sheet.pixel
    twist, bend = rng.uniform(0, 2 * math.pi), rng.choice([0.0, rng.normal(0, 2.0)])
    length = math.hypot(size, size)
    steps = np.arange(min(MOST // 2, int(1.3 * length / rise) + 1))
    places, angles = [], []
    for _ in range(rng.integers(1, 5)):
        along = (steps - len(steps) / 2) * rise
        angle = rng.uniform(0, 2 * math.pi) + bend * along / length
        path = np.stack([np.cumsum(np.sin(angle)), np.cumsum(np.cos(angle))], 1) * rise
        path += rng.uniform(0, size, 2) - path[len(path) // 2]
        aside = radius * np.cos(twist * steps + rng.uniform(0, 2 * math.pi))
        path += aside[:, None] * np.stack([np.cos(angle), -np.sin(angle)], 1)
        inside = ((path > 0) & (path < size)).all(1)
        places.append(path[inside])
        angles.append(angle[inside])
    if sum(map(len, places)):
        sheet.add(bodies, body, np.concatenate(places), np.concatenate(angles), start)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
