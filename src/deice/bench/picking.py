"""A plain particle picker and its score: what a denoiser is worth to the simplest thing that is done with it.

The picker: the Laplacian of a Gaussian at each known particle size, normalised to unit variance, the best size at
each place, local maxima, and of two maxima closer than the radius of the largest particle only the higher one, or the
parts of a large particle would be picked one by one (Lowe, Int. J. Comput. Vis. 60 (2004) 91-110, and Lindeberg, ibid.
30 (1998) 79-116, for blobs and their scales). Particles are dark, as in micrographs under focus.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from deice.ops.cosine import filter_mirrored

NEIGHBOURS = 3  # pixels along each axis among which a local maximum is the highest


class Places(NamedTuple):
    """Particles, known or picked: centres (n, axes) in pixels in the order of the axes, radii (n,) in pixels."""

    centres: Tensor
    radii: Tensor


def pick(image: Tensor, radii: Sequence[float]) -> Places:
    """Dark blobs of `image` (*space) of one of the `radii` (pixels), best first.

    A ball of radius r answers the Laplacian of a Gaussian most at σ = r/√axes.
    """
    answers = torch.stack([_blobness(image.double(), radius) for radius in radii])
    best, size = answers.max(0)
    peaks = ((best == _highest_nearby(best)) & (best > 0)).nonzero()
    scores = best[tuple(peaks.T)]
    order = scores.argsort(descending=True, stable=True)
    peaks, sizes = peaks[order].double(), torch.as_tensor(radii, dtype=torch.float64)[size[tuple(peaks.T)][order]]
    kept = _apart(peaks, max(radii))
    return Places(peaks[kept], sizes[kept])


def average_precision(picked: Places, known: Places) -> float:
    """The area under precision over recall of ranked picks (0 to 1): Σ precision at each hit / number of particles.

    Matching: from the best pick to the worst, each takes the nearest particle that is still free and whose centre
    lies within that particle's own radius of the pick; a pick that finds none is false. Particles that are never
    found count with precision 0.
    """
    free = torch.ones(len(known.centres), dtype=torch.bool)
    hits, found = 0, 0.0
    for rank, centre in enumerate(picked.centres, 1):
        distance = (known.centres - centre).square().sum(1).sqrt()
        distance = torch.where(free & (distance <= known.radii), distance, torch.inf)
        if not len(distance) or distance.min() == torch.inf:
            continue
        free[distance.argmin()] = False
        hits += 1
        found += hits / rank
    return found / max(1, len(known.centres))


def _blobness(image: Tensor, radius: float) -> Tensor:
    """σ²·Laplacian of the Gaussian-smoothed image, in its own standard deviations: high where a dark blob lies."""
    sigma = radius / math.sqrt(image.ndim)

    def gain(frequency: Tensor) -> Tensor:
        squared = (2 * math.pi * sigma * frequency) ** 2
        return -squared * torch.exp(-squared / 2)

    answer = filter_mirrored(image - image.mean(), gain, image.ndim)
    spread = answer.std()
    return answer / spread if spread > 0 else answer


def _highest_nearby(image: Tensor) -> Tensor:
    """The maximum over a small box around each pixel, (*space)."""
    reach = NEIGHBOURS // 2
    for axis in range(image.ndim):
        size = image.shape[axis]
        highest = image.clone()
        for step in range(1, min(reach, size - 1) + 1):
            near, far = image.narrow(axis, step, size - step), image.narrow(axis, 0, size - step)
            highest.narrow(axis, 0, size - step).copy_(torch.maximum(highest.narrow(axis, 0, size - step), near))
            highest.narrow(axis, step, size - step).copy_(torch.maximum(highest.narrow(axis, step, size - step), far))
        image = highest
    return image


def _apart(peaks: Tensor, radius: float) -> Tensor:
    """Which of the ranked `peaks` (n, axes) lie no closer than `radius` to a higher one that is kept: (k,)."""
    left = torch.ones(len(peaks), dtype=torch.bool)
    for rank in range(len(peaks)):
        if left[rank]:
            distance = (peaks[rank + 1 :] - peaks[rank]).square().sum(1).sqrt()
            left[rank + 1 :] &= distance >= radius
    return left.nonzero().flatten()
