"""The classical denoisers: what each does to a wave, an edge, a mean."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch

from deice.errors import RecipeFault
from deice.filters import FILTERS, Gaussian, LowPass, Wiener

CONFIGURED = [
    Gaussian(1.7),
    LowPass(12.0),
    Wiener(defocus=2.0),
    Wiener(defocus=0.0, convention="isonet", phase_flipped=True),
]
SHAPES = [(33, 40), (9, 14, 11)]


def noise(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("denoiser", CONFIGURED, ids=repr)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_x_plus_b_gives_a_y_plus_b(denoiser, shape):
    image = noise(shape)
    scaled = denoiser.apply(250 * image + 6802, 2.0)
    torch.testing.assert_close(scaled, 250 * denoiser.apply(image, 2.0) + 6802, atol=1e-8, rtol=0)


@pytest.mark.parametrize("denoiser", CONFIGURED, ids=repr)
@pytest.mark.parametrize("shape", SHAPES)
def test_mean_type_and_input_stay(denoiser, shape):
    image = noise(shape, dtype=torch.float32) + 6802
    before = image.clone()
    out = denoiser.apply(image, 2.0)
    assert out.dtype == torch.float32
    assert out.shape == image.shape
    assert float(out.double().mean()) == pytest.approx(float(image.double().mean()), abs=1e-3)
    assert torch.equal(image, before)
    assert not torch.allclose(out, image, atol=1e-2)


@pytest.mark.parametrize("denoiser", CONFIGURED, ids=repr)
def test_nothing_wraps_around_the_edges(denoiser):
    image = torch.zeros((32, 256), dtype=torch.float64)
    image[:, :3] = 1
    far = denoiser.apply(image, 2.0)[:, -3:]
    near = denoiser.apply(image, 2.0)[:, 3:6]
    assert float((far - far.mean()).abs().max()) < 0.05 * float(near.abs().max())


@pytest.mark.parametrize("denoiser", CONFIGURED, ids=repr)
def test_no_axis_is_special(denoiser):
    image = noise((10, 12, 14))
    turned = denoiser.apply(image.permute(2, 0, 1).contiguous(), 2.0).permute(1, 2, 0)
    torch.testing.assert_close(turned, denoiser.apply(image, 2.0))


@pytest.mark.parametrize("sigma", [1.0, 2.5, 20.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_gaussian_is_scipys(sigma, shape):
    image = noise(shape)
    expected = scipy.ndimage.gaussian_filter(image.numpy(), sigma, mode="reflect", truncate=8)
    tolerance = 4e-3 if sigma == 1 else 1e-6  # kernel sampled there, spectrum sampled here
    np.testing.assert_allclose(Gaussian(sigma).apply(image).numpy(), expected, atol=tolerance)


def test_lowpass_stops_and_passes_by_the_angstrom():
    pixel_size, size = 2.0, 200
    x = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    coarse, fine = torch.cos(math.pi * 20 * x), torch.cos(math.pi * 100 * x)  # 40 and 8 Å
    image = (coarse + fine).expand(64, size)
    torch.testing.assert_close(LowPass(20.0).apply(image, pixel_size), coarse.expand(64, size))
    torch.testing.assert_close(LowPass(7.0).apply(image, pixel_size), image)
    at_cutoff = LowPass(40.0).apply(image, pixel_size)
    torch.testing.assert_close(at_cutoff, 0.5 * coarse.expand(64, size))


def published_gain(x, parameters, pixel_size):
    """The formula of tom_deconv in metres and volts, division by the ratio and all, at x of Nyquist."""
    p = parameters
    highpass = 1 - np.cos(np.pi * np.minimum(1, x / p.highpass_nyquist))
    tenfold = 3 * p.strength if p.convention == "tegunov" else p.strength
    snr = np.exp(-x * p.falloff * 100 / pixel_size) * 10**tenfold * highpass
    snr += 1e-6 if p.convention == "isonet" else 0
    volts, cs, defocus = p.voltage * 1e3, p.spherical_aberration * 1e-3, -p.defocus * 1e-6
    wavelength = 12.2643247 / np.sqrt(volts * (1 + volts * 0.978466e-6)) * 1e-10
    k2 = (x / (2 * pixel_size * 1e-10)) ** 2
    w = np.pi / 2 * (wavelength**3 * cs * k2**2 + 2 * wavelength * defocus * k2) - np.radians(p.phase_shift)
    a = p.amplitude_contrast
    ctf = a * np.cos(w) - np.sqrt(1 - a**2) * np.sin(w)
    ctf = np.abs(ctf) if p.phase_flipped else ctf
    return ctf / (ctf**2 + 1 / snr)


@pytest.mark.parametrize("convention", ["tegunov", "isonet"])
@pytest.mark.parametrize("more", [
    {},
    {"phase_flipped": True, "strength": 0.5},
    {"phase_shift": 90.0, "falloff": 0.3},
    {"voltage": 200.0, "spherical_aberration": 2.0, "amplitude_contrast": 0.1},
])
@pytest.mark.parametrize("pixel_size", [1.5, 10.0])
def test_wiener_gain_is_the_published_formula(convention, more, pixel_size):
    denoiser = Wiener(defocus=2.5, convention=convention, **more)
    x = np.linspace(0.001, 1, 300)
    gain = denoiser.gain(torch.from_numpy(x) / 2, pixel_size).numpy()
    np.testing.assert_allclose(gain, published_gain(x, denoiser, pixel_size), rtol=1e-6, atol=1e-12)


def test_wiener_strengths_differ_by_two_powers_of_ten():
    x = torch.tensor([0.1], dtype=torch.float64)
    tegunov = Wiener(defocus=1.0, convention="tegunov").signal_to_noise(x, 10.0)
    isonet = Wiener(defocus=1.0, convention="isonet").signal_to_noise(x, 10.0)
    assert float(tegunov / (isonet - 1e-6)) == pytest.approx(100)


def test_wiener_ctf_is_the_named_amplitude_at_zero_and_dips_first_negative_lobe_later():
    ctf = Wiener(defocus=2.0).ctf(torch.linspace(0, 0.1, 500, dtype=torch.float64))
    assert float(ctf[0]) == pytest.approx(0.07)
    assert float(ctf.max()) == pytest.approx(1, abs=1e-3)
    assert float(ctf.min()) == pytest.approx(-1, abs=1e-3)
    first_zero = 0.1 * int((ctf < 0).nonzero()[0]) / 499
    assert first_zero == pytest.approx(math.sqrt(1 / (0.0196875 * 2e4)), rel=0.05)  # λ·defocus·k² ≈ 1


@pytest.mark.parametrize(("make", "asks"), [
    (lambda: Gaussian(0.0), "above 0"),
    (lambda: Gaussian(math.nan), "above 0"),
    (lambda: LowPass(-3.0), "above 0"),
    (lambda: LowPass().apply(noise((8, 8)), 2.0), "--cutoff"),
    (lambda: LowPass(20.0).apply(noise((8, 8)), None), "--pixel-size"),
    (lambda: LowPass(3.0).apply(noise((8, 8)), 2.0), "4 Å .Nyquist."),
    (lambda: Wiener().apply(noise((8, 8)), 2.0), "--defocus"),
    (lambda: Wiener(defocus=2.0).apply(noise((8, 8)), None), "--pixel-size"),
    (lambda: Wiener(defocus=2.0, convention="warp"), "'tegunov' or 'isonet'"),
    (lambda: Wiener(defocus=2.0, amplitude_contrast=7), "0 to 1"),
    (lambda: Wiener(defocus=2.0, highpass_nyquist=0), "above 0"),
    (lambda: Wiener(defocus=2.0, voltage=0), "above 0"),
])
def test_what_cannot_be_is_refused_with_the_way_out(make, asks):
    with pytest.raises(RecipeFault, match=asks):
        make()


def test_every_name_leads_to_its_filter():
    assert list(FILTERS) == ["gaussian", "lowpass", "wiener"]
    for denoiser in FILTERS.values():
        assert hasattr(denoiser, "apply")
