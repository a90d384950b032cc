"""Losses: one function each, (answer, target, weight) → scalar, any number of axes."""

from torch import Tensor


def mse(answer: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error over (b, c, *space); with `weight`, over what it weighs.

    Safe under noisy targets: its minimum is the mean of the targets (Lehtinen et al. 2018, Noise2Noise, eq. 1-6).
    """
    squared = (answer - target).square()
    return squared.mean() if weight is None else (squared * weight).sum() / weight.sum().clamp_min(1)
