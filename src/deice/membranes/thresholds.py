"""The threshold of membrane probability, chosen once on volumes whose truth is known, to be frozen for all others."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deice.errors import PairFault, UserError
from deice.ops.tiles import blocks

STEPS = 200  # thresholds between 0 and 1 that are tried


def choose_threshold(probabilities: Sequence[Any], truths: Sequence[Any], wanted: Sequence[int] = (1,)) -> float:
    """The threshold in (0, 1) of the highest mean Dice over scenes, each (z, y, x) with values 0 to 1 and its truth.

    wanted: which values of a truth are membrane. Only the threshold counts here, neither peaks nor sizes of patches.
    A scene without membrane is left aside: nothing can be found there.
    Choose it on validation scenes, never on those that are reported.
    Raises PairFault for volumes that do not belong together, UserError where no truth has any membrane.
    """
    if not probabilities or len(probabilities) != len(truths):
        raise PairFault(f"{len(probabilities)} probabilities and {len(truths)} truths; expected one truth for each")
    curves = [_dice_by_threshold(found, truth, wanted) for found, truth in zip(probabilities, truths)]
    curves = [curve for curve in curves if curve is not None]
    if not curves:
        raise UserError(f"no truth has a voxel labelled {' or '.join(map(str, wanted))}; expected membranes to choose "
                        "a threshold by")
    mean = np.mean(curves, axis=0)
    best = np.flatnonzero(mean >= mean.max() - 1e-12)
    return float(best[len(best) // 2] + 1) / STEPS  # the middle of a plateau


def _dice_by_threshold(probability: Any, truth: Any, wanted: Sequence[int]) -> np.ndarray | None:
    """Dice at the thresholds 1/STEPS, 2/STEPS … below 1, from two histograms; None without membrane in the truth."""
    if tuple(probability.shape) != tuple(truth.shape):
        raise PairFault(f"a probability of {probability.shape} and a truth of {truth.shape} voxels; expected one size")
    every, hits = np.zeros(STEPS + 1, np.int64), np.zeros(STEPS + 1, np.int64)
    for block in blocks(truth.shape):
        steps = np.clip(np.floor(np.asarray(probability[block], np.float64) * STEPS + 1e-9), 0, STEPS).astype(np.int64)
        every += np.bincount(steps.ravel(), minlength=STEPS + 1)
        hits += np.bincount(steps[np.isin(np.asarray(truth[block]), wanted)], minlength=STEPS + 1)
    if not hits.sum():
        return None
    found, both = (counts[::-1].cumsum()[::-1][1:-1] for counts in (every, hits))
    return 2 * both / (found + hits.sum())
