"""Losses: one function each, (answer, target, weight) → scalar, any number of axes; and their weighted sums as text.

Each is a mean over samples, so that a batch may be taken apart. `weight` (b, c, *space) ≥ 0 says how much each pixel of
a sample counts; a loss that looks at more than one pixel at a time cannot honour it and raises RecipeFault.

Under a noisy target (Noise2Noise) a loss is safe where its minimum depends on the target's mean alone: where it is
quadratic in the target. `BIASED` names those that are not, with what they learn instead.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.ops.fourier import conjugate_weight, half_transform
from deice.ops.label_losses import LABEL_LOSSES
from deice.ops.local import gaussian_means

CHARBONNIER = 1e-3  # where the Charbonnier loss turns from a parabola into a straight line
RANGE = 6.0  # the data range of structural similarity: ±3 standard deviations of unit-variance data
LEVELS = 4  # of the pyramid, the full resolution among them

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def mse(answer: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error over (b, c, *space); with `weight`, over what it weighs.

    Safe under noisy targets: its minimum is the mean of the targets (Lehtinen et al. 2018, Noise2Noise, eq. 1-6).
    """
    return _mean((answer - target).square(), weight)


def l1(answer: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute difference over (b, c, *space); with `weight`, over what it weighs.

    Biased under noisy targets: its minimum is the median of the targets, which is their mean only if the noise is
    symmetric; of low electron counts the median lies below.
    """
    return _mean((answer - target).abs(), weight)


def charbonnier(answer: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean of √(difference² + ε²), ε = 0.001, over (b, c, *space); with `weight`, over what it weighs.

    A smooth `l1`, and biased as it is (Charbonnier et al., ICIP 1994, vol. 2, 168-172).
    """
    return _mean(((answer - target).square() + CHARBONNIER**2).sqrt(), weight)


def l2(answer: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Root mean square difference of each sample of (b, c, *space), averaged; with `weight`, of what it weighs.

    The un-squared norm that F2Fd learns by, over the root of the number of pixels, so that windows of any size compare.
    Under noisy targets it is `mse` with each sample's weight divided by its own residual: safe up to terms of 1/pixels.
    """
    difference = answer - target if weight is None else (answer - target) * weight.sqrt()
    norms = torch.linalg.vector_norm(difference.flatten(1), dim=1)  # whose gradient at 0 is 0, not that of a root
    counts = answer[0].numel() if weight is None else _counted(weight)
    return (norms / counts**0.5).mean()


def fourier(answer: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared difference of log(1 + |F|²) over all Fourier coefficients of (b, c, *space); phases do not count.

    F is the unitary transform: white noise of variance s has the mean |F|² = s at any window size, and unit-variance
    data lie around 1, where log(1 + |F|²) tells powers apart. Source: the source documents' roadmap (v29), weight 0.1.
    Biased under noisy targets: it asks for the target's power, noise included. Honours no `weight`.
    """
    _refuse(weight, "fourier")
    axes = answer.ndim - 2
    spectra = [half_transform(image, axes) for image in (answer, target)]
    scale = 1 / answer[0, 0].numel()  # of the unitary transform's power
    found, wanted = (torch.log1p((s.real.square() + s.imag.square()) * scale) for s in spectra)
    counts = conjugate_weight(answer.shape[2:], found)
    squared = (found - wanted).square() * counts
    return squared.mean() / counts.mean()


def ssim(answer: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """1 − mean structural similarity of (b, c, *space): Gaussian window of σ = 1.5 pixels, 11 taps (fewer along an axis
    that has fewer pixels), K1 = 0.01, K2 = 0.03, data range 6 (±3 standard deviations of unit-variance data).

    Source: Wang et al., IEEE Trans. Image Process. 13 (2004) 600-612. Each target's mean is taken off before squares
    are, or float32 would not do for pictures of a large mean.
    Biased under noisy targets: it asks for the target's local variance, noise included. Honours no `weight`.
    """
    _refuse(weight, "ssim")
    axes = answer.ndim - 2
    level = target.mean(dim=tuple(range(2, target.ndim)), keepdim=True)
    x, y = answer - level, target - level
    mean_x, mean_y = gaussian_means(x, axes), gaussian_means(y, axes)
    covariance = gaussian_means(x * y, axes) - mean_x * mean_y
    variances = gaussian_means(x * x + y * y, axes) - mean_x.square() - mean_y.square()
    mean_x, mean_y = mean_x + level, mean_y + level
    c1, c2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    return 1 - (luminance * (2 * covariance + c2) / (variances + c2)).mean()


def gradient(answer: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared difference of the steps between neighbours of (b, c, *space), summed over axes.

    Weighs edges, and with them the high frequencies. Blind to a constant offset: combine it with `mse`.
    Safe under noisy targets: it is quadratic in the target. Honours no `weight`.
    """
    _refuse(weight, "gradient")
    difference = answer - target
    steps = [difference.diff(dim=axis) for axis in range(2, difference.ndim) if difference.shape[axis] > 1]
    return sum((step.square().mean() for step in steps), start=difference.new_zeros(()))


def multiscale(answer: Tensor, target: Tensor, weight: Tensor | None = None, levels: int = LEVELS) -> Tensor:
    """`mse` of (b, c, *space) and of its means over blocks of 2, 4 and 8 pixels along each axis, averaged.

    Coarse levels weigh the low frequencies. An axis that cannot be halved again stays as it is.
    Safe under noisy targets: means of blocks are linear, so it is quadratic in the target. Honours no `weight`.
    """
    _refuse(weight, "multiscale")
    difference = answer - target
    total = difference.square().mean()
    for _ in range(levels - 1):
        difference = _halved(difference)
        total = total + difference.square().mean()
    return total / levels


LOSSES: dict[str, Loss] = {
    "mse": mse, "l1": l1, "charbonnier": charbonnier, "l2": l2,
    "fourier": fourier, "ssim": ssim, "gradient": gradient, "multiscale": multiscale,
}
KNOWN: dict[str, Loss] = LOSSES | LABEL_LOSSES
WHOLE = ("fourier", "ssim", "gradient", "multiscale")  # judge pixels together, so they honour no weight
BIASED = {
    "l1": "its minimum is the median of the targets, not their mean",
    "charbonnier": "its minimum lies near the median of the targets, not at their mean",
    "fourier": "it asks for the target's power, noise included",
    "ssim": "it asks for the target's local variance, noise included",
}


@dataclass(frozen=True)
class Judged:
    """What a criterion found: the `total` to descend on, and each term by itself, without its weight, detached."""

    total: Tensor
    terms: dict[str, Tensor]

    def plus(self, name: str, weight: float, value: Tensor) -> "Judged":
        """With one more term: a scheme's own penalty."""
        return Judged(self.total + weight * value, self.terms | {name: value.detach()})

    def detached(self) -> "Judged":
        """Without the graph that led to it."""
        return Judged(self.total.detach(), self.terms)


def mean_of(found: Sequence[Judged]) -> Judged:
    """The mean of several, term by term."""
    total = torch.stack([one.total for one in found]).mean()
    return Judged(total, {name: torch.stack([one.terms[name] for one in found]).mean() for name in found[0].terms})


@dataclass(frozen=True)
class Criterion:
    """A weighted sum of losses, written as "mse+0.1*fourier"; of labels, as "bce+dice"."""

    terms: tuple[tuple[str, float], ...]

    @classmethod
    def parse(cls, text: str) -> "Criterion":
        """Names of `LOSSES` joined by +, each with a weight above 0 before it if that is not 1; else RecipeFault."""
        terms = [_term(part, text) for part in re.split(r"(?<![\d.][eE])\+", text)]  # the + of 1e+3 joins nothing
        names = [name for name, _ in terms]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise RecipeFault(f"loss is {text!r}: {twice} stands there twice; expected each loss once")
        return cls(tuple(terms))

    def __str__(self) -> str:
        return "+".join(name if weight == 1 else f"{weight!r}*{name}" for name, weight in self.terms)

    def __call__(self, answer: Tensor, target: Tensor, weight: Tensor | None = None) -> Judged:
        """Judge `answer` by `target`, both (b, c, *space); `weight` of the same shape, where only part is judged."""
        judged = Judged(answer.new_zeros(()), {})
        for name, share in self.terms:
            judged = judged.plus(name, share, KNOWN[name](answer, target, weight))
        return judged

    def biased(self) -> dict[str, str]:
        """The terms that are biased under noisy targets, and why."""
        return {name: BIASED[name] for name, _ in self.terms if name in BIASED}

    def expect_labels(self, labels: bool) -> None:
        """RecipeFault if a term is a loss of labels and grey values are learnt, or the other way about."""
        wanted, other = (LABEL_LOSSES, LOSSES) if labels else (LOSSES, LABEL_LOSSES)
        for name, _ in self.terms:
            if name in other:
                raise RecipeFault(f"loss {name} judges {'grey values' if labels else 'labels'}, but the scheme learns "
                                  f"{'labels' if labels else 'grey values'}; expected {', '.join(wanted)}")

    def refuse_masks(self) -> None:
        """RecipeFault if a term cannot judge a part of the answer only, as a scheme with blind spots asks."""
        for name, _ in self.terms:
            if name in WHOLE:
                _refuse(True, name)


def _term(part: str, text: str) -> tuple[str, float]:
    """(name, weight) of one term of `text`."""
    weight, _, name = part.rpartition("*")
    name = name.strip()
    if name not in KNOWN:
        near = get_close_matches(name, KNOWN, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise RecipeFault(f"loss is {text!r}: {name!r} is no loss; expected names among {', '.join(KNOWN)} joined by "
                          f"+, as mse+0.1*fourier{hint}")
    try:
        value = float(weight) if "*" in part else 1.0
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise RecipeFault(f"loss is {text!r}: the weight of {name} is {weight.strip()!r}; expected a number above 0, "
                          f"as 0.1*{name} (losses: {', '.join(KNOWN)})")
    return name, value


def _refuse(weight: object, name: str) -> None:
    if weight is not None:
        able = ", ".join(loss for loss in LOSSES if loss not in WHOLE)
        raise RecipeFault(f"loss {name} judges whole windows, but the scheme asks to judge part of the pixels only; "
                          f"expected {able}, or another scheme")


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """The mean over samples of the (weighted) mean over each; a sample that nothing weighs counts as 0."""
    if weight is None:
        return values.mean()
    return ((values * weight).flatten(1).sum(1) / _counted(weight)).mean()


def _counted(weight: Tensor) -> Tensor:
    """The sum of the weights of each sample, (b,), never 0."""
    return weight.flatten(1).sum(1).clamp_min(1e-12)


def _halved(image: Tensor) -> Tensor:
    """Means of blocks of two along each trailing axis of (b, c, *space); the odd last row of an axis is left out."""
    for axis in range(2, image.ndim):
        pairs = image.shape[axis] // 2
        if pairs:
            image = image.narrow(axis, 0, 2 * pairs).unflatten(axis, (pairs, 2)).mean(axis + 1)
    return image
