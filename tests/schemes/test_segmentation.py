"""Segmentation: its task, its losses, what is refused, and that a small net learns labels."""

import math

import numpy as np
import pytest
import torch

from deice import denoise, segment, train
from deice.errors import RecipeFault
from deice.losses import Criterion
from deice.membranes import choose_detector
from deice.ops.label_losses import FEWEST, bce, dice
from deice.schemes.segmentation import Segmentation

SMALL = {"scheme": {"name": "segmentation"}, "net": {"name": "unet", "size": 4, "depth": 1}, "data": {"window": 16},
         "training": {"batch": 4}}  # fmt: skip


def scene(seed):
    """(volume (1, z, y, x), labels): a slab of label 1 and a box of label 2 in noise, grey values around 200."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((16, 32, 32), np.int8)
    first = rng.integers(6, 24)
    labels[:, :, first : first + 4] = 1
    labels[2:5, 4:8, 2:5] = 2
    return (rng.normal(200, 0.5, labels.shape) - 1.5 * (labels == 1)).astype(np.float32)[None], labels


SCENES = [scene(seed) for seed in range(4)]


def learnt(**changes):
    recipe = SMALL | changes.pop("recipe", {})
    target = changes.pop("target", [labels for _, labels in SCENES])
    return train([volume for volume, _ in SCENES], recipe=recipe, target=target, **{"steps": 1, **changes})


def test_the_target_is_one_where_a_wanted_label_is():
    views = torch.tensor([[5.0, 7, 9], [3, 5, 7], [0, 1, 2]]).reshape(1, 3, 1, 1, 3)
    task = Segmentation(labels=(2,)).make(views, torch.Generator())
    assert task.input.flatten().tolist() == [4, 6, 8]
    assert task.target.flatten().tolist() == [0, 0, 1]
    assert Segmentation(labels=(1, 2)).make(views, torch.Generator()).target.flatten().tolist() == [0, 1, 1]


def test_the_estimate_is_a_probability():
    estimate = Segmentation().estimate(lambda x: 100 * x, torch.tensor([-1.0, 0, 1]).reshape(1, 3, 1, 1))
    assert estimate.flatten().tolist() == pytest.approx([0, 0.5, 1])


def test_cross_entropy_by_hand_and_of_large_logits():
    answer, target = torch.tensor([[[[0.0, 2, -3]]]]), torch.tensor([[[[1.0, 1, 0]]]])
    each = [math.log(2), math.log(1 + math.exp(-2)), math.log(1 + math.exp(-3))]
    assert float(bce(answer, target)) == pytest.approx(sum(each) / 3)
    assert float(bce(answer, target, torch.tensor([[[[1.0, 0, 3]]]]))) == pytest.approx((each[0] + 3 * each[2]) / 4)
    assert float(bce(torch.full((1, 1, 2, 2), 1e4), torch.zeros(1, 1, 2, 2))) == pytest.approx(1e4)


def test_the_dice_loss_by_hand():
    answer = torch.full((1, 1, 20, 20), -50.0)
    target = torch.zeros(1, 1, 20, 20)
    answer[..., :10], target[..., 5:15] = 50, 1  # 200 each, 100 of them common
    assert float(dice(answer, target)) == pytest.approx(1 - (200 + FEWEST) / (400 + FEWEST))
    weight = torch.zeros_like(target)
    weight[..., 5:10] = 1
    assert float(dice(answer, target, weight)) == pytest.approx(0)
    assert float(dice(-answer.abs(), torch.zeros_like(target))) == pytest.approx(0)


@pytest.mark.parametrize("loss", [bce, dice])
def test_losses_of_labels_take_batches_apart_and_can_be_descended_on(loss):
    rng = torch.Generator().manual_seed(0)
    answer = torch.randn(3, 1, 4, 5, dtype=torch.float64, generator=rng)
    target = (torch.rand(3, 1, 4, 5, generator=rng) < 0.3).double()
    parts = [loss(answer[i : i + 1], target[i : i + 1]) for i in range(3)]
    assert float(loss(answer, target)) == pytest.approx(float(torch.stack(parts).mean()))
    assert torch.autograd.gradcheck(lambda a: loss(a, target), answer.requires_grad_())


def test_it_learns_labels_and_answers_in_probability():
    model = learnt(steps=80, lr=5e-3, precision="fp32")
    volume, labels = scene(9)
    found = segment(volume[0], model, pixel_size=10.0)
    assert found.probability[labels == 1].mean() > 0.9
    assert found.probability[labels != 1].mean() < 0.05
    assert (found.labels == (labels == 1)).mean() > 0.99
    with pytest.raises(RecipeFault, match="segments and does not denoise; use deice segment"):
        denoise(volume, model)


def test_a_denoiser_does_not_segment():
    model = train([SCENES[0][0]], recipe=SMALL | {"scheme": {"name": "supervised"}}, steps=1)
    with pytest.raises(RecipeFault, match="a denoiser; expected ridge, or a model of"):
        choose_detector(model)


@pytest.mark.parametrize(("changes", "said"), [
    ({"target": None}, "learns from labels; expected a folder of label volumes by --target"),
    ({"recipe": {"scheme": {"name": "segmentation", "labels": [7]}}}, r"has one of the labels \[7\]"),
    ({"recipe": {"scheme": {"name": "segmentation", "labels": [0]}}}, "expected numbers above 0"),
    ({"target": [volume[0] for volume, _ in SCENES]}, "the target holds .*; expected labels, which are whole numbers"),
    ({"loss": "mse"}, "loss mse judges grey values, but the scheme learns labels; expected bce, dice"),
    ({"contrast": 0.2}, "holds labels, which have no grey scale"),
    ({"coarse": 1}, "learns at full resolution only"),
])  # fmt: skip
def test_what_cannot_be_learnt_is_refused(changes, said):
    with pytest.raises(RecipeFault, match=said):
        learnt(**changes)


def test_losses_of_labels_do_not_judge_grey_values():
    with pytest.raises(RecipeFault, match="loss dice judges labels, but the scheme learns grey values; expected mse"):
        train([SCENES[0][0]], recipe=SMALL | {"scheme": {"name": "supervised"}}, steps=1, loss="mse+0.1*dice")
    assert str(Criterion.parse("bce+0.5*dice")) == "bce+0.5*dice"
