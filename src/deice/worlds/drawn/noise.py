"""Noise of drawn pictures: electrons, cameras, moving ice, and what programs do to a picture afterwards."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from deice.ops.fourier import half_transform
from deice.worlds.drawn.settings import Settings, log_uniform, one_of, sometimes, taken
from deice.worlds.matter import ice_structure_factor

FEW = 20.0  # electrons per pixel: with fewer they are counted one by one
COLOURS = ("white", "blurred", "dipped", "coarse")
HOW_OFTEN = (0.45, 0.2, 0.15, 0.2)


def draw_noise(count: int, rng: np.random.Generator) -> Settings:
    """Settings of the noise of `count` pictures, each (count,); colour: its place in COLOURS.

    mtf: what a camera leaves of an amplitude at Nyquist, `floor` of white noise besides.  dip, coarse: less or more
    noise at the lowest frequencies, below `bend` cycles per pixel.  ice: standard deviation of the moving ice's
    structure over that of the counting.  lines: of columns.  spots: share of pixels that count wrongly.
    low_pass, sharp: what is left of a filtered picture; high_pass: cycles per pixel.
    """
    return {
        "colour": one_of(rng, HOW_OFTEN, count),
        "mtf": rng.uniform(0.05, 0.9, count),
        "floor": rng.uniform(0.02, 0.5, count),
        "dip": rng.uniform(0.1, 0.7, count),
        "coarse": log_uniform(rng, 0.1, 4.0, count),
        "bend": log_uniform(rng, 0.01, 0.25, count),
        "ice": sometimes(rng, 0.6, 0.02, 0.6, count),
        "lines": sometimes(rng, 0.15, 0.01, 0.1, count),
        "spots": sometimes(rng, 0.2, 1e-6, 1e-4, count),
        "low_pass": sometimes(rng, 0.3, 0.15, 1.0, count),
        "low_steep": rng.choice([2.0, 2.0, 4.0, 16.0], count),
        "high_pass": sometimes(rng, 0.25, 0.002, 0.03, count),
    }


def counted(truth: Tensor, electrons: np.ndarray, generator: torch.Generator) -> Tensor:
    """Noise of electrons, of variance about 1, where the rate is `electrons` + √electrons · truth: (b, y, x)."""
    few = np.flatnonzero(electrons < FEW)
    mean = taken(electrons.astype(np.float32), truth.device)[:, None, None]
    rate = torch.maximum(mean + mean.sqrt() * truth, 0.02 * mean)
    noise = torch.randn(truth.shape, generator=generator, device=truth.device) * (rate / mean).sqrt()
    if len(few):
        index = taken(few, truth.device)
        drawn = torch.poisson(rate[index], generator=generator)
        noise[index] = (drawn - rate[index]) / mean[index].sqrt()
    return noise


def colours(of: dict[str, Tensor], radius: Tensor) -> Tensor:
    """Amplitude of the noise by frequency (cycles per pixel), (count, *half space), of mean square about 1."""
    kind = of["colour"]
    blurred = (of["mtf"] ** (8 * radius**2) + of["floor"] ** 2).sqrt()
    bell = torch.exp(-((radius / of["bend"]) ** 2))
    coarse = (1 + of["coarse"] / (1 + (radius / of["bend"]) ** 2)).sqrt()
    gain = torch.where(kind == 1, blurred, torch.where(kind == 2, (1 - of["dip"] * bell).sqrt(), 1.0))
    gain = torch.where(kind == 3, coarse, gain)
    return gain / gain.square().mean((1, 2), keepdim=True).sqrt()


def moving_ice(of: dict[str, Tensor], gain: Tensor, k: Tensor, generator: torch.Generator) -> Tensor:
    """Half transform of ice that no second exposure shows again, seen through the lens's `gain`, at `k` cycles/Å.

    Its variance is that of the settings, in units of the counting noise's.
    """
    rows, columns = gain.shape[1], 2 * (gain.shape[2] - 1)
    white = torch.randn(len(gain), rows, columns, generator=generator, device=gain.device)
    amplitude = gain * ice_structure_factor(k).sqrt()
    amplitude = amplitude / amplitude.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-6)
    return half_transform(white, 2) * amplitude * of["ice"]


def afterwards(of: dict[str, Tensor], radius: Tensor) -> Tensor:
    """What programs leave of picture and noise: interpolated, cropped, filtered; (count, *half space)."""
    filtered = torch.exp(-0.5 * (radius / of["low_pass"].clamp_min(1e-3)) ** of["low_steep"])
    gain = torch.where(of["low_pass"] > 0, filtered, 1.0)
    return gain * radius**2 / (radius**2 + of["high_pass"] ** 2 + 1e-12)


def defects(of: dict[str, Tensor], shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Columns and pixels that a camera's correction left, (count, y, x), in standard deviations of the noise."""
    device = generator.device
    lines = of["lines"] * torch.randn(shape[0], 1, shape[2], generator=generator, device=device)
    chance = torch.rand(tuple(shape), generator=generator, device=device)
    strength = 6 + 20 * (chance / of["spots"].clamp_min(1e-9)).clamp(max=1)
    return lines + torch.where(chance < of["spots"], strength, 0.0)

