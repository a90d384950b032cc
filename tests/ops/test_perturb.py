"""Masks over Fourier coefficients: conjugate twins alike, blocks, uniform draws, any shape."""

import pytest
import torch

from deice.ops.perturb import ball_radius, block_index, conjugate_draws, index_radius

SHAPES = [(8, 10, 12), (9, 7, 11), (5, 16, 9), (1, 6, 6), (12, 15)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("block", [1, 3])
def test_conjugate_coefficients_share_their_draw(shape, block):
    """A mask is conjugate-symmetric if and only if irfftn loses nothing of what it multiplies."""
    mask = (conjugate_draws(shape, torch.Generator().manual_seed(1), torch.device("cpu"), block)[0] < 0.5).double()
    spectrum = torch.fft.rfftn(torch.randn(shape, dtype=torch.float64)) * mask
    again = torch.fft.rfftn(torch.fft.irfftn(spectrum, s=shape))
    assert torch.allclose(again, spectrum, atol=1e-12)


def test_draws_are_uniform_in_every_plane():
    draws = conjugate_draws((24, 20, 16), torch.Generator().manual_seed(0), torch.device("cpu"), count=60)
    for plane in (draws[..., 0], draws[..., 8], draws[..., 3]):
        shares = torch.histc(plane, 10, 0, 1) / plane.numel()
        assert (shares - 0.1).abs().max() < 0.01
    assert draws.max() < 1


def test_a_block_is_hidden_together():
    draws = conjugate_draws((32, 32, 32), torch.Generator().manual_seed(0), torch.device("cpu"), 8)[0]
    inside = draws[4:12, 4:12, 4:12]  # frequencies 4 to 11: one block
    assert (inside == inside[0, 0, 0]).all()
    assert 100 < len(draws.unique()) <= 5 * 5 * 3 * 3


@pytest.mark.parametrize("size", [8, 9, 13])
def test_blocks_are_centred_on_zero_frequency(size):
    frequency = torch.fft.fftfreq(size, 1 / size).round().long()
    index = block_index(size, 3, half=False)
    middle = index[0]
    mirrored = {int(f): int(i - middle) for f, i in zip(frequency, index)}
    assert all(mirrored[-f] == -i for f, i in mirrored.items() if -f in mirrored)


def test_index_radius_and_ball_hold_the_share_of_a_cube():
    shape = (48, 48, 48)
    radius = index_radius(shape, torch.device("cpu"))
    inside = (radius <= ball_radius(0.05, 48**3, 3)).double()
    inside = inside[..., 1:-1].sum() * 2 + inside[..., 0].sum() + inside[..., -1].sum()
    assert float(inside) / 48**3 == pytest.approx(0.05, abs=0.005)
