"""Edges must not be taken for shared signal."""

import pytest
import torch

from deice.metrics import fourier_shell_correlation, frc_area, radial_power_spectrum
from deice.ops.edges import fade_edges
from deice.ops.fourier import filter_radially


def blurred(image, sigma):
    return filter_radially(image, lambda f: torch.exp(-2 * (torch.pi * sigma * f) ** 2), image.ndim)


@pytest.mark.parametrize("shape", [(240, 301), (50, 61, 72)])
def test_a_radial_filter_leaves_the_correlation_with_the_truth_where_edges_do_not_wrap(shape):
    generator = torch.Generator().manual_seed(0)
    truth = 8 * blurred(torch.randn([n + 40 for n in shape], generator=generator, dtype=torch.float64), 1)
    noisy = truth + 4 * torch.randn(truth.shape, generator=generator, dtype=torch.float64)
    inner = tuple(slice(20, -20) for _ in shape)

    def area(image, prepare):
        return frc_area(fourier_shell_correlation(prepare(image[inner]), prepare(truth[inner]))[1])

    smooth = blurred(noisy, 1.5)
    assert area(smooth, fade_edges) == pytest.approx(area(noisy, fade_edges), abs=0.03)
    assert area(smooth, torch.Tensor.double) > area(noisy, torch.Tensor.double) + 0.05  # what the fade is for


@pytest.mark.parametrize("shape", [(200, 301), (80, 81, 82)])
def test_white_noise_keeps_its_power(shape):
    noise = 7 + 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    _, power = radial_power_spectrum(fade_edges(noise))
    assert float(power[len(power) // 2 :].mean()) == pytest.approx(9, rel=0.03)


def test_thin_axes_and_constants_survive():
    assert fade_edges(torch.ones(1, 3, 9)).abs().max() == 0
    assert fade_edges(torch.randn(1, 3, 9)).isfinite().all()
