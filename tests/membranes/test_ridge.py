"""The ridge detector: any tiling, size, grey scale and voxel size, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from deice import Geometry, Image, segment
from deice.conditions import Conditions
from deice.errors import MemoryFault, RecipeFault, UserError
from deice.membranes import Ridge, probability_into
from deice.membranes.ridge import choose_cores

VOXEL = 20.0  # Å: small volumes with large membranes
QUICK = Ridge(directions=20)


def vesicle(shape=(33, 41, 38), noise=0.5, seed=0, pixel_size=VOXEL):
    """(grey values, where the membrane is): a shell of 250 Å radius, dark, under noise."""
    axes = (np.arange(n) - (n - 1) / 2 for n in shape)
    radius = pixel_size * np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
    shell = np.abs(radius - 250) < 25
    rng = np.random.default_rng(seed)
    return (rng.normal(0, noise, shape) - shell).astype(np.float32), shell


def probability(volume, ridge=QUICK, tile=None, pixel_size=VOXEL):
    image = volume if isinstance(volume, Image) else Image(volume[None])
    image = replace(image, geometry=Geometry().with_pixel_size(pixel_size))
    canvas = np.zeros(image.space, np.float32)
    probability_into(canvas, image, ridge, Conditions(torch.device("cpu"), tile=tile))
    return canvas


def test_it_finds_a_noisy_vesicle():
    volume, shell = vesicle()
    found = segment(volume, pixel_size=VOXEL)
    assert found.labels.dtype == np.int8
    both = 2 * (found.labels * shell).sum() / (found.labels.sum() + shell.sum())
    assert both > 0.6
    assert found.components == 1
    assert found.probability[shell].mean() > 2 * found.probability[~shell].mean()


@pytest.mark.parametrize("pixel_size", [20.0, 8.0])  # the second is binned by two
def test_tiled_equals_whole(pixel_size):
    volume, _ = vesicle((21, 33, 26), pixel_size=pixel_size)
    ridge = replace(QUICK, extent=50.0)
    whole = probability(volume, ridge, pixel_size=pixel_size)
    tiled = probability(volume, ridge, tile=12, pixel_size=pixel_size)
    assert whole.max() > 0.2
    assert np.abs(tiled - whole).max() < 0.02 * whole.max()


def test_grey_values_have_any_scale_and_membranes_either_sign():
    volume, shell = vesicle()
    found = probability(volume)
    assert np.allclose(probability(1e3 * volume + 7e3), found, atol=1e-3)
    assert np.allclose(probability(-volume, replace(QUICK, bright=True)), found, atol=1e-3)
    assert probability(-volume)[shell].mean() < 0.5 * found[shell].mean()


def test_two_halves_are_better_than_one_and_their_scales_do_not_matter():
    halves = [vesicle(noise=1.5, seed=seed) for seed in (1, 2)]
    shell = halves[0][1]

    def contrast(found):
        return (found[shell].mean() - found[~shell].mean()) / found[~shell].std()

    pair = np.stack([halves[0][0], 100 * halves[1][0] + 5])
    assert contrast(probability(Image(pair))) > 1.05 * contrast(probability(halves[0][0]))


@pytest.mark.parametrize("shape", [(1, 30, 30), (9, 15, 15), (2, 5, 3)])
def test_thin_and_tiny_volumes(shape):
    volume, _ = vesicle(shape)
    found = probability(volume)
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_values_that_are_not_finite_are_replaced():
    volume, _ = vesicle((15, 24, 22))
    clean = probability(volume)
    volume[3, 4, 5] = np.nan
    volume[10, :3, :3] = np.inf
    found = probability(volume)
    assert np.isfinite(found).all()
    assert np.abs(found - clean).mean() < 0.02


def test_what_it_cannot_do_is_said():
    volume, _ = vesicle()
    with pytest.raises(UserError, match="voxels of 45 Å; expected 30 Å or less"):
        segment(volume, pixel_size=45)
    with pytest.raises(UserError, match="no voxel size"):
        segment(volume)
    with pytest.raises(UserError, match="2 axes; expected a volume"):
        segment(volume[0], pixel_size=VOXEL)
    with pytest.raises(UserError, match="every value is 2"):
        segment(np.full((8, 8, 8), 2.0), pixel_size=VOXEL)
    with pytest.raises(RecipeFault, match="directions"):
        Ridge(directions=2)


def test_tiles_become_smaller_until_they_fit():
    from deice.devices import anonymous_memory

    cpu = torch.device("cpu")
    assert choose_cores((300, 300, 300), QUICK, VOXEL, Conditions(cpu, max_memory=1 << 40)) == [128, 128, 128]
    held = anonymous_memory()
    small = choose_cores((300, 300, 300), QUICK, VOXEL, Conditions(cpu, max_memory=held + (60 << 20)))
    assert max(small) < 128
    with pytest.raises(MemoryFault, match="the smallest tile needs"):
        choose_cores((300, 300, 300), QUICK, VOXEL, Conditions(cpu, max_memory=held + 10_000))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
def test_a_gpu_finds_the_same():
    volume, _ = vesicle()
    found = [segment(volume, pixel_size=VOXEL, device=device).probability for device in ("cpu", "cuda")]
    assert np.abs(found[0] - found[1]).max() < 1e-3
