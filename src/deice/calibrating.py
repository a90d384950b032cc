"""Calibrating: the network is asked once more, with a little noise added, and its answer mixed as `calibration` says.

What is asked once more is the picture's middle, which tells of the whole; for a map of the uncertainty, the whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from deice.calibration import Gains, coloured_noise, fit_gains, mixed, noise_power, shells_of, standard_error
from deice.checkpoint import Model
from deice.conditions import Conditions
from deice.errors import MemoryFault
from deice.estimating import estimate_into
from deice.ops.cosine import cosine_transform, from_cosine_transform
from deice.ops.normalise import Affine

STRENGTH = 0.3  # a: of the noise that is added, in units of the picture's own
PROBE = {2: 1536, 3: 160}  # pixels along each axis that are asked once more
MARGIN = {2: 128, 3: 24}  # of them, at an edge that is not the picture's own, are not looked at
BYTES = 40  # a pixel, measured: the picture, its answer, their transforms and what is made of them
DOUBT_OF_HALVES = 0.02  # how far noise that was measured from halves may be wrong, as a share of its power
SEED = 7  # of the noise: the same picture always gets the same answer


@dataclass(frozen=True)
class Probe:
    """A part of the picture that the network was asked twice: fields (*space), normalised; the change for a unit of z.

    measured: whether the noise was, from halves, rather than told from the picture's spectrum.
    """

    picture: Tensor
    answer: Tensor
    drawn: Tensor
    change: Tensor
    measured: bool


def calibrates(model: Model, conditions: Conditions) -> bool:
    """Whether the model's answers are calibrated: as the conditions say, else as the model does."""
    return model.calibrated if conditions.calibration is None else conditions.calibration


def calibrate(
    answer: Tensor, picture: Tensor, affine: Affine, model: Model, conditions: Conditions, noise: Tensor | None = None
) -> list[Tensor]:
    """The calibrated answer to `picture`, and where the conditions want it its standard error; all (*space), in greys.

    noise: a field of the picture's own noise (half the difference of its halves), where there is one; else its power is
    taken from the picture's highest frequencies. Raises MemoryFault where the picture cannot be held whole.
    """
    needed = BYTES * prod(picture.shape)
    if needed > (left := conditions.memory_left()):
        raise MemoryFault(f"calibration takes the image whole, {needed / 1e6:.0f} MB, and {left / 1e6:.0f} MB are "
                          "left; grant more by --max-memory, or give --no-calibration")
    y, own = affine.apply(picture), affine.apply(answer)
    where, inner = _probed(y.shape, conditions.uncertainty)
    field = None if noise is None else (noise / affine.scale)[where]
    probe = _ask_again(y[where], own[where], field, model, conditions)
    gains = _fitted(probe, inner)
    calibrated = affine.undo(_mixed(y, own, gains))
    if not conditions.uncertainty:
        return [calibrated]
    change = _mixed(probe.drawn, probe.change, gains)
    return [calibrated, affine.scale * standard_error(probe.drawn, change, gains, shells_of(y.shape, y.device))]


def _probed(space: Sequence[int], whole: bool) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The middle of `space` that is asked once more, and the part of it that is looked at."""
    where, inner = [], []
    for size in space:
        length = size if whole else min(size, PROBE[len(space)])
        start = (size - length) // 2 // 32 * 32  # on the pooling grid of any net
        margin = 0 if length == size else MARGIN[len(space)]
        where.append(slice(start, start + length))
        inner.append(slice(margin, length - margin))
    return tuple(where), tuple(inner)


def _ask_again(picture: Tensor, answer: Tensor, noise: Tensor | None, model: Model, conditions: Conditions) -> Probe:
    """The answer's change when noise like the picture's own is added to the `picture`."""
    measured = noise is not None
    if noise is None:
        shells = shells_of(picture.shape, picture.device)
        power, _ = noise_power(shells.means(cosine_transform(picture, picture.ndim) ** 2), shells)
        noise = from_cosine_transform(coloured_noise(power, shells, SEED), picture.ndim)
    noisier = torch.zeros_like(picture)
    estimate_into(noisier, [picture + STRENGTH * noise], [Affine()], model, conditions)
    return Probe(picture, answer, noise, (noisier - answer) / STRENGTH, measured)


def _fitted(probe: Probe, inner: tuple[slice, ...]) -> Gains:
    """The gains by the `inner` part of the probe."""
    fields = [getattr(probe, name)[inner] for name in ("picture", "answer", "drawn", "change")]
    picture, answer, drawn, change = (cosine_transform(field, field.ndim) for field in fields)
    shells = shells_of(picture.shape, picture.device)
    noise = noise_power(shells.means(picture**2), shells)
    if probe.measured:
        noise = shells.means(drawn**2), torch.full_like(noise[0], DOUBT_OF_HALVES)
    return fit_gains(picture, answer, drawn, change, noise, shells)


def _mixed(picture: Tensor, answer: Tensor, gains: Gains) -> Tensor:
    """g·D(y) + w·y of pictures (*space)."""
    axes = picture.ndim
    return from_cosine_transform(mixed(cosine_transform(picture, axes), cosine_transform(answer, axes), gains), axes)
