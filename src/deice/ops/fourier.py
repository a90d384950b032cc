"""Fourier transforms of the trailing axes, radial filters, shells and the taper that keeps shells clean.

A half transform never travels without the shape of its image: an rfft alone does not know if its image was odd.
Frequencies are in cycles per pixel along each axis (Nyquist = 0.5), so a shell is a shell whatever the shape.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def half_transform(image: Tensor, axes: int) -> Tensor:
    """`image` (..., *space) → (..., *half space), complex; `axes` trailing axes are transformed."""
    return torch.fft.rfftn(image, dim=tuple(range(-axes, 0)))


def from_half_transform(spectrum: Tensor, shape: Sequence[int]) -> Tensor:
    """`spectrum` (..., *half space) of an image of `shape` (*space) → (..., *space), real."""
    return torch.fft.irfftn(spectrum, s=tuple(shape), dim=tuple(range(-len(shape), 0)))


def frequency_radius(
    shape: Sequence[int], device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    """|f| of each coefficient of a half transform of an image of `shape`: (*half space), cycles per pixel."""
    squared = torch.zeros((), device=device, dtype=dtype)
    last = len(shape) - 1
    for axis, size in enumerate(shape):
        grid = torch.fft.rfftfreq if axis == last else torch.fft.fftfreq
        frequency = grid(size, device=device, dtype=dtype)
        squared = squared + (frequency**2).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return squared.sqrt()


def filter_radially(image: Tensor, gain: Callable[[Tensor], Tensor], axes: int) -> Tensor:
    """Multiply each Fourier coefficient of `image` (..., *space) by `gain`(|f| in cycles per pixel)."""
    shape = image.shape[-axes:]
    spectrum = half_transform(image, axes)
    return from_half_transform(spectrum * gain(frequency_radius(shape, image.device)), shape)


def tapered(image: Tensor) -> Tensor:
    """`image` (*space) float64 without its mean, brought smoothly to 0 over the outer quarter at each edge.

    Without it the jump from one edge to the opposite one leaks low frequencies over the whole spectrum: two
    images that share nothing but their coarse structure would correlate at every frequency where one was
    smoothed. The window is infinitely smooth (Planck taper: McKechan, Robinson & Sathyaprakash, Class. Quantum
    Grav. 27 (2010) 084020), so that it leaks less than any denoiser suppresses; its mean square is 1.
    """
    windows = [_planck(size).to(image.device) for size in image.shape]
    mean = image
    for window in reversed(windows):
        mean = mean @ (window / window.sum())
    image = image - mean
    for axis, window in enumerate(windows):
        window = window / window.square().mean().sqrt()
        image *= window.reshape([-1 if a == axis else 1 for a in range(image.ndim)])
    return image


def _planck(size: int) -> Tensor:
    """0 at the edges, 1 in the inner half, (size,) float64."""
    width = size // 4
    share = (torch.arange(width, dtype=torch.float64) + 0.5) / width
    rise = torch.sigmoid(1 / (1 - share) - 1 / share)
    return torch.cat([rise, torch.ones(size - 2 * width, dtype=torch.float64), rise.flip(0)])


def shell_index(radius: Tensor, step: float) -> Tensor:
    """The shell of each coefficient at |f| = `radius` (any shape): the multiple of `step` nearest to it, int64.

    A radius half way between two shells goes to the outer one, whatever the rounding of its square root.
    """
    return (radius / step + (0.5 + 1e-9)).floor().long()


def shell_sums(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Sums over the shells of the full transform: `values` (m, *half space) → (m, shells).

    shape: (*space) of the image. Shells lie at multiples of 1/max(shape) cycles per pixel, from 0 to Nyquist;
    the corners beyond are left out. Each coefficient of the half transform counts for its conjugate too.
    """
    longest = max(shape)
    radius = frequency_radius(shape, values.device, torch.float64)
    # beyond Nyquist: all into one last shell, cut off below
    index = shell_index(radius, 1 / longest).clamp(max=longest // 2 + 1).flatten()
    sums = values.new_zeros((len(values), longest // 2 + 2))
    sums.index_add_(1, index, (values * conjugate_weight(shape, values)).flatten(1))
    return sums[:, :-1]


def conjugate_weight(shape: Sequence[int], like: Tensor) -> Tensor:
    """How many coefficients of the full transform each column of the half one stands for: (half x), 1 or 2."""
    weight = torch.full((shape[-1] // 2 + 1,), 2, dtype=like.dtype, device=like.device)
    weight[0] = 1
    if shape[-1] % 2 == 0:
        weight[-1] = 1
    return weight


def shell_frequencies(shape: Sequence[int]) -> Tensor:
    """The frequencies of the shells of `shell_sums`, (shells,), cycles per pixel, from 0 to at most 0.5."""
    return torch.arange(max(shape) // 2 + 1, dtype=torch.float64) / max(shape)
