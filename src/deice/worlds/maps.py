"""Particles from a density map instead of procedural proteins."""

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from deice.errors import FileFault
from deice.io import read
from deice.ops.fourier import filter_radially
from deice.worlds.matter import EXCESS_POTENTIAL, PROTEIN_DENSITY, point_form
from deice.worlds.proteins import Protein


@lru_cache(maxsize=4)
def protein_from_map(path: Path, pixel_size: float, mass: float | None = None) -> Protein:
    """The map in `path` as scattering sites on a grid of `pixel_size` Å.

    mass: Da. The file does not say it, and a map's grey scale is arbitrary; where it is not given, the body is what
    lies above the threshold that best parts body from background (Otsu 1979), at the density of protein. The
    background's median is taken away, what lies below a tenth of the body's mean is emptied, and the rest scaled to
    the excess potential over ice of that mass.
    Raises FileFault for a file that is no volume, has no pixel size, or no density.
    """
    image = read(path)
    density = torch.from_numpy(np.array(image.views[0], dtype=np.float32))
    if density.ndim != 3:
        raise FileFault(path, f"{density.ndim} axes; expected a density map (z, y, x)")
    if image.pixel_size is None:
        raise FileFault(path, "no voxel size in the header; expected Å: write it there first")
    if not bool(torch.isfinite(density).all()) or float(density.max()) <= float(density.min()):
        raise FileFault(path, "no finite, varying density; expected a density map")
    density = _resampled(density, image.pixel_size / pixel_size)
    threshold = otsu_threshold(density.numpy())
    body = density > threshold
    density = density - density[~body].median()
    level = float(density[body].mean())
    density = torch.where(density > 0.1 * level, density, 0.0)
    places = density.nonzero()
    sites = places.numpy()[:, ::-1] * pixel_size
    mass = mass or float(body.sum()) * pixel_size**3 * PROTEIN_DENSITY
    weights = density[tuple(places.T)].double().numpy()
    weights = weights / weights.sum() * mass / PROTEIN_DENSITY * EXCESS_POTENTIAL
    return Protein(path.stem, mass, sites - np.average(sites, axis=0, weights=weights), weights, point_form)


def otsu_threshold(values: np.ndarray) -> float:
    """The level that splits `values` into two classes of greatest difference (Otsu 1979), on 256 bins."""
    counts, edges = np.histogram(values, bins=256)
    centres = 0.5 * (edges[1:] + edges[:-1])
    below, total = np.cumsum(counts), counts.sum()
    first = np.cumsum(counts * centres)
    between = (first[-1] * below / total - first) ** 2 / np.maximum(below * (total - below), 1)
    best = np.flatnonzero(between >= (1 - 1e-9) * between[:-1].max())  # a range, where the classes lie apart
    return float(edges[1:][best].mean())


def _resampled(density: torch.Tensor, scale: float) -> torch.Tensor:
    """The map (z, y, x) on a grid `scale` times as fine, trilinear; what a coarser grid cannot hold is cut."""
    if math.isclose(scale, 1, rel_tol=1e-3):
        return density
    if scale < 1:
        density = filter_radially(density, lambda radius: (radius <= scale / 2).float(), axes=3)
    return torch.nn.functional.interpolate(
        density[None, None], scale_factor=(scale,) * 3, mode="trilinear", recompute_scale_factor=False
    )[0, 0]
