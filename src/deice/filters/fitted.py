"""What a linear filter could do at best: filters fitted with the truth in hand, for the tables only.

Both work on cosine coefficients (the image mirrored at its edges), where filtering is multiplication and, the
transform being orthonormal, every sum of squares is the image's own.
"""

import torch
from torch import Tensor

from deice.errors import PairFault
from deice.filters.gaussian import gaussian_gain
from deice.ops.cosine import cosine_radius, cosine_transform, from_cosine_transform
from deice.ops.fourier import shell_index

SIGMAS = torch.logspace(0, 1, 76, base=40, dtype=torch.float64) * 0.5  # pixels: 0.5 … 20 in steps of 5 %


def best_gaussian(noisy: Tensor, truth: Tensor) -> tuple[Tensor, float]:
    """`noisy` (*space) smoothed by the Gaussian of highest PSNR → ((*space) float64, its σ in pixels).

    σ is the best of `SIGMAS`; PSNR after least-squares scale and offset, so the highest is where the squared
    correlation with `truth` (*space) is highest.
    """
    image, reference = _coefficients(noisy, truth)
    sigmas = SIGMAS.to(image.device)
    cross = _smoothed_sums(image * reference, sigmas)
    power = _smoothed_sums(image**2, sigmas * 2**0.5)  # a gain squared is that of σ·√2
    best = int((cross**2 / power.clamp(min=torch.finfo(torch.float64).tiny)).argmax())
    sigma = float(SIGMAS[best])
    radius = cosine_radius(image.shape, image.device, torch.float64)
    smooth = from_cosine_transform(image * gaussian_gain(radius, sigma), image.ndim)
    return smooth + noisy.double().mean(), sigma


def radial_wiener(noisy: Tensor, truth: Tensor, sigma: float | None = None) -> Tensor:
    """The radial linear filter nearest to `truth` in the least squares: (*space) twice → (*space) float64.

    One free gain <T·N> / <N²> per shell of |f|, from the very coefficients it filters. Within a shell the
    gain is flat or follows the slope of the best Gaussian, whichever fits better: so it is never worse than
    no filter, and never worse than that Gaussian. sigma: of the best Gaussian in pixels, where it is known.
    """
    image, reference = _coefficients(noisy, truth)
    sigma = sigma or best_gaussian(noisy, truth)[1]
    radius = cosine_radius(image.shape, image.device, torch.float64)
    step = 1 / (2 * max(image.shape))
    shell = shell_index(radius, step)
    slope = torch.exp(-2 * (torch.pi * sigma) ** 2 * (radius**2 - (shell * step) ** 2))
    flat, sloped = (_fit_shells(basis, reference, shell) for basis in (image, image * slope))
    best = min(flat, sloped, key=lambda fit: float((fit - reference).square().sum()))
    return from_cosine_transform(best, image.ndim) + truth.double().mean()


def _fit_shells(basis: Tensor, reference: Tensor, shell: Tensor) -> Tensor:
    """`basis` (*space) times the least-squares gain towards `reference` (*space) in each shell."""

    def total(values: Tensor) -> Tensor:
        return values.new_zeros(int(shell.max()) + 1).index_add_(0, shell.flatten(), values.flatten())

    cross, power = total(basis * reference), total(basis**2)
    gain = torch.where(power > 0, cross / power.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    return basis * gain[shell]


def _coefficients(noisy: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine coefficients of both without their means."""
    if noisy.shape != truth.shape:
        raise PairFault(f"noisy {tuple(noisy.shape)}, truth {tuple(truth.shape)}; expected one size")
    image, reference = (cosine_transform(x.double() - x.double().mean(), x.ndim) for x in (noisy, truth))
    return image, reference


def _smoothed_sums(coefficients: Tensor, sigmas: Tensor) -> Tensor:
    """Σ gain·coefficients (*space) for Gaussians of all `sigmas` (s,) at once, axis by axis: (s,)."""
    *others, last = (
        gaussian_gain(torch.arange(size, dtype=torch.float64, device=sigmas.device)[:, None] / (2 * size) * sigmas, 1.0)
        for size in coefficients.shape
    )  # (n, s) each: a Gaussian is the product of one factor per axis
    sums = coefficients @ last
    for gains in reversed(others):
        sums = (sums * gains).sum(-2)
    return sums
