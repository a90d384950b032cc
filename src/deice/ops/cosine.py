"""Fourier filtering of an image mirrored at its edges: the cosine transform.

An image followed by its mirror image has no jump at its edges, so a filter wraps nothing around. The
Fourier transform of that doubled image is real and symmetric: it is the cosine transform (DCT-II) of the
image itself, which costs neither the doubling nor a margin to choose, at any size. Source: J. Makhoul, IEEE
Trans. ASSP 28 (1980) 27-34. Coefficient k along an axis of n pixels has the frequency k/(2n) cycles per
pixel.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def cosine_transform(image: Tensor, axes: int) -> Tensor:
    """Orthonormal DCT-II of the `axes` trailing axes: (..., *space) → (..., *space), real."""
    for axis in range(-axes, 0):
        image = _forward(image.movedim(axis, -1)).movedim(-1, axis)
    return image


def from_cosine_transform(coefficients: Tensor, axes: int) -> Tensor:
    """The inverse of `cosine_transform`: (..., *space) → (..., *space)."""
    for axis in range(-axes, 0):
        coefficients = _backward(coefficients.movedim(axis, -1)).movedim(-1, axis)
    return coefficients


def cosine_radius(shape: Sequence[int], device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """|f| of each cosine coefficient of an image of `shape` (*space): (*space), cycles per pixel."""
    squared = torch.zeros((), device=device, dtype=dtype)
    for axis, size in enumerate(shape):
        frequency = torch.arange(size, device=device, dtype=dtype) / (2 * size)
        squared = squared + (frequency**2).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return squared.sqrt()


def filter_mirrored(image: Tensor, gain: Callable[[Tensor], Tensor], axes: int) -> Tensor:
    """Multiply by `gain`(|f| in cycles per pixel) the transform of `image` (..., *space) mirrored at its
    edges.

    The mean stays what it was, whatever gain(0): it is set aside, which also spares float32 the digits that
    a large mean would cost.
    """
    space = tuple(range(-axes, 0))
    mean = image.mean(dim=space, keepdim=True, dtype=torch.float64).to(image.dtype)
    coefficients = cosine_transform(image - mean, axes)
    coefficients *= gain(cosine_radius(image.shape[-axes:], image.device, image.dtype))
    coefficients[(..., *[0] * axes)] = 0
    return from_cosine_transform(coefficients, axes) + mean


def _forward(rows: Tensor) -> Tensor:
    """DCT-II of the last axis through one real transform of the same length."""
    size = rows.shape[-1]
    folded = torch.cat([rows[..., ::2], rows[..., 1::2].flip(-1)], -1)
    turned = torch.fft.rfft(folded) * _quarter_steps(size, rows, -1)
    tail = -turned.imag[..., 1 : (size + 1) // 2].flip(-1)
    return torch.cat([turned.real, tail], -1) * _norms(size, rows)


def _backward(rows: Tensor) -> Tensor:
    """The inverse of `_forward`."""
    size = rows.shape[-1]
    rows = rows / _norms(size, rows)
    half = size // 2 + 1
    imaginary = torch.cat([torch.zeros_like(rows[..., :1]), rows.flip(-1)[..., : half - 1]], -1)
    turned = torch.complex(rows[..., :half].contiguous(), -imaginary)
    folded = torch.fft.irfft(turned * _quarter_steps(size, rows, +1), n=size)
    image = torch.empty_like(folded)
    image[..., ::2] = folded[..., : (size + 1) // 2]
    image[..., 1::2] = folded[..., (size + 1) // 2 :].flip(-1)
    return image


def _quarter_steps(size: int, like: Tensor, sign: int) -> Tensor:
    """exp(± iπk/2n) for the coefficients of a half transform of n pixels."""
    angle = torch.arange(size // 2 + 1, dtype=like.dtype, device=like.device) * (sign * math.pi / (2 * size))
    return torch.polar(torch.ones_like(angle), angle)


def _norms(size: int, like: Tensor) -> Tensor:
    """What makes the transform orthonormal: √(2/n), and √(1/n) for the mean."""
    norms = torch.full((size,), math.sqrt(2 / size), dtype=like.dtype, device=like.device)
    norms[0] = math.sqrt(1 / size)
    return norms
