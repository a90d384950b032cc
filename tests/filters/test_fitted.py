"""The fitted baselines: each is the best of its kind, and the wider kind is never worse."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deice import metrics
from deice.errors import PairFault
from deice.filters import Gaussian
from deice.filters.fitted import SIGMAS, best_gaussian, radial_wiener
from deice.ops.cosine import filter_mirrored


def scene(shape, seed, blur, noise_sd):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(shape, generator=generator, dtype=torch.float64)
    if blur:
        truth = Gaussian(blur).apply(truth)
    truth = 50 + 3 * truth / truth.std()
    return truth, truth + noise_sd * torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(48, 37), (16, 15, 18)])
@pytest.mark.parametrize("blur", [0.0, 1.0, 3.0])
def test_best_gaussian_is_the_argmax_over_its_grid(shape, blur):
    truth, noisy = scene(shape, 1, blur, 4.0)
    smooth, sigma = best_gaussian(noisy, truth)
    scores = [metrics.psnr(Gaussian(float(s)).apply(noisy), truth) for s in SIGMAS]
    assert metrics.psnr(smooth, truth) == pytest.approx(max(scores))
    assert sigma == pytest.approx(float(SIGMAS[scores.index(max(scores))]))
    torch.testing.assert_close(smooth, Gaussian(sigma).apply(noisy))


def test_the_grid_is_fine_and_wide():
    assert float(SIGMAS[0]) == 0.5
    assert float(SIGMAS[-1]) == pytest.approx(20)
    assert float((SIGMAS[1:] / SIGMAS[:-1]).max()) < 1.06


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([(24, 24), (31, 18), (64, 7), (9, 12, 11)]),
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.7, 2.0, 6.0, 15.0]),
    st.sampled_from([0.01, 1.0, 10.0, 300.0]),
)
def test_radial_wiener_is_never_below_the_best_gaussian_nor_the_input(shape, seed, blur, noise_sd):
    truth, noisy = scene(shape, seed, blur, noise_sd)
    wiener = metrics.psnr(radial_wiener(noisy, truth), truth)
    assert wiener >= metrics.psnr(best_gaussian(noisy, truth)[0], truth) - 1e-6
    assert wiener >= metrics.psnr(noisy, truth) - 1e-6


@pytest.mark.parametrize("shape", [(32, 32), (12, 13, 14)])
def test_radial_wiener_is_at_its_least_squares_already(shape):
    truth, noisy = scene(shape, 3, 2.0, 6.0)
    fitted = radial_wiener(noisy, truth)
    torch.testing.assert_close(metrics.align(fitted, truth), fitted)


def test_radial_wiener_finds_a_known_radial_filter():
    truth, _ = scene((40, 40), 5, 2.0, 0.0)
    filtered = filter_mirrored(truth, lambda f: 1 / (0.2 + 5 * f), 2)
    assert metrics.correlation(radial_wiener(filtered, truth), truth) > 0.999
    assert metrics.correlation(filtered, truth) < 0.999


def test_a_constant_input_gives_the_mean_of_the_truth():
    truth, _ = scene((16, 16), 1, 1.0, 0.0)
    flat = torch.full((16, 16), 3.0)
    torch.testing.assert_close(radial_wiener(flat, truth), truth.mean().expand(16, 16))
    torch.testing.assert_close(best_gaussian(flat, truth)[0], flat.double())


def test_two_sizes_are_a_pair_fault():
    with pytest.raises(PairFault, match="expected one size"):
        best_gaussian(torch.zeros(4, 4), torch.zeros(4, 5))
