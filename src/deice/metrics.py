"""Figures of quality: one pure function each, images of any number of axes, float64 inside.

Images are tensors (*space). Two images must have one shape (else PairFault); a value that is not finite is
refused (UserError). Spectra and shell correlations taper the edges and say so; nothing else is tapered or masked.
"""

import math

import torch
from torch import Tensor

from deice.errors import PairFault, UserError
from deice.ops.fourier import half_transform, shell_frequencies, shell_sums, tapered
from deice.ops.local import RADIUS as WINDOW_RADIUS
from deice.ops.local import gaussian_means


def rmse(image: Tensor, truth: Tensor) -> float:
    """Root mean square difference of two images (*space), as they stand, in their grey values."""
    image, truth = _pair(image, truth)
    return float((image - truth).square().mean().sqrt())


def correlation(image: Tensor, truth: Tensor) -> float:
    """Pearson correlation of all pixels of two images (*space).

    An image that does not vary explains nothing of the other: 0. Between even and odd halves this is the
    even/odd correlation, signal variance / (signal + noise variance of one half) where the noises are
    independent.
    """
    image, truth = _pair(image, truth)
    image, truth = image - image.mean(), truth - truth.mean()
    norm = math.sqrt(float(image.square().sum()) * float(truth.square().sum()))
    return float((image * truth).sum()) / norm if norm > 0 else 0.0


def align(image: Tensor, truth: Tensor) -> Tensor:
    """scale·image + offset, (*space) float64, nearest to `truth` in the least squares.

    The best that a pointwise linear rescale can do: the `pointwise` row of every table.
    """
    image, truth = _pair(image, truth)
    centred = image - image.mean()
    power = float(centred.square().sum())
    scale = float((centred * truth).sum()) / power if power > 0 else 0.0
    return scale * centred + truth.mean()


def psnr(image: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, 10·log10(range² / mean square error), after `align`.

    Two images (*space). The range is max − min of `truth`; UserError if it does not vary. An exact copy
    scores the limit of float64, 313 dB.
    """
    span = data_range(truth)
    error = rmse(align(image, truth), truth)
    return 20 * math.log10(span / max(error, span * torch.finfo(torch.float64).eps))


def data_range(truth: Tensor) -> float:
    """max − min of an image (*space), in its grey values; UserError if it does not vary."""
    span = float(truth.max()) - float(truth.min())
    if span == 0:
        raise UserError(f"the truth is {float(truth.max()):g} everywhere; expected an image that varies")
    return span


def ssim(image: Tensor, truth: Tensor) -> float:
    """Structural similarity of two images (*space) as they stand; every axis has at least 11 pixels.

    Gaussian window of σ = 1.5 pixels and 11 taps along every axis, K1 = 0.01, K2 = 0.03, variances divided
    by n, data range max − min of `truth`, mean over the pixels whose window lies inside. The truth's mean
    is subtracted before squares are taken and given back to the local means: without it float32 is off by
    more than the result on images with a large mean. Source: Wang et al., IEEE Trans. Image Process. 13
    (2004) 600-612.
    """
    image, truth = _pair(image, truth)
    if min(truth.shape) < 2 * WINDOW_RADIUS + 1:
        raise UserError(f"SSIM of an image of {_size(truth)}; expected at least 11 pixels along every axis")
    c1, c2 = (0.01 * data_range(truth)) ** 2, (0.03 * data_range(truth)) ** 2
    level, axes = truth.mean(), truth.ndim
    x, y = image - level, truth - level
    mean_x, mean_y = gaussian_means(x, axes), gaussian_means(y, axes)
    covariance = gaussian_means(x * y, axes) - mean_x * mean_y
    variances = gaussian_means(x * x, axes) - mean_x**2 + gaussian_means(y * y, axes) - mean_y**2
    mean_x, mean_y = mean_x + level, mean_y + level
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return float((luminance * (2 * covariance + c2) / (variances + c2)).mean())


def fourier_shell_correlation(a: Tensor, b: Tensor, taper: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """FRC (two axes) or FSC (three): → (frequencies in cycles per pixel, correlation, n), each (shells,).

    Shells lie at multiples of 1/(longest axis) from the first to Nyquist, at |f| in cycles per pixel along every
    axis, so that a shell is a shell whatever the shape; n counts the Fourier coefficients in each. The means are
    removed, there is no mask, but the outer quarter at each edge is tapered (`ops.fourier.tapered` says how):
    without it a mere Gaussian filter, which can move no honest FRC, lifts the mean of a curve from 0.08 to 0.8,
    since at high frequencies only the edges are left, and both images share those. A shell in which an image has
    nothing but rounding correlates at 0.
    Source: Saxton & Baumeister, J. Microsc. 127 (1982) 127-138; Harauz & van Heel, Optik 73 (1986) 146-156.
    """
    a, b = _pair(a, b)
    floors = [a.numel() * (4 * torch.finfo(a.dtype).eps * float(image.abs().max())) ** 2 for image in (a, b)]
    a, b = (tapered(a), tapered(b)) if taper else (a - a.mean(), b - b.mean())
    x, y = half_transform(a, a.ndim), half_transform(b, b.ndim)
    products = torch.stack([(x * y.conj()).real, _power(x), _power(y), torch.ones_like(x.real)])
    cross, power_a, power_b, count = shell_sums(products, a.shape)[:, 1:]
    filled = (power_a > floors[0] * count) & (power_b > floors[1] * count)
    curve = torch.where(filled, cross / torch.where(filled, power_a * power_b, 1.0).sqrt(), 0.0)
    return shell_frequencies(a.shape)[1:], curve, count.round().long()


def crossing(frequencies: Tensor, curve: Tensor, threshold: float, pixel_size: float) -> float | None:
    """The resolution in Å at which a shell correlation first falls below `threshold`, linearly interpolated.

    None where it never does, and where it is below from the first shell on.
    """
    below = (curve < threshold).nonzero().flatten()
    if not len(below) or below[0] == 0:
        return None
    outer = int(below[0])
    (f0, f1), (c0, c1) = frequencies[outer - 1 : outer + 1].tolist(), curve[outer - 1 : outer + 1].tolist()
    return pixel_size / (f0 + (f1 - f0) * (c0 - threshold) / (c0 - c1))


def frc_area(curve: Tensor) -> float:
    """The mean of a shell correlation (shells,) from the first shell to Nyquist: one number per curve."""
    return float(curve.mean())


def radial_power_spectrum(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of |F|²/pixels per shell: (*space) → (frequencies in cycles per pixel, power), each (shells,).

    White noise of variance s² has the power s² in every shell. Mean, taper and shells as for the FRC: untapered
    edges would drown what a denoiser leaves at high frequencies.
    """
    image = _finite(image)
    spectrum = half_transform(tapered(image), image.ndim)
    values = torch.stack([_power(spectrum), torch.ones_like(spectrum.real)])
    power, count = shell_sums(values, image.shape)[:, 1:]
    return shell_frequencies(image.shape)[1:], power / count / image.numel()


def removed_noise(half: Tensor, denoised_half: Tensor) -> Tensor:
    """half − net(that same half), (*space) float64.

    Never minus the mean of both denoised halves: that mean holds the other half's noise, so that even a
    denoiser which removes structure could look innocent.
    """
    half, denoised_half = _pair(half, denoised_half)
    return half - denoised_half


def removed_noise_correlation(halves: tuple[Tensor, Tensor], denoised: tuple[Tensor, Tensor]) -> float:
    """Correlation between the halves of what was removed from each, from two pairs of (*space).

    The halves' noises are independent, so what was removed from both alike is signal lost (> 0): 0 is good.
    """
    even, odd = map(removed_noise, halves, denoised)
    return correlation(even, odd)


def removed_noise_per_shell(
    halves: tuple[Tensor, Tensor], denoised: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """`removed_noise_correlation` shell by shell: (frequencies in cycles per pixel, correlation, n)."""
    even, odd = map(removed_noise, halves, denoised)
    return fourier_shell_correlation(even, odd)


def edge_preservation(image: Tensor, truth: Tensor) -> float:
    """Correlation of the Laplacians of two images (*space), every axis of at least 3 pixels: 1 = every edge
    kept.

    The Laplacian is the sum of second differences along the axes, at inner pixels. Unmoved by scale and
    offset. Source: the β of Sattar, Floreby, Salomonsson & Lövström, IEEE Trans. Image Process. 6 (1997)
    888-895.
    """
    image, truth = _pair(image, truth)
    if min(truth.shape) < 3:
        raise UserError(f"edges of an image of {_size(truth)}; expected at least 3 pixels along every axis")
    return correlation(_laplacian(image), _laplacian(truth))


def _laplacian(image: Tensor) -> Tensor:
    inner = image[(slice(1, -1),) * image.ndim]
    total = -2.0 * image.ndim * inner
    for axis in range(image.ndim):
        others = image[tuple(slice(None) if a == axis else slice(1, -1) for a in range(image.ndim))]
        total += others.narrow(axis, 0, inner.shape[axis]) + others.narrow(axis, 2, inner.shape[axis])
    return total


def _power(spectrum: Tensor) -> Tensor:
    return spectrum.real**2 + spectrum.imag**2


def _pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.shape != b.shape:
        raise PairFault(f"images of {_size(a)} and of {_size(b)} pixels; expected one size: check the pair")
    return _finite(a), _finite(b)


def _finite(image: Tensor) -> Tensor:
    image = image.double()
    if not image.sum().isfinite():  # one pass; which ones is counted only where there are any
        bad = image.numel() - int(image.isfinite().sum())
        raise UserError(f"{bad} of {image.numel()} pixels are not finite; expected numbers: mend them first")
    return image


def _size(image: Tensor) -> str:
    return "×".join(map(str, image.shape))
