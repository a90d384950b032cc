"""Projected potentials: particles laid into the field of view, and the ice around them."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from deice.ops.ctf import plane_frequencies
from deice.ops.fourier import half_transform
from deice.worlds.matter import ice_spectrum
from deice.worlds.proteins import Protein


def project(
    body: Protein, rotations: np.ndarray, positions: np.ndarray, shape: Sequence[int], pixel_size: float
) -> Tensor:
    """Potential in V·Å of many copies of `body`, summed along the beam: the half transform of a (y, x) field.

    rotations: (n, 3, 3).  positions: (n, 2) y, x of the centres in pixels of the periodic field.
    Sites are shared out to the four nearest pixels, whose triangle is divided out again in Fourier space.
    """
    field = torch.zeros(math.prod(shape), dtype=torch.float64)
    weights = torch.from_numpy(body.weights)
    for rotation, position in zip(rotations, positions, strict=True):
        in_plane = (body.sites @ rotation.T)[:, 1::-1] / pixel_size + position
        share_out(field, torch.from_numpy(in_plane), weights, shape)
    frequency, _ = plane_frequencies(shape, pixel_size)
    spectrum = half_transform(field.reshape(*shape), axes=2)
    return spectrum * body.form(frequency) / (_triangle(shape) * pixel_size**2)


def ice(
    shape: Sequence[int], pixel_size: float, thickness: float, dose: float, rng: np.random.Generator
) -> Tensor:
    """A film of `thickness` Å: the half transform of its projected potential's fluctuations in V·Å.

    dose: electrons/Å², over which the water's motion averages fine structure out.
    Particles displace some of it; that share of the film is small, and left in.
    """
    frequency, _ = plane_frequencies(shape, pixel_size)
    white = half_transform(torch.from_numpy(rng.standard_normal(tuple(shape))), axes=2)
    spectrum = white * ice_spectrum(frequency, thickness, dose).sqrt() / pixel_size
    spectrum[0, 0] = 0
    return spectrum


def share_out(field: Tensor, places: Tensor, weights: Tensor, shape: Sequence[int]) -> None:
    """Add `weights` (n,) at `places` (n, axes of `shape`) to the flat, periodic `field`, linearly along each axis."""
    corner = places.floor()
    beyond = (places - corner).T
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    columns = [corner[:, axis].long() for axis in range(len(shape))]
    sides = [
        [((column + step) % size * stride, share if step else 1 - share) for step in (0, 1)]
        for column, size, stride, share in zip(columns, shape, strides, beyond, strict=True)
    ]
    for chosen in itertools.product(*sides):
        share, index = weights, torch.zeros_like(columns[0])
        for offset, part in chosen:
            share, index = share * part, index + offset
        field.index_add_(0, index, share)


def _triangle(shape: Sequence[int]) -> Tensor:
    """Transform of the bilinear kernel on the half spectrum of `shape`."""
    along_y = torch.sinc(torch.fft.fftfreq(shape[0], dtype=torch.float64)[:, None])
    along_x = torch.sinc(torch.fft.rfftfreq(shape[1], dtype=torch.float64)[None, :])
    return (along_y * along_x) ** 2
