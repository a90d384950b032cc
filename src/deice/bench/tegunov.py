"""Tegunov's deconvolution filter with its parameters chosen with the truth in hand: its best, not its usual."""

from itertools import product

import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.filters import Wiener
from deice.ops.cosine import cosine_radius, cosine_transform

STRENGTHS = (-1.0, -0.67, -0.33, 0.0, 0.33, 0.67, 1.0)
FALLOFFS = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.2)
HIGHPASSES = (0.002, 0.005, 0.02, 0.1)  # fractions of Nyquist
BINS = 4096  # of |f|, fine enough that a gain is flat within one


def best_tegunov(noisy: Tensor, truth: Tensor, pixel_size: float | None) -> tuple[Tensor, Wiener]:
    """`noisy` (*space) through the filter of highest PSNR → ((*space), the filter). pixel_size: Å.

    The truth is seen through the same lens as the picture, so the optics are left alone (a contrast transfer of 1):
    undoing them would be judged as an error. PSNR after least-squares scale and offset is highest where the squared
    correlation is, whose sums over cosine coefficients the gain enters as a function of |f| alone.
    """
    if pixel_size is None:
        raise RecipeFault("Tegunov's filter for images of unknown pixel size; expected one: give --pixel-size")
    image, reference = (cosine_transform(x.double() - x.double().mean(), x.ndim) for x in (noisy, truth))
    radius = cosine_radius(image.shape, image.device, torch.float64)
    step = float(radius.max()) / (BINS - 1)
    index = (radius / step).round().long().flatten()

    def per_bin(values: Tensor) -> Tensor:
        return values.new_zeros(BINS).index_add_(0, index, values.flatten())

    cross, power = per_bin(image * reference), per_bin(image**2)
    frequency = step * torch.arange(BINS, dtype=torch.float64)

    def squared_correlation(candidate: Wiener) -> float:
        gain = candidate.gain(frequency, pixel_size)
        return float((gain * cross).sum() ** 2 / (gain**2 * power).sum().clamp(min=torch.finfo(torch.float64).tiny))

    best = max((_leaving_optics_alone(*chosen) for chosen in product(STRENGTHS, FALLOFFS, HIGHPASSES)),
               key=squared_correlation)
    return best.apply(noisy, pixel_size), best


def _leaving_optics_alone(strength: float, falloff: float, highpass: float) -> Wiener:
    return Wiener(defocus=0.0, strength=strength, falloff=falloff, highpass_nyquist=highpass,
                  spherical_aberration=0.0, amplitude_contrast=1.0)
