"""The Gaussian filter."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.ops.cosine import filter_mirrored


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian of standard deviation `sigma_pixels` (in pixels: the one length not in Å, as its users say
    it)."""

    sigma_pixels: float = 2.0

    def __post_init__(self):
        if not 0 < self.sigma_pixels < math.inf:
            raise RecipeFault(f"a Gaussian of sigma {self.sigma_pixels} pixels; expected a number above 0")

    def apply(self, image: Tensor, pixel_size: float | None = None) -> Tensor:
        """Smooth `image` (*space) → (*space); `pixel_size` plays no part."""
        return filter_mirrored(image, lambda radius: gaussian_gain(radius, self.sigma_pixels), image.ndim)


def gaussian_gain(frequency: Tensor, sigma_pixels: float) -> Tensor:
    """The Fourier transform exp(−2π²σ²f²) of a unit Gaussian; f in cycles per pixel, any shape."""
    return torch.exp(-2 * (math.pi * sigma_pixels * frequency) ** 2)
