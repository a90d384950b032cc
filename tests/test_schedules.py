"""Schedules of the learning rate, and of how coarse a run's windows are."""

import pytest
import torch

from deice.schedules import LOWEST, SCHEDULES, USUAL_WARMUP, constant, cosine, momentum, octaves, one_cycle

STEPS = [step / 1000 for step in range(1001)]


def test_one_cycle_is_that_of_pytorch():
    model = torch.nn.Linear(1, 1)
    optimiser = torch.optim.Adam(model.parameters())
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=1.0, total_steps=1001, pct_start=0.301, final_div_factor=4)  # fmt: skip
    for done in STEPS:
        assert one_cycle(done, 0.3, 0.01) == pytest.approx(optimiser.param_groups[0]["lr"], abs=3e-3)
        assert momentum(done, 0.3) == pytest.approx(optimiser.param_groups[0]["betas"][0], abs=3e-3)
        optimiser.step()
        if done < 1:
            reference.step()


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_rises_to_its_peak_at_the_end_of_the_warm_up_and_never_above(name):
    warmup = USUAL_WARMUP[name]
    rates = [SCHEDULES[name](done, warmup, 0.05) for done in STEPS]
    assert max(rates) == pytest.approx(1)
    assert rates.index(max(rates)) == round(1000 * warmup)
    rise = rates[: round(1000 * warmup)]
    assert rise == sorted(rise)
    assert rates[0] == (0.04 if name == "one_cycle" else LOWEST)
    assert rates[-1] == (pytest.approx(0.05) if name in ("cosine", "one_cycle") else 1)


def test_a_schedule_without_warm_up_begins_at_the_peak():
    assert [schedule(0.0, 0.0, 0.01) for schedule in (cosine, constant, one_cycle)] == [1, 1, 1]


def test_the_octaves_go_down_one_by_one_in_equal_shares():
    seen = [octaves(done, 2, 0.4) for done in STEPS]
    assert sorted(seen, reverse=True) == seen
    assert [seen.count(level) for level in (2, 1, 0)] == [200, 200, 601]
    assert not any(octaves(done, 0, 0.4) for done in STEPS)
    assert octaves(0.999, 1, 1.0) == 1
