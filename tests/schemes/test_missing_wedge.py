"""Missing wedge: what is hidden again, what is judged, and by how much."""

import numpy as np
import pytest
import torch

from deice.errors import RecipeFault
from deice.losses import Criterion
from deice.ops.fourier import conjugate_weight, half_transform
from deice.ops.wedge import ends_of, measured, only, ramps
from deice.schemes import MissingWedge

SIDE = 16
MSE = Criterion.parse("mse")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def halves_with_ramps(tilt_range, batch=6, seed=0):
    """Two halves of white noise as a microscope of this range leaves them, and the ramps: (b, 4, n, n, n)."""
    cut = (slice(40, 40 + SIDE),) * 3
    pair = torch.from_numpy(np.stack([ramp[cut] for ramp in ramps(tilt_range, (90, 90, 90))]))
    pair = pair.expand(batch, 2, SIDE, SIDE, SIDE)
    noise = torch.randn(batch, 2, SIDE, SIDE, SIDE, generator=generator(seed))
    return torch.cat([only(noise, measured(ends_of(pair), (SIDE,) * 3)), pair], dim=1)


@pytest.mark.parametrize("tilt_range", [(-60.0, 60.0), (-30.0, 65.0)])
def test_the_input_has_two_wedges_and_the_target_one(tilt_range):
    views = halves_with_ramps(tilt_range)
    task = MissingWedge(filled=3.0).make(views, generator())
    again = measured(ends_of(views[:, 2:]), (SIDE,) * 3).bool()
    power_in, power_out = (half_transform(v, 3).abs() for v in (task.input, task.target))
    judged = task.weight > 0
    assert float(power_in[~again].max()) < 1e-3
    assert float(power_in[~judged].max()) < 1e-3
    assert float(power_out[~judged].max()) < 1e-3
    assert (power_out[judged] > 1e-3).float().mean() > 0.99


def test_the_two_parts_that_are_judged_are_disjoint_and_cover_what_was_measured():
    views = halves_with_ramps((-50.0, 60.0))
    again = measured(ends_of(views[:, 2:]), (SIDE,) * 3).bool()
    weight = MissingWedge(filled=3.0).make(views, generator()).weight
    seen, hidden = weight == 1, weight == 3
    assert not (seen & ~again).any()
    assert not (hidden & again).any()
    assert torch.equal(seen | hidden, weight > 0)
    counts = conjugate_weight((SIDE,) * 3, weight)
    shares = ((weight > 0) * counts).sum((1, 2, 3, 4)) / SIDE**3
    assert shares.std() < 0.02  # turned, the wedge keeps its size
    assert shares.mean() == pytest.approx(110 / 180, abs=0.06)
    assert hidden.any()


def test_input_and_target_are_the_two_halves_turned_alike():
    views = halves_with_ramps((-60.0, 60.0), batch=40)
    views[:, 1] = 2 * views[:, 0]
    task = MissingWedge().make(views, generator())
    again = measured(ends_of(views[:, 2:]), (SIDE,) * 3)
    ratio = only(task.target, again).flatten(1).norm(dim=1) / task.input.flatten(1).norm(dim=1)
    assert set(ratio.round(decimals=2).tolist()) == {0.5, 2.0}
    torch.testing.assert_close(only(task.target, again), task.input * ratio.reshape(-1, 1, 1, 1, 1), atol=1e-4, rtol=0)


def test_the_loss_is_the_weighted_mean_over_coefficients():
    """As published: the mean of both parts' squared errors under the unitary transform, one weighing twice."""
    task = MissingWedge().make(halves_with_ramps((-60.0, 40.0)), generator())
    answer = torch.randn(task.target.shape, generator=generator(3))
    found = float(MissingWedge().loss(answer, task, MSE).total)
    difference = torch.fft.fftn(answer - task.target, dim=(2, 3, 4), norm="ortho").abs().square()
    full = torch.cat([task.weight, task.weight.flip(2, 3).roll((1, 1), (2, 3)).flip(4)[..., 1:-1]], dim=4)
    assert found == pytest.approx(float((full * difference).mean()), rel=1e-4)


def test_what_nobody_measured_is_not_judged():
    task = MissingWedge().make(halves_with_ramps((-60.0, 60.0)), generator())
    unknown = only(torch.randn(task.target.shape, generator=generator(4)), (task.weight == 0).float())
    assert float(unknown.square().mean()) > 0.1
    assert float(MissingWedge().loss(task.target + unknown, task, MSE).total) < 1e-9


def test_a_weight_below_zero_is_the_users_fault():
    with pytest.raises(RecipeFault, match="expected a weight above 0"):
        MissingWedge(filled=0.0)
    with pytest.raises(RecipeFault, match="0 for never"):
        MissingWedge(refresh=-1)
