"""Connected components against scikit-image."""

import numpy as np
import pytest
from skimage.measure import label

from deice.membranes import components
from deice.membranes.components import hysteresis


def expected(probability, low, high, smallest):
    """The same by labelling the whole volume."""
    patches, count = label(probability >= low, connectivity=3, return_num=True)
    kept = [n for n in range(1, count + 1)
            if (patches == n).sum() >= smallest and (probability[patches == n] >= high).any()]  # fmt: skip
    return np.isin(patches, kept) if kept else np.zeros(probability.shape, bool), len(kept)


@pytest.mark.parametrize("shape", [(7, 9, 11), (20, 30, 25), (1, 5, 1), (3, 1, 40)])
@pytest.mark.parametrize("share", [0.4, 0.1, 0.02, 0.0])
@pytest.mark.parametrize("limit", [1 << 22, 50])
def test_the_same_patches_as_scikit_image(shape, share, limit, monkeypatch):
    """Also where the volume is read and written in many blocks."""
    monkeypatch.setattr(components, "blocks", lambda shape: _blocks(shape, limit))
    probability = np.random.default_rng(3).random(shape)
    low, high = 1 - share, 1 - share / 3
    wanted, count = expected(probability, low, high, 3)
    labels = np.full(shape, 9, np.int8)
    assert hysteresis(probability, labels, low, high, 3) == count
    assert np.array_equal(labels, wanted)


def _blocks(shape, limit):
    from deice.ops.tiles import blocks

    return blocks(shape, limit)


def test_a_patch_without_a_strong_voxel_or_too_small_goes():
    probability = np.zeros((4, 6, 20), np.float32)
    probability[1, 1, 1:6] = 0.6  # five voxels, none of them strong
    probability[1, 4, 1:6] = 0.6
    probability[2, 5, 6] = 0.9  # touches the second by a corner
    probability[3, 2, 12] = 0.95  # strong and alone
    labels = np.zeros(probability.shape, np.int8)
    assert hysteresis(probability, labels, 0.5, 0.8, 2) == 1
    assert labels.sum() == 6
    assert labels[2, 5, 6] == 1


def test_a_long_winding_patch_is_one():
    """A snake of single voxels: the hardest case for joining."""
    probability = np.zeros((1, 41, 41), np.float32)
    probability[0, ::2] = 1
    for row in range(1, 41, 2):
        probability[0, row, 0 if row % 4 == 1 else -1] = 1
    labels = np.zeros(probability.shape, np.int8)
    assert hysteresis(probability, labels, 0.5, 0.5, 1) == 1
    assert labels.sum() == probability.sum()
