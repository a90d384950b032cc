"""Noise2Void with a structured mask: what is hidden, what is judged, and that correlated noise is not learnt."""

import numpy as np
import pytest
import torch

from deice.errors import RecipeFault
from deice.schemes import Noise2Void


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("space", "structure", "axis"), [((40, 48), "y:3", 2), ((20, 24, 28), "z:2", 2),
                                                          ((20, 24, 28), "x:5", 4)])
def test_the_arms_of_every_blind_spot_are_hidden_and_nothing_else(space, structure, axis):
    count = int(np.prod(space))
    picture = torch.arange(float(count)).reshape(1, 1, *space).expand(4, 1, *space)
    task = Noise2Void(share=0.01, structure=structure).make(picture, generator())
    reach = int(structure[-1])
    blind = task.weight.bool()
    expected = blind.clone()
    for sample, _, *place in blind.nonzero().tolist():
        at = place[axis - 2]
        line = [sample, 0, *place]
        line[axis] = slice(max(0, at - reach), at + reach + 1)
        expected[tuple(line)] = True
    changed = task.input != task.target
    assert not changed[~expected].any()
    assert changed[expected].float().mean() > 0.99  # a drawn pixel is now and then the pixel itself
    assert torch.equal(task.target, picture)


@pytest.mark.parametrize("space", [(64, 64), (16, 24, 32)])
def test_the_share_judged_is_the_share_asked(space):
    task = Noise2Void(share=0.01, structure="x:4").make(torch.randn(40, 1, *space), generator())
    expected = 0.01 * 40 * np.prod(space)
    assert abs(float(task.weight.sum()) - expected) < 5 * np.sqrt(expected)


def test_a_cross_has_two_arms_and_meets_the_edge():
    scheme = Noise2Void(share=0.05, structure="z:1+x:2")
    assert scheme.reaches() == {-3: 1, -1: 2}
    blind = torch.zeros(1, 1, 3, 3, 5, dtype=torch.bool)
    blind[0, 0, 0, 1, 4] = True
    hidden = scheme._with_arms(blind)
    assert sorted(map(tuple, hidden[0, 0].nonzero().tolist())) == [(0, 1, 2), (0, 1, 3), (0, 1, 4), (1, 1, 4)]


@pytest.mark.parametrize("structure", ["z", "w:3", "z:0", "z:-2", "z:4,x:2", "4"])
def test_a_structure_that_is_none_is_the_users_fault(structure):
    with pytest.raises(RecipeFault, match="as z:4"):
        Noise2Void(structure=structure)


def test_pictures_have_no_z():
    with pytest.raises(RecipeFault, match="y and x only for pictures"):
        Noise2Void(structure="z:2").make(torch.randn(1, 1, 16, 16), generator())


def test_hidden_arms_take_the_noise_away_that_a_neighbour_would_tell():
    """Noise of one value along five pixels of z: a blind pixel's neighbour along z gives it away, an arm does not."""
    noise = torch.randn(16, 1, 8, 24, 24, generator=generator(1)).repeat_interleave(5, dim=2)
    told = {}
    for structure in ("", "z:4"):
        task = Noise2Void(share=0.01, structure=structure).make(noise, generator(2))
        blind = task.weight.bool()
        above = task.input.roll(1, 2)[blind], task.target[blind]
        told[structure] = float(torch.corrcoef(torch.stack(above))[0, 1])
    assert told[""] > 0.6
    assert abs(told["z:4"]) < 0.1
