"""The correlation of the noise between neighbours, measured from one picture."""

import numpy as np
import pytest
import torch

from deice.ops.noise import neighbour_correlation


@pytest.mark.parametrize("shape", [(256, 301), (40, 64, 51)])
def test_white_noise_has_none(shape):
    noise = torch.from_numpy(np.random.default_rng(0).normal(100, 3, shape))
    assert max(map(abs, neighbour_correlation(noise))) < 0.02


def test_noise_correlated_along_one_axis_is_found_there():
    white = np.random.default_rng(1).normal(size=(512, 512))
    correlated = white + 0.5 * np.roll(white, 1, axis=1)  # correlation of neighbours 0.5 / 1.25
    along_y, along_x = neighbour_correlation(torch.from_numpy(correlated))
    assert along_x == pytest.approx(0.4, abs=0.03)
    assert abs(along_y) < 0.02


def test_a_smooth_signal_is_not_taken_for_noise():
    y, x = np.mgrid[:256, :256]
    picture = 3 * np.sin(x / 12) * np.cos(y / 15) + np.random.default_rng(2).normal(size=(256, 256))
    assert max(map(abs, neighbour_correlation(torch.from_numpy(picture)))) < 0.08
