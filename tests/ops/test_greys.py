"""Brightness and contrast: one straight line for all views of a sample, as far as was asked."""

import torch

from deice.ops.greys import random_greys


def test_views_of_a_sample_are_moved_by_one_line_and_samples_by_their_own():
    views = torch.randn(200, 2, 5, 4, 3)
    moved = random_greys(views, 0.2, 0.5, torch.Generator().manual_seed(0))
    slopes, offsets = [], []
    for before, after in zip(views, moved):
        line = torch.linalg.lstsq(torch.stack([before.flatten(), torch.ones(120)], 1), after.flatten()[:, None])
        slope, offset = line.solution.flatten().tolist()
        assert torch.allclose(after, slope * before + offset, atol=1e-5)
        slopes.append(slope)
        offsets.append(offset)
    assert 0.8 <= min(slopes) < 0.82 < 1.18 < max(slopes) <= 1.2
    assert -0.5 <= min(offsets) < -0.45 < 0.45 < max(offsets) <= 0.5


def test_noise_of_mean_zero_between_views_keeps_mean_zero():
    truth = torch.full((4000, 1, 4, 4), 2.0)
    views = truth + torch.randn(4000, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    moved = random_greys(views, 0.5, 1.0, torch.Generator().manual_seed(0))
    assert abs(float((moved[:, 0] - moved[:, 1]).mean())) < 0.02
    noise = moved - moved.mean((2, 3), keepdim=True)
    assert abs(float((noise[:, 0] * noise[:, 1]).mean())) < 0.02
