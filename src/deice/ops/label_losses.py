"""Losses of labels: (logits, target of 0 and 1, weight) → scalar, any number of axes, a mean over samples."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

FEWEST = 100.0  # voxels that are added to both sides of the Dice ratio, so that a window without any counts little


def bce(answer: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy of logits (b, c, *space) by 0 and 1; with `weight`, over what it weighs.

    Written with softplus, so that no logit is too large for it.
    """
    entropy = softplus(answer) - answer * target
    if weight is None:
        return entropy.mean()
    return ((entropy * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(1e-12)).mean()


def dice(answer: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """1 − 2 Σpt / (Σp + Σt), p = sigmoid, of each sample of logits (b, c, *space), averaged; `weight` weighs the sums.

    Rare labels count as much as common ones. Source: Milletari, Navab & Ahmadi, 3DV 2016, eq. 2, without its squares.
    """
    share = torch.ones_like(target) if weight is None else weight
    found = torch.sigmoid(answer)
    both, either = ((share * values).flatten(1).sum(1) for values in (found * target, found + target))
    return (1 - (2 * both + FEWEST) / (either + FEWEST)).mean()


LABEL_LOSSES = {"bce": bce, "dice": dice}
