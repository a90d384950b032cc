"""Local means under a Gaussian window, as structural similarity takes them."""

import torch
from torch import Tensor

RADIUS = 5  # pixels: 11 taps
SIGMA = 1.5  # pixels


def gaussian_means(image: Tensor, axes: int) -> Tensor:
    """Gaussian-weighted means of `image` (..., *space) over 11 taps (σ = 1.5 pixels) along each trailing axis.

    Only where the window lies inside, so that an axis becomes 10 pixels shorter; along an axis of fewer than 11
    pixels the window is as wide as fits. Source: Wang et al., IEEE Trans. Image Process. 13 (2004) 600-612.
    """
    for axis in range(-axes, 0):
        radius = min(RADIUS, (image.shape[axis] - 1) // 2)
        taps = torch.arange(-radius, radius + 1, dtype=torch.float64)
        weights = torch.exp(-0.5 * (taps / SIGMA) ** 2)
        weights = (weights / weights.sum()).tolist()
        inside = image.shape[axis] - 2 * radius
        smooth = weights[0] * image.narrow(axis, 0, inside)
        for start, weight in enumerate(weights[1:], 1):
            smooth.add_(image.narrow(axis, start, inside), alpha=weight)
        image = smooth
    return image
