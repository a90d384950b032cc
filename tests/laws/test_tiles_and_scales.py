"""Tiled equals whole; a·x + b is denoised to a·y + b; the answer does not depend on batch, tile or the input's life."""

import numpy as np
import pytest
import torch
from worlds_for_tests import views

from deice import denoise
from deice.checkpoint import Model
from deice.filters import Gaussian, Wiener
from deice.image import Geometry, Image
from deice.nets import ResidualCNN, UNet
from deice.recipe import Recipe, from_table
from deice.schemes import SCHEMES

NETS = [
    ResidualCNN(depth=4, width=6), UNet(size=4, depth=2), UNet(size=4, depth=3, residual=True),
    ResidualCNN(depth=4, width=6, norm="batch"), UNet(size=4, depth=1, upsampling="linear", blocks="residual"),
    UNet(size=4, depth=1, upsampling="transposed", norm="batch", dropout=0.5),
]  # fmt: skip


def untrained(net, axes, normaliser="standard", scheme="noise2noise"):
    """A model with random weights: what the laws say holds for any weights."""
    torch.manual_seed(1)
    recipe = from_table({"data": {"normaliser": normaliser}, "scheme": {"name": scheme}})
    module = net.build(axes)
    for tensor in module.parameters():
        if tensor.ndim == 1:
            torch.nn.init.normal_(tensor, std=0.1)  # biases too, or borders would be too easy
        elif tensor.shape[0] == 1:
            torch.nn.init.normal_(tensor, std=0.3)  # the last layer, which begins near zero
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2.0)
    return Model(module.eval(), axes, None, Recipe(recipe.data, recipe.scheme, net), {})


def apart(a, b):
    """The largest difference in units of the output's standard deviation."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.abs(a - b).max() / a.std())


@pytest.mark.parametrize("net", NETS, ids=str)
@pytest.mark.parametrize("shape", [(203, 131), (64, 64), (9, 200), (20, 37, 23)])
def test_tiled_equals_whole(net, shape):
    model = untrained(net, len(shape))
    _, noisy = views(shape, seed=3)
    whole = denoise(noisy, model, tile=512, precision="fp32")
    for tile in (24, 40):
        assert apart(whole, denoise(noisy, model, tile=tile, precision="fp32")) < 1e-4


@pytest.mark.parametrize("shape", [(90, 71), (20, 33, 41)])
@pytest.mark.parametrize(("a", "b"), [(3.0, 0.0), (0.02, 5.0), (250.0, 6802.0)])
def test_grey_values_follow_the_inputs_scale(shape, a, b):
    _, noisy = views(shape, seed=4)
    noisy = noisy.astype(np.float64)
    for model in (untrained(UNet(size=4, depth=2), len(shape)), Gaussian(1.5), Wiener(defocus=1.0)):
        image = Image(noisy.astype(np.float32), Geometry((2.0, 2.0, 2.0)))
        scaled = Image((a * noisy + b).astype(np.float32), Geometry((2.0, 2.0, 2.0)))
        plain = np.asarray(denoise(image, model, precision="fp32"), np.float64)
        assert apart(a * plain + b, denoise(scaled, model, precision="fp32")) < 1e-3


def test_the_percentile_normaliser_is_exempt_and_its_models_say_so():
    model = untrained(UNet(size=4, depth=2), 2, normaliser="percentile")
    _, noisy = views((64, 64), seed=5)
    plain, shifted = (np.asarray(denoise(noisy + offset, model, precision="fp32")) for offset in (0, 3))
    assert apart(plain + 3, shifted) > 0.1  # not equivariant
    assert model.recipe.data.normaliser == "percentile"


def test_both_halves_of_a_volume_are_denoised_and_averaged():
    model = untrained(UNet(size=4, depth=2), 3)
    _, noisy = views((30, 20, 16), seed=6)
    noisy[1] = 3 * noisy[1] + 2  # halves need not share their scale
    halves = [np.asarray(denoise(noisy[i : i + 1], model, precision="fp32")) for i in range(2)]
    assert apart(np.mean(halves, 0), denoise(noisy, model, precision="fp32")) < 1e-5


def test_both_halves_of_a_picture_count_as_much_whatever_their_scales():
    model = untrained(UNet(size=4, depth=2), 2)
    _, noisy = views((70, 50), seed=6)
    plain = np.asarray(denoise(noisy, model, precision="fp32"))
    spread = noisy.std(axis=(1, 2))
    noisy[1] = 3 * noisy[1] + 2
    scaled = np.asarray(denoise(noisy, model, precision="fp32"))
    ratio = (spread[0] + 3 * spread[1]) / spread.sum()
    assert apart((scaled - scaled.mean()) / ratio, plain - plain.mean()) < 1e-5


@pytest.mark.parametrize("scheme", sorted(set(SCHEMES) - {"segmentation"}))  # deice segment's, which denoise refuses
def test_the_input_is_untouched(scheme):
    model = untrained(ResidualCNN(depth=2, width=2), 2, scheme=scheme)
    _, noisy = views((40, 40), seed=7)
    noisy[0, 3, 4] = np.nan
    before = noisy.copy()
    denoised = np.asarray(denoise(noisy, model))
    assert np.array_equal(noisy, before, equal_nan=True)
    assert np.isfinite(denoised).all()


@pytest.mark.parametrize("shape", [(1, 60), (3, 3), (2, 2, 2), (1, 40, 30)])
def test_images_smaller_than_any_tile(shape):
    noisy = np.random.default_rng(8).normal(size=(2, *shape)).astype(np.float32)
    denoised = denoise(noisy, untrained(UNet(size=4, depth=3), len(shape)))
    assert denoised.space == shape
    assert np.isfinite(np.asarray(denoised)).all()


def test_less_memory_means_smaller_tiles_and_the_same_answer():
    from deice.conditions import Conditions
    from deice.devices import anonymous_memory
    from deice.tile_sizes import choose_cores

    model = untrained(UNet(size=8, depth=2), 2)
    tight = Conditions(torch.device("cpu"), "fp32", anonymous_memory() + 30_000_000)
    roomy = Conditions(torch.device("cpu"), "fp32", anonymous_memory() + 3_000_000_000)
    assert np.prod(choose_cores((1500, 1500), model, 2, tight)) < np.prod(choose_cores((1500, 1500), model, 2, roomy))
