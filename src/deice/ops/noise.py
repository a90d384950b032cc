"""What the noise of a single picture is like."""

from math import pi

import torch
from torch import Tensor

from deice.ops.fourier import frequency_radius, half_transform

SIGNAL_BELOW = 0.15  # cycles/pixel: below it a cryo-EM picture holds most of its signal


def neighbour_correlation(picture: Tensor) -> list[float]:
    """Correlation of the noise between direct neighbours along each axis of `picture` (*space).

    Judged by the frequencies above 0.15 cycles/pixel, where noise rules: the spectrum a·(1 + sum over axes of
    2·rho·cos(2·pi·f)) of noise that only neighbours share is fitted there by least squares, and the rho are returned.
    White noise gives 0; binned, interpolated or filtered pictures do not.
    """
    axes = picture.ndim
    picture = picture.double()
    power = half_transform(picture - picture.mean(), axes).abs().square()
    noise = frequency_radius(picture.shape) >= SIGNAL_BELOW
    terms = [torch.ones_like(power)]
    for axis, size in enumerate(picture.shape):
        grid = torch.fft.rfftfreq if axis == axes - 1 else torch.fft.fftfreq
        cosine = 2 * torch.cos(2 * pi * grid(size, dtype=torch.float64))
        terms.append(cosine.reshape([-1 if a == axis else 1 for a in range(axes)]).expand_as(power))
    columns = torch.stack([term[noise] for term in terms])  # (1 + axes, coefficients)
    level, *shared = torch.linalg.solve(columns @ columns.T, columns @ power[noise]).tolist()
    return [value / level for value in shared]
