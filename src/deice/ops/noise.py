"""What the noise of a single picture is like."""

from math import pi

import torch
from torch import Tensor

from deice.ops.fourier import frequency_radius, half_transform

SIGNAL_BELOW = 0.15  # cycles/pixel: below it a cryo-EM picture holds most of its signal


def neighbour_correlation(picture: Tensor) -> list[float]:
    """Correlation of the noise between direct neighbours along each axis of `picture` (*space).

    Judged by the frequencies above 0.15 cycles/pixel, where noise rules: for noise whose spectrum along an axis is
    1 + 2·rho·cos(2·pi·f), the answer is rho exactly; white noise gives 0, binned or interpolated pictures do not.
    """
    axes = picture.ndim
    picture = picture.double() - picture.double().mean()
    power = half_transform(picture, axes).abs().square()
    power = power * (frequency_radius(picture.shape) >= SIGNAL_BELOW)
    mask = (power > 0).double()
    found = []
    for axis, size in enumerate(picture.shape):
        grid = torch.fft.rfftfreq if axis == axes - 1 else torch.fft.fftfreq
        shape = [-1 if a == axis else 1 for a in range(axes)]
        cosine = torch.cos(2 * pi * grid(size, dtype=torch.float64)).reshape(shape)
        measured = float((power * cosine).sum() / power.sum())
        first, second = float((mask * cosine).sum()), float((mask * cosine**2).sum())
        found.append((measured * float(mask.sum()) - first) / (2 * (second - measured * first)))
    return found
