"""Noise that is white along one axis: measured under a signal, and drawn again with the same power."""

import pytest
import torch

from deice.ops.slab_noise import noise_spectrum, noise_with


def coloured(shape, axis, seed):
    """Noise (b, z, y, x) of power f² across `axis` (a ramp), white along it, and that power."""
    across = [a for a in (1, 2, 3) if a != axis]
    power = torch.zeros((1, 1, 1, 1))
    for a in across:
        power = power + torch.fft.fftfreq(shape[a]).square().reshape([-1 if a == b else 1 for b in range(4)])
    power = power * 8
    white = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return noise_with(power.expand(shape[0], *power.shape[1:]), white, axis), power


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_the_power_of_the_noise_is_found_under_a_signal_without_fine_detail(axis):
    shape = (6, 32, 32, 32)
    noise, power = coloured(shape, axis, seed=axis)
    waves = [torch.fft.fftfreq(32).reshape([-1 if a == b else 1 for b in range(3)]) for a in range(3)]
    smooth = torch.exp(-sum(w**2 for w in waves) / (2 * 0.06**2))
    signal = torch.fft.ifftn(torch.fft.fftn(torch.randn(shape), dim=(1, 2, 3)) * smooth, dim=(1, 2, 3)).real * 60
    found = noise_spectrum(noise + signal, axis, above=0.38).mean(0, keepdim=True)
    far = power > 0.3
    assert signal.var() > noise.var()
    assert float((found[far] / power[far]).mean()) == pytest.approx(1, abs=0.06)
    assert float(found[power == 0].mean()) < 0.1  # where there is none, the signal is not taken for noise


def test_where_the_noise_ends_its_power_ends():
    """As at a missing wedge. What is spread over the edge is noise that input and target of a training share."""
    along = torch.fft.fftfreq(48).abs()  # drawn larger than it is measured, so that no window is periodic
    power = (along < 0.2).float().reshape(1, -1, 1, 1).expand(40, -1, 1, 24)
    white = torch.randn((40, 48, 24, 24), generator=torch.Generator().manual_seed(0))
    noise = noise_with(power, white, axis=2)[:, :24]
    found = noise_spectrum(noise, 2, above=0.38).mean((0, 2, 3))
    z = torch.fft.fftfreq(24).abs()
    assert float(found[z < 0.17].mean()) == pytest.approx(1, abs=0.06)
    assert float(found[z > 0.24].max()) < 0.1


@pytest.mark.parametrize("shape", [(2, 9, 15, 12), (1, 4, 4, 4), (1, 16, 3, 8)])
def test_noise_drawn_has_the_power_asked_at_any_size(shape):
    noise, power = coloured(shape, 2, seed=0)
    assert noise.shape == shape
    many = torch.cat([coloured(shape, 2, seed=s)[0] for s in range(200)])
    found = torch.fft.fftn(many, dim=(1, 2, 3)).abs().square().mean(0) / many[0].numel()
    assert torch.allclose(found.mean(1), power[0, :, 0], rtol=0.25, atol=1e-6)
