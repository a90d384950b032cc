"""IsoNet: what an iteration prepares, and what the network is asked of it."""

import numpy as np
import pytest
import torch

from deice.errors import RecipeFault
from deice.losses import Criterion
from deice.ops.fourier import half_transform
from deice.ops.wedge import ends_of, measured, only, ramps
from deice.schemes import IsoNet

SIDE = 16
SPACE = (SIDE,) * 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def scene(count=1):
    """Views of noise with the wedge of -50 to 60 degrees, and its ramps: (count + 2, n, n, n); the wedge."""
    pair = torch.from_numpy(np.stack([ramp[...] for ramp in ramps((-50.0, 60.0), SPACE)]))
    known = measured(ends_of(pair[None]), SPACE)
    noise = torch.randn(count, 1, *SPACE, generator=generator(9))
    return torch.cat([only(noise, known)[:, 0], pair]), known


def prepared(scheme, views, epoch, net):
    made = torch.stack(list(scheme.prepare(views, epoch, generator(epoch), net)))
    assert len(made) == scheme.kept_while_training(len(views))
    return made


def test_the_first_iteration_judges_only_what_was_measured():
    views, known = scene()
    made = prepared(IsoNet(), views, 0, None)
    task = IsoNet().make(made[None].expand(8, *made.shape), generator())
    power = half_transform(task.target, 3).abs()
    assert float(power[task.weight == 0].max()) < 1e-3
    assert (task.weight == 0).any()
    assert float(half_transform(task.input, 3).abs()[(known == 0).expand(8, 1, -1, -1, -1)].max()) < 1e-3
    junk = task.target + only(torch.randn(task.target.shape), 1 - task.weight)
    assert float(IsoNet().loss(junk, task, Criterion.parse("l1")).total) < 1e-5


@pytest.mark.parametrize("count", [1, 2])
def test_later_the_target_holds_what_was_measured_and_what_the_network_put_into_the_wedge(count):
    views, known = scene(count)
    inside = torch.randn(1, 1, *SPACE, generator=generator(3))
    made = prepared(IsoNet(), views, 1, lambda pictures: inside.expand(pictures.shape))
    filled = made[:count] + made[count : 2 * count]
    torch.testing.assert_close(only(filled[:, None], known)[:, 0], views[:count])
    torch.testing.assert_close(only(filled[:, None], 1 - known)[:1], only(inside, 1 - known))
    task = IsoNet().make(made[None].expand(5, *made.shape), generator())
    assert task.input.shape == (5 * count, 1, *SPACE)
    assert (task.weight == 1).all()
    torch.testing.assert_close(task.input, only(task.target, known))
    norms = task.target.reshape(5, count, -1).norm(dim=2)
    torch.testing.assert_close(norms, filled.flatten(1).norm(dim=1).expand(5, count))


def test_noise_is_added_to_the_input_from_the_iterations_that_are_named():
    views, known = scene()
    scheme = IsoNet(noise_level=(0.5, 2.0), noise_start_iter=(2, 4))
    for epoch, level in ((0, 0.0), (1, 0.5), (2, 0.5), (3, 2.0)):
        made = prepared(scheme, views, epoch, None)
        noise = made[2]
        assert float(noise.std()) == pytest.approx(level)
        task = scheme.make(made[None], generator())
        torch.testing.assert_close(task.input, only(task.target, known) + noise)


def test_every_target_has_been_turned_out_of_its_place():
    views, _ = scene()
    made = prepared(IsoNet(), views, 0, None)
    task = IsoNet().make(made[None].expand(60, *made.shape), generator())
    assert not any(torch.equal(target[0], views[0]) for target in task.target)
    assert len({target.flatten()[0].item() for target in task.target}) > 6


@pytest.mark.parametrize("settings", [{"refresh": 0}, {"noise_level": (0.1,)}, {"noise_level": (-1.0, 0.1, 0.1, 0.1)}])
def test_impossible_settings_are_the_users_fault(settings):
    with pytest.raises(RecipeFault, match=r"isonet has .*; expected"):
        IsoNet(**settings)
