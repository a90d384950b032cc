"""Calibration on the very picture: how far to trust a network, and what a linear filter adds, at each frequency.

A network that learnt from simulations brings their contrast and halos with it. What it says of a picture y = s + n can
be judged without the truth s where the noise's power at each frequency is known. With z drawn as noise of that power,

    ⟨s, D(y)⟩ = ⟨y, D(y)⟩ - ⟨z, D(y + az) - D(y)⟩ / a        for small a,

because n lies in the answer D(y) as z lies in the difference (Stein 1981; by random differences: Ramani, Blu & Unser
2008). So least squares towards the unseen truth can be solved, shell by shell of frequency, for the best g·D(y) + w·y:
g takes back what the picture does not bear out, w is what a Wiener filter keeps beside it. Where the picture cannot
tell, g stays near 1 and w near 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deice.ops.cosine import cosine_radius, filter_mirrored

FEWEST = 60  # frequencies a shell
WIDENING = 1.12  # from one shell to the next, where that is more than the fewest
NOISE_ABOVE = 0.5  # of the highest frequency: there a picture holds almost only noise
CLEARLY = 0.5  # of the squared misfit
EMPTY = 1e-3  # of the mean power: less is what a filter left
DOUBT_OF_NOISE, DOUBT_OF_CHANGE = 0.05, 0.5  # share by which its power may be wrong; of the logarithm's change
PLAIN = 0.35  # signal over noise, and its doubt, from which on a filter is used and an answer may be raised
EXPECTED, SPREAD = (1.0, 0.0), (1.0, 0.5)  # of g and w, before the picture is asked
LARGEST = 2.0  # gain of the network
SMOOTHING = 16.0  # σ in pixels over which the variance of the answer is averaged
LEAST_SHARE = 0.25  # of its mean
NOTHING = 1e-12  # power, where the picture's variance is 1


@dataclass(frozen=True)
class Shells:
    """Frequencies of the cosine transform of `space`, by |f|: the shell of each, their numbers and mean |f|."""

    index: Tensor  # (*space)
    counts: Tensor  # (shells,) float64
    centres: Tensor  # (shells,) float64, cycles per pixel

    def means(self, values: Tensor) -> Tensor:
        """The mean of `values` (*space) in each shell: (shells,) float64."""
        sums = torch.zeros_like(self.counts).index_add_(0, self.index.flatten(), values.flatten().double())
        return sums / self.counts.clamp_min(1)


@dataclass(frozen=True)
class Gains:
    """g and w at the frequencies `centres` (shells,), beside the power of the noise and of what remains wrong."""

    centres: Tensor
    answer: Tensor
    picture: Tensor
    noise: Tensor
    error: Tensor

    def at(self, gain: Tensor, radius: Tensor) -> Tensor:
        """`gain` (shells,) at the frequencies `radius` (*space), drawn as a line from shell to shell."""
        centres = self.centres.to(radius.dtype)
        right = torch.bucketize(radius, centres).clamp(1, len(centres) - 1)
        share = ((radius - centres[right - 1]) / (centres[right] - centres[right - 1])).clamp(0, 1)
        values = gain.to(radius.dtype)
        return torch.lerp(values[right - 1], values[right], share)


def shells_of(space: Sequence[int], device: torch.device | str = "cpu") -> Shells:
    """Shells for pictures of `space`, each 12 % wider than the last or of 60 frequencies, out to the corners."""
    axes, pixels = len(space), math.prod(space)
    ball = {2: math.pi, 3: 4 / 3 * math.pi}[axes] * pixels  # frequencies within |f| < r: this times r^axes
    edges = [(FEWEST / ball) ** (1 / axes)]
    while edges[-1] * WIDENING < 0.5:
        edges.append(max(edges[-1] * WIDENING, (edges[-1] ** axes + FEWEST / ball) ** (1 / axes)))
    radius = cosine_radius(space, device, torch.float32)
    index = torch.bucketize(radius, torch.tensor(edges, device=device), right=True)
    counts = torch.bincount(index.flatten(), minlength=len(edges) + 1).double()
    sums = torch.zeros_like(counts).index_add_(0, index.flatten(), radius.flatten().double())
    return Shells(index, counts, sums / counts.clamp_min(1))


def noise_power(power: Tensor, shells: Shells) -> tuple[Tensor, Tensor]:
    """The noise's power in each shell, from the picture's `power` (shells,), and how far it may be wrong, as a share.

    Cameras blur their noise, interpolation and binning do too, so it is seldom white, but it changes slowly. Its
    logarithm is taken to fall with |f|, or with |f|² where that fits clearly better, as it does in the upper half of
    the frequencies that the picture has, where there is only noise. Drawn on below, it may not pass the power that is
    there, and is the less certain the more it has changed.
    """
    highest = cut_off(power, shells)
    high = (shells.centres >= NOISE_ABOVE * highest) & (shells.centres <= highest) & (shells.counts > 0)
    seen = power.clamp_min(NOTHING).log()
    curves = []
    for exponent in (1, 2):
        columns = torch.stack([torch.ones_like(seen), shells.centres**exponent], 1)
        weight = shells.counts[high, None].sqrt()
        curve = columns @ torch.linalg.lstsq(columns[high] * weight, seen[high, None] * weight).solution[:, 0]
        curves.append((float(((curve - seen)[high].square() * shells.counts[high]).sum()), curve))
    (straight, curve), (bent, other) = curves
    chosen = other if bent < CLEARLY * straight else curve
    doubt = DOUBT_OF_NOISE + DOUBT_OF_CHANGE * (chosen - chosen[high][0]).clamp_min(0)
    return torch.minimum(chosen.exp(), power).clamp_min(NOTHING), doubt


def cut_off(power: Tensor, shells: Shells) -> float:
    """The highest frequency, 0.5 cycles per pixel at most, with more than 1/1000 of the mean `power` (shells,)."""
    mean = (power * shells.counts).sum() / shells.counts.sum()
    there = shells.centres[(power > EMPTY * mean) & (shells.counts > 0)]
    return min(float(there.max()), 0.5) if len(there) else 0.5


def coloured_noise(noise: Tensor, shells: Shells, seed: int) -> Tensor:
    """Cosine coefficients of Gaussian noise of the power `noise` (shells,): (*space), the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(tuple(shells.index.shape), generator=generator).to(noise.device)
    return white * noise.sqrt().float()[shells.index]


def fit_gains(
    picture: Tensor, answer: Tensor, drawn: Tensor, change: Tensor, noise: tuple[Tensor, Tensor], shells: Shells
) -> Gains:
    """g and w of one picture, from cosine coefficients (*space) of unit-variance scale.

    picture: y. answer: D(y). drawn: z. change: (D(y + az) - D(y)) / a. noise: the power (shells,) of y's noise, and how
    far it may be wrong, as a share. The gains are what is measured, weighed by its errors, of chance and of the noise's
    power, against what is expected before.
    """
    level, doubt = noise
    power, size, overlap = shells.means(picture**2), shells.means(answer**2), shells.means(picture * answer)
    own_power = shells.means(drawn**2).clamp_min(NOTHING)
    passes = shells.means(drawn * change) / own_power  # of noise, as far as it comes back as itself
    scattered = shells.means(change**2) - passes**2 * own_power
    known = _matrix(size, overlap, power)
    wanted = torch.stack([overlap - passes * level, power - level], 1)  # ⟨s, D(y)⟩ and ⟨s, y⟩
    chance = _matrix(2 * size - passes**2 * level + scattered / 2, 2 * overlap - passes * level, 2 * power - level)
    chance = chance * (2 * level / shells.counts.clamp_min(1))[:, None, None]
    system = _matrix(passes**2, passes, torch.ones_like(passes)) * ((doubt * level) ** 2)[:, None, None]
    gains = _weighed(known, wanted, chance + system)
    plain = power > (1 + PLAIN + doubt) * level
    alone = _weighed(known[:, :1, :1], wanted[:, :1], (chance + system)[:, :1, :1])[:, 0]
    gain = torch.where(plain & (gains > 0).all(1), gains[:, 0], alone).clamp_min(0)
    gain = torch.minimum(gain, torch.where(plain, LARGEST, 1.0))  # more than the network says only of plain signal
    linear = torch.where(plain & (gains[:, 0] > 0), gains[:, 1].clamp(0, 1), 0.0)
    linear = torch.where(plain & (gain == 0), wanted[:, 1] / power.clamp_min(NOTHING), linear)
    signal = torch.where(wanted[:, 1] > 2 * (chance + system)[:, 1, 1].clamp_min(0).sqrt(), wanted[:, 1], 0.0)
    left = signal - 2 * (gain * wanted[:, 0] + linear * wanted[:, 1])
    left = left + gain**2 * size + 2 * gain * linear * overlap + linear**2 * power
    return Gains(shells.centres, gain, linear, level, left.clamp_min(0))


def _matrix(first: Tensor, mixed: Tensor, second: Tensor) -> Tensor:
    """Symmetric matrices (shells, 2, 2)."""
    return torch.stack([torch.stack([first, mixed], 1), torch.stack([mixed, second], 1)], 2)


def _weighed(known: Tensor, wanted: Tensor, covariance: Tensor) -> Tensor:
    """Gains (shells, k): `known` @ gains is `wanted` but for errors of that `covariance`; EXPECTED is it before."""
    count = wanted.shape[1]
    expected = known.new_tensor(EXPECTED[:count])
    trust = torch.diag(known.new_tensor(SPREAD[:count]) ** -2)
    scale = covariance.diagonal(dim1=1, dim2=2).sum(1)[:, None, None].clamp_min(NOTHING**2)
    weights = torch.linalg.inv(covariance + 1e-6 * scale * torch.eye(count, dtype=known.dtype, device=known.device))
    normal = known @ weights @ known + trust
    return torch.linalg.solve(normal, known @ weights @ wanted[..., None] + (trust @ expected)[:, None])[..., 0]


def mixed(picture: Tensor, answer: Tensor, gains: Gains) -> Tensor:
    """g·D(y) + w·y of cosine coefficients (*space)."""
    radius = cosine_radius(picture.shape, picture.device, torch.float32)
    return gains.at(gains.answer, radius) * answer + gains.at(gains.picture, radius) * picture


def standard_error(drawn: Tensor, change: Tensor, gains: Gains, shells: Shells) -> Tensor:
    """The standard error of each pixel of a calibrated answer (*space), from how it follows noise.

    drawn: z. change: by how much the answer changes, for each unit of z. Of the best answer, the noise that is left at
    a pixel and the signal that is lost together have the variance z·change there (Tweedie's formula of second order:
    Manor & Michaeli 2024). It is averaged over a Gaussian of 16 pixels, may not fall below a quarter of its mean, and
    is scaled to the error that was measured over the whole picture.
    """

    def smooth(radius: Tensor) -> Tensor:
        return torch.exp(-2 * (math.pi * SMOOTHING * radius) ** 2)

    local = filter_mirrored(drawn * change, smooth, drawn.ndim)
    local = local.clamp_min(LEAST_SHARE * float(local.mean().clamp_min(NOTHING)))
    total = (gains.error * shells.counts).sum() / shells.counts.sum()
    return (local * (total / local.mean())).sqrt()
