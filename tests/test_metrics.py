"""The figures of quality: oracles, brute force, and the laws that make them worth printing."""

import math

import numpy as np
import pytest
import skimage.filters
import skimage.metrics
import torch

from deice import metrics
from deice.errors import PairFault, UserError
from deice.ops.fourier import filter_radially, tapered


def noise(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def smooth(shape, seed=0):
    """A smooth random picture of unit variance."""
    image = filter_radially(noise(shape, seed), lambda f: torch.exp(-60 * f**2), len(shape))
    return (image - image.mean()) / image.std()


SHAPES = [(24, 31), (13, 16, 15)]


# PSNR, alignment


@pytest.mark.parametrize("shape", SHAPES)
def test_psnr_of_an_aligned_image_is_skimages(shape):
    truth = smooth(shape)
    aligned = metrics.align(truth + noise(shape, 1), truth)
    expected = skimage.metrics.peak_signal_noise_ratio(
        truth.numpy(), aligned.numpy(), data_range=metrics.data_range(truth)
    )
    assert metrics.psnr(truth + noise(shape, 1), truth) == pytest.approx(expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_align_is_the_least_squares_line(shape):
    truth, image = smooth(shape), smooth(shape) * 3 + noise(shape, 1) + 500
    line = np.polyfit(image.numpy().ravel(), truth.numpy().ravel(), 1)
    expected = np.polyval(line, image.numpy())
    np.testing.assert_allclose(metrics.align(image, truth).numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("figure", [metrics.psnr, metrics.correlation, metrics.edge_preservation])
def test_scale_and_offset_change_nothing(figure):
    truth = smooth((24, 31))
    image = truth + noise((24, 31), 1)
    assert figure(-40 + 7 * image, truth) == pytest.approx(abs(figure(image, truth)))


def test_an_exact_copy_has_a_finite_psnr():
    truth = smooth((24, 31))
    assert 290 < metrics.psnr(truth, truth) < 314
    assert metrics.rmse(truth, truth) == 0
    assert metrics.correlation(truth, truth) == pytest.approx(1)
    assert metrics.ssim(truth, truth) == pytest.approx(1)
    assert metrics.edge_preservation(truth, truth) == pytest.approx(1)


def test_against_a_noisy_truth_a_rescale_alone_scores_well():
    """Why every table has its pointwise row: the noise of the 'truth' is what such a PSNR rewards."""
    structure = 0.1 * smooth((64, 64))
    movie = torch.poisson((10 + structure).expand(2, 64, 64), generator=torch.Generator().manual_seed(2))
    shared = movie[0]  # a 'truth' that holds the very noise of the input, as in synthetic-noise pipelines
    degraded = torch.poisson(shared * 3, generator=torch.Generator().manual_seed(3)) / 3
    assert metrics.psnr(metrics.align(degraded, shared), shared) > 20
    assert metrics.correlation(degraded, shared) > 0.8
    assert abs(metrics.correlation(movie[0], structure)) < 0.1  # … and yet next to nothing of the structure


def test_a_constant_image_explains_nothing():
    truth = smooth((24, 31))
    flat = torch.ones_like(truth)
    assert metrics.correlation(flat, truth) == 0
    torch.testing.assert_close(metrics.align(flat, truth), truth.mean().expand(24, 31))
    with pytest.raises(UserError, match="everywhere"):
        metrics.psnr(truth, flat)


# SSIM


@pytest.mark.parametrize(("mean", "sd"), [(0, 1), (1000, 9), (6802, 9), (-300, 0.1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_ssim_is_skimages_whatever_the_mean(shape, mean, sd):
    truth = mean + sd * smooth(shape)
    image = truth + 0.4 * sd * noise(shape, 1)
    expected = skimage.metrics.structural_similarity(
        truth.numpy(), image.numpy(), data_range=metrics.data_range(truth), gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )
    assert 0.1 < expected < 0.999
    assert metrics.ssim(image, truth) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_float32_images_with_a_large_mean():
    truth = (6802 + 9 * smooth((32, 32))).float()
    image = truth + 3 * noise((32, 32), 1).float()
    expected = metrics.ssim(image.double(), truth.double())
    assert metrics.ssim(image, truth) == pytest.approx(expected, abs=1e-12)


def test_ssim_refuses_an_axis_shorter_than_its_window():
    with pytest.raises(UserError, match="10×40"):
        metrics.ssim(noise((10, 40)), noise((10, 40), 1))


# FRC, FSC


def brute_force_fsc(a, b):
    """Every coefficient of the full transform, one by one, into the nearest shell."""
    shape, longest = a.shape, max(a.shape)
    x, y = np.fft.fftn(a - a.mean()), np.fft.fftn(b - b.mean())
    sums = np.zeros((4, longest // 2 + 1))
    for index in np.ndindex(shape):
        k = [i if i <= (n - 1) // 2 else i - n for i, n in zip(index, shape)]
        shell = int(math.sqrt(sum((i / n) ** 2 for i, n in zip(k, shape))) * longest + 0.5 + 1e-9)
        if shell <= longest // 2:
            sums[:, shell] += (x[index] * y[index].conj()).real, abs(x[index]) ** 2, abs(y[index]) ** 2, 1
    return sums[0, 1:] / np.sqrt(sums[1, 1:] * sums[2, 1:]), sums[3, 1:]


@pytest.mark.parametrize("shape", [(7, 7), (8, 8), (12, 8), (9, 14), (7, 6, 5), (4, 9, 9)])
def test_fsc_is_the_brute_force_one(shape):
    a, b = smooth(shape), smooth(shape) + noise(shape, 1)
    frequencies, curve, count = metrics.fourier_shell_correlation(a, b, taper=False)
    expected, expected_count = brute_force_fsc(a.numpy(), b.numpy())
    np.testing.assert_allclose(curve.numpy(), expected, atol=1e-9)
    np.testing.assert_array_equal(count.numpy(), expected_count)
    np.testing.assert_allclose(frequencies.numpy(), np.arange(1, max(shape) // 2 + 1) / max(shape))


@pytest.mark.parametrize("shape", [(8, 8), (9, 14), (7, 6, 5)])
def test_tapered_fsc_is_the_brute_force_one_of_tapered_images(shape):
    a, b = smooth(shape) + 50, smooth(shape) + noise(shape, 1)
    expected, _ = brute_force_fsc(tapered(a).numpy(), tapered(b).numpy())
    np.testing.assert_allclose(metrics.fourier_shell_correlation(a, b)[1].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_fsc_is_unmoved_by_one_gain_per_shell_and_by_scale_and_offset(shape):
    a, b = smooth(shape), smooth(shape) + noise(shape, 1)
    plain = metrics.fourier_shell_correlation(a, b, taper=False)[1]
    steps = filter_radially(b, lambda f: 1 + (f * max(shape) + 0.5 + 1e-9).floor() % 5, len(shape))
    stepped = metrics.fourier_shell_correlation(a, steps, taper=False)[1]
    np.testing.assert_allclose(stepped.numpy(), plain.numpy(), atol=1e-9)
    tapered_plain = metrics.fourier_shell_correlation(a, b)[1]
    scaled = metrics.fourier_shell_correlation(a, 0.01 * b + 1e4)[1]
    np.testing.assert_allclose(scaled.numpy(), tapered_plain.numpy(), atol=1e-7)


@pytest.mark.parametrize("shape", [(256, 256), (57, 64, 60)])
def test_no_smooth_radial_filter_moves_the_frc(shape):
    """The reason for the taper: without it the edges that both images share stand in for detail."""
    wide = tuple(n + 32 for n in shape)
    inner = tuple(slice(16, -16) for _ in shape)
    scene, grain = filter_radially(noise(wide), lambda f: torch.exp(-15 * f), len(shape)), 3 * noise(wide, 1)
    noisy = scene / scene.std() + grain
    smoothed = filter_radially(noisy, lambda f: torch.exp(-60 * f**2), len(shape))

    def area(image, taper):
        return metrics.frc_area(metrics.fourier_shell_correlation(image[inner], scene[inner], taper)[1])

    assert area(smoothed, True) == pytest.approx(area(noisy, True), abs=0.02)
    if len(shape) == 2:
        assert area(smoothed, False) > area(noisy, False) + 0.05


def test_frc_of_independent_noise_is_zero_and_of_a_copy_one():
    a, b = noise((96, 96)), noise((96, 96), 1)
    _, curve, count = metrics.fourier_shell_correlation(a, b)
    assert float((curve * count.sqrt()).abs().max()) < 6  # √(2/n), somewhat more for the taper's share of pixels
    assert metrics.frc_area(metrics.fourier_shell_correlation(a, a)[1]) == pytest.approx(1)
    assert metrics.frc_area(metrics.fourier_shell_correlation(a, -a)[1]) == pytest.approx(-1)


def test_an_empty_shell_correlates_at_zero():
    flat = torch.full((16, 16), 3.0)
    assert metrics.fourier_shell_correlation(flat, noise((16, 16)))[1].tolist() == [0.0] * 8


def test_crossing_is_interpolated_and_in_angstrom():
    frequencies, curve = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([1.0, 0.8, 0.4, 0.0])
    assert metrics.crossing(frequencies, curve, 0.5, 1.5) == pytest.approx(1.5 / 0.275)
    assert metrics.crossing(frequencies, curve, 0.143, 3.0) == pytest.approx(3.0 / (0.3 + 0.1 * 0.257 / 0.4))


@pytest.mark.parametrize("curve", [[1.0, 0.9, 0.8], [0.1, 0.9, 0.1]])
def test_no_crossing_is_said_as_none(curve):
    assert metrics.crossing(torch.tensor([0.1, 0.2, 0.3]), torch.tensor(curve), 0.5, 1.0) is None


# spectra


@pytest.mark.parametrize("shape", [(64, 63), (20, 21, 22)])
def test_white_noise_has_its_variance_in_every_shell(shape):
    frequencies, power = metrics.radial_power_spectrum(3 * noise(shape) + 50)
    assert len(frequencies) == len(power)
    assert float(power.mean()) == pytest.approx(9, rel=0.1)
    assert float(power[len(power) // 2 :].mean()) == pytest.approx(9, rel=0.1)


def test_spectrum_of_a_wave_stands_in_its_shell():
    wave = torch.cos(2 * math.pi * 5 * torch.arange(40) / 40).expand(40, 40)
    frequencies, power = metrics.radial_power_spectrum(wave)
    assert float(frequencies[power.argmax()]) == pytest.approx(5 / 40)
    assert float(power[2:7].sum() / power.sum()) > 0.95  # the taper widens the line by a few shells
    assert float(power[12:].max() / power.max()) < 1e-4


# halves


def test_removed_noise_is_uncorrelated_for_a_perfect_denoiser_only():
    shape = (96, 96)
    truth, pattern = smooth(shape), 0.7 * noise(shape, 9)
    halves = (truth + noise(shape, 1), truth + noise(shape, 2))
    with_pattern = (halves[0] + pattern, halves[1] + pattern)
    perfect = metrics.removed_noise_correlation(halves, (truth, truth))
    eats_signal = metrics.removed_noise_correlation(halves, (0.3 * truth, 0.3 * truth))
    removes_pattern = metrics.removed_noise_correlation(with_pattern, (truth, truth))
    assert abs(perfect) < 0.03
    assert eats_signal > 0.2
    assert removes_pattern > 0.2
    _, per_shell, count = metrics.removed_noise_per_shell(halves, (0.3 * truth, 0.3 * truth))
    assert float(per_shell[:4].mean()) > 0.9  # the signal lies at low frequencies: there it was eaten
    assert abs(float((per_shell * count)[20:].sum() / count[20:].sum())) < 0.05


def test_minus_the_mean_of_both_would_hide_lost_signal():
    """What removed_noise must not do: half − mean of both denoised halves anticorrelates by itself."""
    shape = (96, 96)
    truth = smooth(shape)
    halves = (truth + noise(shape, 1), truth + noise(shape, 2))
    denoised = tuple(0.5 * half for half in halves)
    mean = (denoised[0] + denoised[1]) / 2
    honest = metrics.removed_noise_correlation(halves, denoised)
    assert honest > 0.4
    assert metrics.correlation(halves[0] - mean, halves[1] - mean) < honest - 0.2


def test_even_odd_correlation_gives_the_share_of_signal():
    truth = smooth((128, 128))
    value = metrics.correlation(truth + 2 * noise((128, 128), 1), truth + 2 * noise((128, 128), 2))
    assert value == pytest.approx(1 / (1 + 4), abs=0.03)


# edges


def test_edge_preservation_against_skimage_laplacian():
    truth = smooth((24, 31))
    image = truth + 0.1 * noise((24, 31), 1)
    inner = np.s_[1:-1, 1:-1]
    a, b = (skimage.filters.laplace(x.numpy(), ksize=3)[inner].ravel() for x in (image, truth))
    assert metrics.edge_preservation(image, truth) == pytest.approx(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize("shape", SHAPES)
def test_blur_and_noise_lower_edge_preservation(shape):
    truth = smooth(shape)
    blurred = filter_radially(truth, lambda f: torch.exp(-200 * f**2), len(shape))
    assert metrics.edge_preservation(blurred, truth) < 0.95
    assert metrics.edge_preservation(truth + noise(shape, 1), truth) < 0.5


# bad input

PAIRED = [metrics.rmse, metrics.correlation, metrics.psnr, metrics.ssim, metrics.fourier_shell_correlation,
          metrics.edge_preservation]


@pytest.mark.parametrize("figure", PAIRED)
def test_two_sizes_are_a_pair_fault(figure):
    with pytest.raises(PairFault, match="16×16 and of 16×17"):
        figure(noise((16, 16)), noise((16, 17)))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("figure", PAIRED)
def test_non_finite_is_refused_and_counted(figure, bad):
    image = noise((16, 16))
    image[3, 4] = bad
    with pytest.raises(UserError, match="1 of 256 pixels are not finite"):
        figure(image, noise((16, 16), 1))


def test_spectrum_refuses_non_finite():
    with pytest.raises(UserError, match="not finite"):
        metrics.radial_power_spectrum(torch.full((4, 4), math.nan))
