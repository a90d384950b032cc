"""Fourier transforms of the trailing axes, and radial filters.

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


def frequency_radius(shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """|f| of each coefficient of a half transform of an image of `shape`: (*half space), cycles per pixel."""
    squared = torch.zeros((), device=device)
    last = len(shape) - 1
    for axis, size in enumerate(shape):
        grid = torch.fft.rfftfreq if axis == last else torch.fft.fftfreq
        frequency = grid(size, device=device)
        squared = squared + (frequency**2).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return squared.sqrt()


def filter_radially(image: Tensor, gain: Callable[[Tensor], Tensor], axes: int) -> Tensor:
    """Multiply each Fourier coefficient of `image` (..., *space) by `gain`(|f| in cycles per pixel)."""
    shape = image.shape[-axes:]
    spectrum = half_transform(image, axes)
    return from_half_transform(spectrum * gain(frequency_radius(shape, image.device)), shape)
