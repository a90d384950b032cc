"""Losses: values that others compute, gradients, weights, what noise in the target does; and their sums as text."""

import math

import pytest
import torch
from skimage.metrics import structural_similarity

from deice.errors import RecipeFault
from deice.losses import BIASED, LOSSES, WHOLE, Criterion, mean_of

PIXELWISE = [name for name in LOSSES if name not in WHOLE]
SPACES = [(12, 15), (5, 12, 7)]


def pair(space, count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn((count, 1, *space), generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_right(name, space):
    answer, target = pair([min(size, 6) for size in space], count=2)
    weights = [None] if name in WHOLE else [None, torch.rand_like(target)]
    for weight in weights:
        assert torch.autograd.gradcheck(lambda a, w=weight: LOSSES[name](a, target, w), answer.requires_grad_())


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", LOSSES)
def test_zero_for_the_target_itself_with_a_gradient_that_is_finite_and_above_it_elsewhere(name, space):
    answer, target = pair(space)
    same = target.clone().requires_grad_()
    loss = LOSSES[name](same, target)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1.1e-3)  # charbonnier ends at its ε
    assert torch.isfinite(same.grad).all()
    assert float(LOSSES[name](answer, target)) > 0.1


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_may_be_taken_apart(name, space):
    answer, target = pair(space)
    weight = None if name in WHOLE else torch.rand_like(target)
    parts = [LOSSES[name](answer[i : i + 1], target[i : i + 1], None if weight is None else weight[i : i + 1])
             for i in range(len(answer))]
    assert float(LOSSES[name](answer, target, weight)) == pytest.approx(float(torch.stack(parts).mean()))


@pytest.mark.parametrize("name", PIXELWISE)
def test_what_weighs_nothing_is_not_judged_and_weights_have_no_scale(name):
    answer, target = pair((12, 15))
    weight = (torch.rand_like(target) < 0.3).double()
    wrong = torch.where(weight.bool(), answer, answer + 100)
    loss = float(LOSSES[name](answer, target, weight))
    assert float(LOSSES[name](wrong, target, weight)) == pytest.approx(loss)
    assert float(LOSSES[name](answer, target, 7 * weight)) == pytest.approx(loss)
    assert float(LOSSES[name](answer, target, torch.ones_like(target))) == pytest.approx(
        float(LOSSES[name](answer, target)))  # fmt: skip
    assert float(LOSSES[name](answer, target, torch.zeros_like(target))) == 0


@pytest.mark.parametrize("name", WHOLE)
def test_a_loss_of_whole_windows_refuses_a_mask(name):
    answer, target = pair((12, 15))
    with pytest.raises(RecipeFault, match=f"loss {name} judges whole windows.*expected mse, l1"):
        LOSSES[name](answer, target, torch.ones_like(target))
    with pytest.raises(RecipeFault, match="whole windows"):
        Criterion.parse(f"mse+{name}").refuse_masks()


def test_simple_losses_have_the_values_of_their_formulas():
    answer, target = torch.zeros(2, 1, 1, 4), torch.tensor([[3.0, 4, 0, 0], [0, 0, 0, 0]]).reshape(2, 1, 1, 4)
    values = {name: float(LOSSES[name](answer, target)) for name in LOSSES if name != "ssim"}
    assert values["mse"] == pytest.approx(25 / 8)
    assert values["l1"] == pytest.approx(7 / 8)
    assert values["charbonnier"] == pytest.approx(7 / 8, abs=1e-3)
    assert values["l2"] == pytest.approx((2.5 + 0) / 2)
    assert values["gradient"] == pytest.approx((1 + 16 + 0) / 6)
    coarse = [25 / 8, 3.5**2 / 4, 1.75**2 / 2, 1.75**2 / 2]  # blocks of 1, 2, 4 and no more
    assert values["multiscale"] == pytest.approx(sum(coarse) / 4)


@pytest.mark.parametrize("space", [(24, 31), (13, 14, 16)])
def test_ssim_is_that_of_scikit_image(space):
    answer, target = pair(space, count=1)
    answer = target + 0.5 * answer
    expected = structural_similarity(
        target[0, 0].numpy(), answer[0, 0].numpy(), gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=6.0)  # fmt: skip
    assert 1 - float(LOSSES["ssim"](answer, target)) == pytest.approx(expected, rel=1e-6)


def test_ssim_in_single_precision_stands_a_large_mean():
    answer, target = (image + 1000 for image in pair((24, 31)))
    exact = float(LOSSES["ssim"](answer, target))
    assert float(LOSSES["ssim"](answer.float(), target.float())) == pytest.approx(exact, abs=2e-3)


@pytest.mark.parametrize("space", [(12, 15), (9, 8), (5, 12, 7)])
def test_fourier_is_the_mean_over_the_full_unitary_transform(space):
    answer, target = pair(space)
    axes = tuple(range(2, 2 + len(space)))
    powers = [torch.log1p(torch.fft.fftn(image, dim=axes, norm="ortho").abs().square()) for image in (answer, target)]
    assert float(LOSSES["fourier"](answer, target)) == pytest.approx(float((powers[0] - powers[1]).square().mean()))


def test_fourier_of_white_noise_does_not_depend_on_the_window():
    small, large = (float(LOSSES["fourier"](*pair(space, count, seed=1)))
                    for space, count in (((16, 16), 64), ((128, 128), 1)))
    assert small == pytest.approx(large, rel=0.05)


def test_fourier_does_not_see_a_shift_and_gradient_not_an_offset():
    target = pair((12, 15))[1]
    assert float(LOSSES["fourier"](target.roll(3, -1), target)) == pytest.approx(0, abs=1e-12)
    assert float(LOSSES["gradient"](target + 3, target)) == pytest.approx(0, abs=1e-12)


def best_gain(name, scene, target):
    """The scalar gain on the scene that a loss finds best."""
    gains = torch.linspace(0.6, 1.4, 81)
    return float(gains[torch.stack([LOSSES[name](gain * scene, target, None) for gain in gains]).argmin()])


@pytest.mark.parametrize("name", LOSSES)
def test_which_losses_noise_in_the_target_misleads(name):
    """Shot noise of a few electrons: independent, of mean 0, and as skew as real counts are."""
    generator = torch.Generator().manual_seed(0)
    waves = torch.sin(torch.arange(160) / 5.0)
    scene = (1.5 + waves[:, None] * waves[None, :]).expand(2, 1, 160, 160).contiguous()
    counted = torch.poisson(scene, generator=generator)
    assert best_gain(name, scene, scene) == pytest.approx(1, abs=1e-6)
    moved = abs(best_gain(name, scene, counted) - 1)
    assert moved > 0.04 if name in BIASED else moved < 0.02


@pytest.mark.parametrize("text", ["mse", "mse+0.1*fourier", "mse+0.1*fourier+0.05*ssim", "2.5*l1+0.001*gradient"])
def test_a_combination_is_what_its_text_says_and_writes_itself(text):
    answer, target = pair((12, 15))
    criterion = Criterion.parse(text)
    assert str(criterion) == text
    judged = criterion(answer.requires_grad_(), target)
    answer = answer.detach()
    expected = sum(weight * float(LOSSES[name](answer, target)) for name, weight in criterion.terms)
    assert judged.total.item() == pytest.approx(expected)
    assert {name: float(value) for name, value in judged.terms.items()} == pytest.approx(
        {name: float(LOSSES[name](answer, target)) for name, _ in criterion.terms})  # fmt: skip
    assert judged.total.requires_grad
    assert not any(value.requires_grad for value in [*judged.terms.values(), judged.detached().total])


def test_spaces_and_powers_of_ten_are_read():
    assert Criterion.parse(" mse + 1e-1 * fourier + 1e+1*l1") == Criterion((("mse", 1.0), ("fourier", 0.1), ("l1", 10)))


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "'' is no loss; expected names among mse, l1"), ("mse+", "'' is no loss"), ("msee", "did you mean 'mse'"),
     ("mse+0.1*furier", "did you mean 'fourier'"), ("mse+-1*l1", "weight of l1 is '-1'; expected a number above 0"),
     ("nan*mse", "weight of mse is 'nan'"), ("inf*mse", "weight of mse is 'inf'"), ("0*mse", "weight of mse is '0'"),
     ("a*mse", "weight of mse is 'a'"), ("*mse", "weight of mse is ''"), ("mse*0.1", "'0.1' is no loss"),
     ("mse+0.1*mse", "mse stands there twice"), ("mse,l1", "is no loss")],
)
def test_what_is_wrong_with_a_text_is_named(text, message):
    with pytest.raises(RecipeFault, match=message.replace("*", r"\*")):
        Criterion.parse(text)


def test_a_scheme_may_add_a_penalty_and_means_are_taken_term_by_term():
    answer, target = pair((12, 15))
    judged = Criterion.parse("mse")(answer, target).plus("tv", 0.5, torch.tensor(2.0))
    assert float(judged.total) == pytest.approx(float(LOSSES["mse"](answer, target)) + 1)
    both = mean_of([judged, judged.plus("tv", 1.0, torch.tensor(4.0))])
    assert float(both.terms["tv"]) == 3
    assert float(both.total) == pytest.approx(float(judged.total) + 2)
    assert math.isclose(float(both.terms["mse"]), float(LOSSES["mse"](answer, target)))
