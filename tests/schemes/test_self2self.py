"""Self2Self: what is hidden, what is judged, and what the estimate averages."""

import pytest
import torch

from deice.errors import RecipeFault
from deice.losses import Criterion
from deice.schemes import Self2Self


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("space", [(50, 33), (12, 17, 20)])
@pytest.mark.parametrize("mask", ["points", "blocks"])
def test_a_share_is_hidden_and_judged_the_rest_is_shown(space, mask):
    scheme = Self2Self(p=0.3, mask=mask, volumetric_scale_factor=4)
    views = torch.randn(60, 2, *space, generator=generator(1)) + 3
    task = scheme.make(views, generator())
    assert task.input.shape == (120, 1, *space)
    hidden = task.weight.bool()
    assert torch.equal(task.input[~hidden], task.target[~hidden])
    assert (task.input[hidden] == 0).all()
    assert float(task.weight.mean()) == pytest.approx(0.3, abs=0.02)
    assert not torch.equal(scheme.make(views, generator(5)).weight, task.weight)
    wrong_elsewhere = torch.where(hidden, task.target, task.target + 100)
    assert float(scheme.loss(wrong_elsewhere, task, Criterion.parse("l2")).total) == pytest.approx(0, abs=1e-6)


def test_blocks_are_hidden_whole():
    task = Self2Self(mask="blocks", volumetric_scale_factor=4).make(torch.randn(3, 1, 10, 8, 12), generator())
    for z, y, x in ((0, 0, 0), (4, 4, 8), (8, 0, 4)):
        block = task.weight[:, 0, z : z + 4, y : y + 4, x : x + 4].flatten(1)
        assert (block == block[:, :1]).all()
    assert 0 < float(task.weight.mean()) < 1


def test_the_estimate_is_the_mean_over_masks():
    views = torch.ones(1, 2, 16, 16)
    asked = []

    def net(pictures):
        asked.append(pictures)
        return pictures

    torch.manual_seed(0)
    answer = Self2Self(p=0.25, predict_N_times=200).estimate(net, views)
    assert len(asked) == 200
    assert answer.shape == views.shape
    assert float(answer.mean()) == pytest.approx(0.75, abs=0.01)
    assert float(answer.std()) == pytest.approx((0.25 * 0.75 / 200) ** 0.5, rel=0.2)


@pytest.mark.parametrize("settings", [{"p": 0.0}, {"p": 1.0}, {"mask": "lines"}, {"predict_N_times": 0},
                                      {"volumetric_scale_factor": 0}])
def test_impossible_settings_are_the_users_fault(settings):
    with pytest.raises(RecipeFault, match=r"self2self has .*; expected"):
        Self2Self(**settings)
