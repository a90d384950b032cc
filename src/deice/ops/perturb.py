"""Random masks over the coefficients of a half transform, such that what comes back is a real image.

A half transform holds both coefficients of a conjugate pair in two of its planes, zero and (of an even size) Nyquist of
the last axis. Masks are equal there, so a hidden coefficient is not shown by its twin.
"""

from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor


def conjugate_draws(
    shape: Sequence[int], generator: torch.Generator, device: torch.device, block: int = 1, count: int = 1
) -> Tensor:
    """(count, *half space): uniform numbers in [0, 1), equal for conjugate coefficients of an image of `shape`.

    One number for each `block` of coefficients along every axis, centred on multiples of `block` around zero frequency.
    """
    places = [block_index(size, block, half=axis == len(shape) - 1) for axis, size in enumerate(shape)]
    blocks = [int(place.max()) + 1 for place in places]
    draws = torch.rand((count, *blocks), generator=generator, device=generator.device).to(device)
    for axis, place in enumerate(places):
        if block > 1:
            draws = draws.index_select(axis + 1, place.to(device))
    for plane in {0, shape[-1] // 2} if shape[-1] % 2 == 0 else {0}:
        draws[..., plane] = (draws[..., plane] + mirrored(draws[..., plane])) % 1  # of two uniform ones: uniform
    return draws


def block_index(size: int, block: int, half: bool) -> Tensor:
    """Which block each index of an axis of `size` lies in, in the order of the transform: (size,) or (half size,)."""
    if block == 1:
        return torch.arange(size // 2 + 1 if half else size)
    frequency = torch.arange(size // 2 + 1) if half else torch.fft.fftfreq(size, 1 / size).round().long()
    index = torch.sign(frequency) * ((frequency.abs() + block // 2) // block)
    return index - index.min()


def mirrored(plane: Tensor) -> Tensor:
    """The value at -k for each k: (count, *space without the last axis), every axis in the order of the transform."""
    axes = tuple(range(1, plane.ndim))
    return plane.flip(axes).roll((1,) * len(axes), axes) if axes else plane


def index_radius(shape: Sequence[int], device: torch.device) -> Tensor:
    """Distance from zero frequency in whole coefficients: (*half space). A ball in it is long along a short axis."""
    squared = torch.zeros((), device=device)
    last = len(shape) - 1
    for axis, size in enumerate(shape):
        grid = torch.fft.rfftfreq if axis == last else torch.fft.fftfreq
        index = grid(size, 1 / size, device=device)
        squared = squared + (index**2).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return squared.sqrt()


def ball_radius(share: float, volume: float, axes: int) -> float:
    """The radius of a ball (of a disc, on two axes) that holds `share` of `volume`."""
    return (share * volume / {2: pi, 3: 4 * pi / 3}[axes]) ** (1 / axes)
