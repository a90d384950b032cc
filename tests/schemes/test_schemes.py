"""Schemes: what each asks of the network."""

import numpy as np
import pytest
import torch

from deice.errors import RecipeFault
from deice.losses import Criterion
from deice.schemes import Noise2Noise, Noise2Void, Supervised


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_noise2noise_asks_for_the_other_view_and_takes_each_as_input():
    views = torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1).expand(200, 2, 4, 4)
    task = Noise2Noise().make(views, generator())
    assert torch.equal(task.input + task.target, torch.full_like(task.input, 3))
    assert 60 < int((task.input[:, 0, 0, 0] == 1).sum()) < 140


def test_noise2noise_of_many_views_asks_for_the_mean_of_the_others():
    views = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1, 1).expand(50, 3, 2, 2, 2)
    task = Noise2Noise().make(views, generator())
    assert torch.allclose(task.target, (9 - task.input) / 2)


def test_a_directed_pair_keeps_its_direction():
    views = torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1).expand(20, 2, 4, 4)
    for scheme in (Noise2Noise(directed=True), Supervised(directed=True)):
        task = scheme.make(views, generator())
        assert (task.input == 1).all()
        assert (task.target == 2).all()


@pytest.mark.parametrize("space", [(64, 64), (16, 24, 32)])
@pytest.mark.parametrize("share", [0.002, 0.01, 0.05])
def test_the_share_of_blind_spots_is_the_share_asked(space, share):
    task = Noise2Void(share=share).make(torch.randn(20, 1, *space), generator())
    count = 20 * np.prod(space)
    expected = share * count
    assert abs(float(task.weight.sum()) - expected) < 5 * np.sqrt(expected)


@pytest.mark.parametrize("space", [(33, 17), (9, 12, 15), (1, 40), (2, 30, 4)])
def test_a_blind_spot_shows_a_neighbour_and_never_itself(space):
    count = int(np.prod(space))
    picture = torch.arange(float(count)).reshape(1, 1, *space)  # every value says where it is
    scheme = Noise2Void(share=0.3, radius=3)
    task = scheme.make(picture.expand(8, 1, *space), generator())
    blind = task.weight.bool()
    assert torch.equal(task.input[~blind], task.target[~blind])
    shown = np.array(np.unravel_index(task.input[blind].long().numpy(), space))
    hidden = np.array(np.unravel_index(task.target[blind].long().numpy(), space))
    distance = np.abs(shown - hidden).max(0)
    assert distance.min() >= 1
    assert distance.max() == 3


def test_only_blind_spots_are_judged():
    scheme = Noise2Void(share=0.1)
    task = scheme.make(torch.randn(2, 1, 32, 32), generator())
    wrong_elsewhere = torch.where(task.weight.bool(), task.target, task.target + 100)
    assert float(scheme.loss(wrong_elsewhere, task, Criterion.parse("mse")).total) == 0


@pytest.mark.parametrize(("noise", "variance"), [("gaussian", 0.04), ("poisson", 0.5 / 50), ("mixed", 0.05)])
def test_synthetic_noise_has_its_variance_and_is_drawn_afresh(noise, variance):
    scheme = Supervised(noise=noise, sigma=0.2, counts=50, unit_input=False)
    clean = torch.full((4, 1, 64, 64), 0.5)
    one, two = (scheme.make(clean, generator(seed)).input for seed in (0, 1))
    assert float((one - clean).var()) == pytest.approx(variance, rel=0.05)
    assert float(one.mean()) == pytest.approx(0.5, abs=0.01)
    assert not torch.equal(one, two)


def test_an_unknown_noise_is_the_users_fault():
    with pytest.raises(RecipeFault, match="gaussian, poisson, mixed"):
        Supervised(noise="salt")


@pytest.mark.parametrize("scheme", [Noise2Noise(), Noise2Void(), Supervised()])
def test_the_estimate_denoises_each_view_by_itself(scheme):
    views = torch.randn(2, 3, 8, 8)
    assert torch.equal(scheme.estimate(lambda pictures: 2 * pictures, views), 2 * views)
