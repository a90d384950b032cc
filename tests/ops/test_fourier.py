"""Transforms, shells and mirrored filtering, against numpy and scipy."""

import math

import numpy as np
import pytest
import scipy.fft
import torch

from deice.ops.cosine import cosine_radius, cosine_transform, filter_mirrored, from_cosine_transform
from deice.ops.fourier import (
    filter_radially,
    frequency_radius,
    from_half_transform,
    half_transform,
    shell_frequencies,
    shell_sums,
    tapered,
)

SHAPES = [(8, 8), (7, 9), (12, 8), (5, 6, 7), (4, 9, 9)]


def picture(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
def test_half_transform_comes_back_at_odd_sizes(shape):
    image = picture((2, *shape))
    back = from_half_transform(half_transform(image, len(shape)), shape)
    torch.testing.assert_close(back, image)


@pytest.mark.parametrize("shape", SHAPES)
def test_radius_is_in_cycles_per_pixel_along_every_axis(shape):
    grids = np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")
    full = np.sqrt(sum(g**2 for g in grids))
    half = full[..., : shape[-1] // 2 + 1]
    np.testing.assert_allclose(frequency_radius(shape, dtype=torch.float64).numpy(), half, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_shell_sums_equal_those_of_the_full_transform(shape):
    image = picture(shape)
    power = np.abs(np.fft.fftn(image.numpy())) ** 2
    grids = np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")
    radius = np.sqrt(sum(g**2 for g in grids)) * max(shape)
    expected = [power[np.floor(radius + 0.5 + 1e-9) == k].sum() for k in range(max(shape) // 2 + 1)]
    half = half_transform(image, len(shape))
    sums = shell_sums((half.abs() ** 2)[None], shape)[0]
    np.testing.assert_allclose(sums.numpy(), expected)
    assert len(shell_frequencies(shape)) == len(sums)
    assert float(shell_frequencies(shape)[-1]) <= 0.5


def test_radial_filter_keeps_a_passing_wave_and_stops_another():
    x = torch.arange(32) / 32
    slow, fast = torch.cos(2 * math.pi * 2 * x), torch.cos(2 * math.pi * 12 * x)
    image = (slow + fast).expand(32, 32)
    kept = filter_radially(image, lambda frequency: (frequency < 0.2).float(), 2)
    torch.testing.assert_close(kept, slow.expand(32, 32), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (8,), (5, 6), (4, 7, 9)])
def test_cosine_transform_is_scipys(shape):
    image = picture(shape)
    transform = cosine_transform(image, len(shape))
    np.testing.assert_allclose(transform.numpy(), scipy.fft.dctn(image.numpy(), norm="ortho"), atol=1e-12)
    torch.testing.assert_close(from_cosine_transform(transform, len(shape)), image)


@pytest.mark.parametrize("shape", [(7, 8), (5, 6, 7)])
def test_mirrored_filter_is_the_radial_filter_of_the_doubled_image(shape):
    def gain(frequency):
        return torch.exp(-8 * frequency**2)

    image = picture(shape) + 100
    doubled = image
    for axis in range(len(shape)):
        doubled = torch.cat([doubled, doubled.flip(axis)], axis)
    expected = filter_radially(doubled, gain, len(shape))[tuple(slice(n) for n in shape)]
    torch.testing.assert_close(filter_mirrored(image, gain, len(shape)), expected)
    torch.testing.assert_close(filter_mirrored(image[None, None], gain, len(shape))[0, 0], expected)


def test_mirrored_filter_leaves_its_input_and_its_mean_alone():
    image = picture((9, 10)) + 5
    before = image.clone()
    filtered = filter_mirrored(image, torch.zeros_like, 2)
    torch.testing.assert_close(filtered, before.mean().expand(9, 10))
    assert torch.equal(image, before)


def test_cosine_radius_counts_half_steps():
    radius = cosine_radius((4, 8), "cpu", torch.float64)
    assert float(radius[0, 1]) == pytest.approx(1 / 16)
    assert float(radius[3, 0]) == pytest.approx(3 / 8)


@pytest.mark.parametrize("shape", [(40, 33), (12, 20, 16), (3, 5), (1, 9)])
def test_taper_keeps_the_power_of_noise_and_takes_the_mean(shape):
    image = 7 + picture((200, *shape))
    windowed = torch.stack([tapered(one) for one in image])
    assert float(windowed.square().mean()) == pytest.approx(1, rel=0.1 + 3 / math.prod(shape))
    assert float(tapered(torch.full(shape, 1e4, dtype=torch.float64)).abs().max()) < 1e-10


def test_taper_is_smooth_at_the_edges_and_flat_inside():
    ramp = torch.arange(64, dtype=torch.float64).expand(64, 64) - 31.5
    windowed = tapered(ramp)
    assert float(windowed[:, 0].abs().max()) < 1e-6 * float(windowed.abs().max())
    slope = windowed[32, 17:47].diff()
    torch.testing.assert_close(slope, slope[0].expand(29))
