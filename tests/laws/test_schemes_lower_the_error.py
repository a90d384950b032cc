"""Every scheme lowers the true error, on two axes and on three, and classical filters do through the same door."""

import numpy as np
import pytest
from worlds_for_tests import error, structure, views

from deice import denoise, train

SMALL = {
    2: {"net": {"name": "unet", "size": 8, "depth": 2}, "data": {"window": 48}, "training": {"batch": 8}},
    3: {"net": {"name": "unet", "size": 6, "depth": 1}, "data": {"window": 16}, "training": {"batch": 4}},
}
SHAPES = {2: (160, 144), 3: (24, 52, 44)}


def trained(axes, scheme, inputs, target=None, steps=150, **data):
    recipe = {**SMALL[axes], "scheme": scheme, "data": {**SMALL[axes]["data"], **data}}
    return train(inputs, recipe=recipe, target=target, steps=steps, lr=3e-3, precision="fp32")


@pytest.mark.parametrize("axes", [2, 3])
def test_noise2noise(axes):
    truth, noisy = views(SHAPES[axes], seed=50)
    model = trained(axes, {"name": "noise2noise"}, [views(SHAPES[axes], seed=i)[1] for i in range(3)])
    denoised = np.asarray(denoise(noisy, model))
    assert error(denoised, truth) < 0.7 * error(noisy.mean(0), truth)


@pytest.mark.parametrize("axes", [2, 3])
def test_noise2void(axes):
    truth, noisy = views(SHAPES[axes], count=1, noise=0.7, seed=60)
    model = trained(axes, {"name": "noise2void", "share": 0.05}, [noisy], steps=250)
    assert error(np.asarray(denoise(noisy, model)), truth) < 0.7 * error(noisy[0], truth)


@pytest.mark.parametrize("axes", [2, 3])
def test_supervised_with_synthetic_noise(axes):
    truth, noisy = views(SHAPES[axes], count=1, noise=0.8, seed=70)
    clean = [structure(SHAPES[axes], i)[None] for i in range(3)]
    model = trained(axes, {"name": "supervised", "sigma": 0.8}, clean)
    assert error(np.asarray(denoise(noisy, model)), truth) < 0.7 * error(noisy[0], truth)


def test_a_measured_pair_is_learnt_in_its_direction():
    truth, noisy = views(SHAPES[2], count=1, seed=80)
    pairs = [views(SHAPES[2], count=1, seed=i) for i in range(3)]
    model = trained(2, {"name": "supervised"}, [noise for _, noise in pairs], target=[clean for clean, _ in pairs])
    assert model.scheme.directed
    assert error(np.asarray(denoise(noisy, model)), truth) < 0.5 * error(noisy[0], truth)


@pytest.mark.parametrize("axes", [2, 3])
def test_classical_filters_through_the_same_door(axes):
    truth, noisy = views(SHAPES[axes], count=1, seed=90)
    denoised = np.asarray(denoise(noisy[0], "gaussian", sigma_pixels=1.5))
    assert error(denoised, truth) < 0.7 * error(noisy[0], truth)


@pytest.mark.parametrize(("axes", "mask"), [(2, "points"), (3, "blocks")])
def test_self2self(axes, mask):
    truth, noisy = views(SHAPES[axes], count=1, noise=0.8, seed=100)
    scheme = {"name": "self2self", "mask": mask, "volumetric_scale_factor": 2, "predict_N_times": 8}
    recipe = SMALL[axes] | {"scheme": scheme, "net": SMALL[axes]["net"] | {"dropout": 0.2}}
    model = train([noisy], recipe=recipe, steps=60, lr=3e-3, precision="fp32")
    assert error(np.asarray(denoise(noisy, model)), truth) < 0.6 * error(noisy[0], truth)


def test_recorrupted_of_one_volume_comes_near_to_two_halves():
    """Coloured noise, white along y: what blind spots keep, this takes off, though there is one volume only."""
    truth = structure(SHAPES[3], seed=95)
    z, x = (np.fft.fftfreq(size) for size in (SHAPES[3][0], SHAPES[3][2]))
    ramp = np.sqrt(z[:, None, None] ** 2 + x[None, None] ** 2)  # of amplitude
    white = np.random.default_rng(96).normal(size=(3, *SHAPES[3]))
    coloured = np.fft.ifftn(np.fft.fftn(white, axes=(1, 3)) * ramp, axes=(1, 3)).real
    volumes = (truth + 1.5 * coloured / coloured.std()).astype(np.float32)
    alone = trained(3, {"name": "recorrupted"}, [volumes[:1]], steps=200)
    halves = trained(3, {"name": "noise2noise"}, [volumes[1:]], steps=200)
    found = error(np.asarray(denoise(volumes[0], alone)), truth)
    assert found < 0.2 * error(volumes[0], truth)
    assert found < 1.3 * error(np.asarray(denoise(volumes[0], halves)), truth)
