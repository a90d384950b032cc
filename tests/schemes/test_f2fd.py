"""F2Fd: its samples are what the published method describes, on volumes of any shape; its estimate is an ensemble."""

from itertools import islice

import pytest
import torch

from deice.errors import RecipeFault
from deice.ops.fourier import frequency_radius, half_transform
from deice.recipe import completed, from_table, to_toml
from deice.schemes import F2Fd


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def factors(scheme, shape, count=1, seed=0):
    """What each coefficient of a white volume was multiplied by in `count` samples, (count, *half space)."""
    volume = torch.randn(shape, generator=generator(99))
    samples = torch.stack(list(islice(scheme.prepare(volume[None], 0, generator(seed), None), count)))
    return (half_transform(samples, 3) / half_transform(volume, 3)).real


def test_a_sample_keeps_drops_and_inverts_coefficients_as_published():
    found = factors(F2Fd(), (64, 64, 64), count=6)
    assert (found.round().abs() <= 1).all()
    assert torch.allclose(found, found.round(), atol=1e-2)
    radius = frequency_radius((64, 64, 64))
    low, high = radius < 0.225, radius > 0.30
    assert float((found[:, low] < -0.5).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert float(found[:, low].mean()) == pytest.approx(0.8, abs=0.02)  # E[J] = 1 − 2p
    assert float(found[:, high].mean()) == pytest.approx(0.4, abs=0.06)  # half of the blocks dropped
    assert float((found[:, low].round() == 0).float().mean()) < 1e-3


def test_the_ball_holds_five_to_ten_per_cent_of_a_cube():
    scheme = F2Fd(p=0.0, Vmask_pct=0.999)
    shares = [(found > 0.5)[..., 1:-1].double().sum() * 2 / 64**3 for found in factors(scheme, (64, 64, 64), 20)]
    assert 0.044 < min(shares) < 0.065
    assert 0.08 < max(shares) < 0.104


def test_in_a_thin_volume_the_isotropic_ball_is_round_and_the_faithful_one_cut_off():
    shape = (16, 64, 64)
    radius = frequency_radius(shape)
    for mask, expected in (("isotropic", True), ("faithful", False)):
        found = factors(F2Fd(p=0.0, Vmask_pct=0.999, mask=mask), shape)[0] > 0.5
        assert bool(found[radius < 0.22].all() and not found[radius > 0.30].float().mean() > 0.1) is expected


@pytest.mark.parametrize("shape", [(64, 128, 128), (36, 103, 47), (33, 75, 61), (1, 20, 20)])
@pytest.mark.parametrize("mask", ["faithful", "isotropic"])
def test_samples_of_thin_odd_and_flat_volumes_have_their_shape(shape, mask):
    sample = next(iter(F2Fd(mask=mask).prepare(torch.randn(1, *shape), 0, generator(), None)))
    assert sample.shape == shape
    assert sample.isfinite().all()


def test_inputs_and_targets_are_different_samples_of_one_window():
    views = torch.arange(20.0).reshape(1, 20, 1, 1, 1).expand(3, 20, 4, 4, 4)
    task = F2Fd().make(views, generator())
    assert task.input.shape == task.target.shape == (18, 1, 4, 4, 4)
    for window in range(3):
        drawn = torch.cat([task.input, task.target], 1)[6 * window : 6 * window + 6, :, 0, 0, 0].flatten()
        assert len(drawn.unique()) == 12


def test_the_estimate_is_the_mean_over_samples_and_over_rounds():
    scheme = F2Fd(total_samples_prediction=4, n_bernoulli_samples_prediction=3, predict_N_times=10)
    calls = []

    def net(pictures):
        calls.append(len(pictures))
        return pictures + len(calls)

    views = torch.arange(4.0).reshape(1, 4, 1, 1, 1).expand(1, 4, 2, 2, 2)
    estimate = scheme.estimate(net, views)
    assert sum(calls) == 12  # 10 predictions, a whole number of rounds
    assert max(calls) == 3
    expected = 1.5 + sum(size * (n + 1) for n, size in enumerate(calls)) / 12
    assert torch.allclose(estimate, torch.full((1, 1, 2, 2, 2), expected))


@pytest.mark.parametrize("settings", [
    {"total_samples": 11}, {"mask": "round"}, {"p": 1.5}, {"Vmask_pct": 1.0}, {"volumetric_scale_factor": 0}])
def test_impossible_settings_are_the_users_fault(settings):
    with pytest.raises(RecipeFault, match="f2fd has"):
        F2Fd(**settings)


def test_the_scheme_brings_its_published_settings_and_flags_go_over_them():
    recipe = completed(from_table({"scheme": {"name": "f2fd"}}), 3)
    assert (recipe.training.lr, recipe.training.optimiser, recipe.training.loss) == (1e-4, "adam", "l2")
    assert (recipe.network.size, recipe.network.depth, recipe.network.dropout) == (48, 5, 0.7)
    assert recipe.data.normaliser == "clipped"
    other = from_table({"scheme": {"name": "f2fd"}, "training": {"lr": 1e-3}, "net": {"name": "unet", "size": 8}})
    assert (other.training.lr, other.training.optimiser, other.network.size) == (1e-3, "adam", 8)
    assert "normaliser = \"clipped\"" in to_toml(recipe)
