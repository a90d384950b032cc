"""Scores and thresholds against cases counted by hand and against distances of every pair of voxels."""

import numpy as np
import pytest

from deice.errors import PairFault, UserError
from deice.membranes import choose_threshold, scores
from deice.membranes.overlaps import surface, surface_dice


def slab(first, last, shape=(6, 8, 12)):
    mask = np.zeros(shape, np.int8)
    mask[:, :, first:last] = 1
    return mask


def test_overlaps_counted_by_hand():
    found = scores(slab(2, 6), slab(4, 8), 0)  # four columns each, two of them common
    assert found == pytest.approx({"dice": 0.5, "iou": 1 / 3, "precision": 0.5, "recall": 0.5, "surface_dice": 0.0})
    found = scores(slab(2, 8), slab(4, 8), 0)
    assert (found["precision"], found["recall"]) == pytest.approx((2 / 3, 1))
    assert found["surface_dice"] == pytest.approx(0.5)  # of two planes each, one is common
    assert scores(slab(3, 7), slab(3, 7), 0) == pytest.approx(dict.fromkeys(found, 1.0))


def test_two_planes_apart_agree_from_their_distance_on():
    for tolerance, expected in ((1.9, 0.0), (2, 1.0), (2.5, 1.0)):
        assert surface_dice(slab(3, 4), slab(5, 6), tolerance) == expected


def test_the_faces_of_the_volume_are_no_surface():
    mask = slab(0, 5)
    assert surface(mask.astype(bool)).sum() == 6 * 8  # the one plane inside, not the five other faces


def test_diagonal_distances_are_euclidean():
    one, other = np.zeros((2, 7, 7, 7), np.int8)
    one[2, 2, 2], other[4, 3, 4] = 1, 1  # 3 voxels apart
    assert surface_dice(one, other, 2.99) == 0
    assert surface_dice(one, other, 3.0) == 1


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2.3])
def test_surface_dice_is_that_of_all_pairs_of_voxels_also_block_by_block(tolerance, monkeypatch):
    rng = np.random.default_rng(1)
    ours, theirs = (rng.random((9, 10, 8)) < share for share in (0.05, 0.08))
    ours[2:6, 3:7, 2:6] = theirs[3:7, 3:8, 2:5] = True
    a, b = (np.argwhere(surface(mask)) for mask in (ours, theirs))
    distance = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    expected = ((distance.min(1) <= tolerance).sum() + (distance.min(0) <= tolerance).sum()) / (len(a) + len(b))
    assert surface_dice(ours, theirs, tolerance) == pytest.approx(expected)
    import importlib

    module = importlib.import_module("deice.membranes.overlaps")
    monkeypatch.setattr(module, "blocks", lambda shape: (slice(i, i + 1) for i in range(shape[0])))
    assert surface_dice(ours, theirs, tolerance) == pytest.approx(expected)


def test_only_the_wanted_labels_of_the_truth_count():
    truth = slab(4, 8) * 3
    truth[0, 0, 0] = 1
    assert scores(slab(4, 8), truth, 0, wanted=(3,))["dice"] == 1
    with pytest.raises(UserError, match="no voxel labelled 2"):
        scores(slab(4, 8), truth, 0, wanted=(2,))
    with pytest.raises(PairFault, match="6×8×12 and a truth of 6×8×11"):
        scores(slab(4, 8), truth[:, :, :11], 0)


def test_nothing_found_scores_nothing():
    assert scores(slab(0, 0), slab(3, 4), 1) == dict.fromkeys(("dice", "iou", "precision", "recall", "surface_dice"), 0)


def test_the_threshold_is_that_of_the_highest_mean_dice():
    rng = np.random.default_rng(2)
    truths = [slab(3, 7), slab(2, 4)]
    found = [np.clip(0.35 + 0.3 * truth + rng.normal(0, 0.08, truth.shape), 0, 1) for truth in truths]
    chosen = choose_threshold(found, truths)
    grid = np.arange(0.01, 1, 0.01)
    means = [np.mean([scores(p >= t, truth, 0)["dice"] for p, truth in zip(found, truths)]) for t in grid]
    best = np.mean([scores(p >= chosen, truth, 0)["dice"] for p, truth in zip(found, truths)])
    assert best >= max(means) - 1e-3
    assert 0.42 < chosen < 0.58


def test_a_threshold_between_two_values_separates_them():
    truth = slab(3, 7)
    chosen = choose_threshold([np.where(truth, 0.9, 0.2)], [truth])
    assert 0.2 < chosen <= 0.9
    empty = np.zeros_like(truth)
    assert choose_threshold([np.where(truth, 0.9, 0.2), empty + 0.95], [truth, empty]) == chosen
    with pytest.raises(UserError, match="no truth has a voxel labelled 5"):
        choose_threshold([truth], [truth], wanted=(5,))
    with pytest.raises(PairFault, match="1 probabilities and 2 truths"):
        choose_threshold([truth], [truth, truth])
