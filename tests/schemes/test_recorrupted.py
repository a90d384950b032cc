"""Recorrupted: the noise of input and target does not go together, and the target keeps the signal's strength."""

import pytest
import torch

from deice.errors import RecipeFault
from deice.ops.slab_noise import noise_with
from deice.schemes import Recorrupted


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noisy(count, shape=(24, 24, 24), seed=0):
    """(truth, views) (count, 1, *shape): a smooth wave under ramp noise that is white along y."""
    z, x = torch.fft.fftfreq(shape[0]), torch.fft.fftfreq(shape[2])
    power = 8 * (z[:, None, None] ** 2 + x[None, None] ** 2)
    white = torch.randn((count, *shape), generator=generator(seed))
    noise = noise_with(power.expand(count, *power.shape), white, axis=2)
    wave = torch.cos(torch.arange(shape[1]) * 2 * torch.pi / 12)[None, :, None].expand(shape)
    return wave.expand(count, 1, *shape), (wave + noise)[:, None]


def test_input_and_target_hold_independent_noise():
    truth, views = noisy(60)
    task = Recorrupted(strength=0.7).make(views, generator(1))
    inner = (slice(None), slice(None), *(slice(4, -4),) * 3)
    left, right = (task.input - truth)[inner].flatten(), (task.target - truth)[inner].flatten()
    own = (views - truth)[inner].flatten()
    correlation = torch.corrcoef(torch.stack([left, right]))[0, 1]
    assert abs(float(correlation)) < 0.03
    assert float(torch.corrcoef(torch.stack([left, own]))[0, 1]) > 0.7  # noise was added to noise, not put in its place
    assert float(left.var() / own.var()) == pytest.approx(1 + 0.7**2, rel=0.05)
    assert float(right.var() / own.var()) == pytest.approx(1 + 0.7**-2, rel=0.05)


def test_the_target_keeps_the_signal_at_full_strength():
    truth, views = noisy(60)
    task = Recorrupted().make(views, generator(1))
    for picture in (task.input, task.target):
        assert float((picture * truth).sum() / truth.square().sum()) == pytest.approx(1, abs=0.02)


def test_draws_differ_and_are_repeated_by_the_generator():
    _, views = noisy(2)
    first, again, other = (Recorrupted().make(views, generator(seed)).input for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("space", [(33, 25, 61), (4, 4, 4), (1, 8, 8)])
def test_windows_of_any_size(space):
    task = Recorrupted().make(torch.randn(1, 2, *space), generator())
    assert task.input.shape == task.target.shape == (2, 1, *space)
    assert task.target.isfinite().all()


@pytest.mark.parametrize("settings", [{"strength": 0.0}, {"noise_above": 0.5}, {"tilt_axis": "w"}])
def test_impossible_settings_are_the_users_fault(settings):
    with pytest.raises(RecipeFault, match="recorrupted has"):
        Recorrupted(**settings)
