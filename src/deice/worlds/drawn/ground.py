"""What stays in place behind the particles of a drawn picture: slopes of light, uneven ice, the edge of the carbon."""

import math

import numpy as np
import torch
from torch import Tensor

from deice.ops.fourier import from_half_transform, half_transform
from deice.worlds.drawn.settings import Settings, log_uniform, sometimes


def draw_ground(count: int, rng: np.random.Generator) -> Settings:
    """Settings of the ground of `count` pictures, each (count,); strengths in standard deviations of the noise.

    slope: of light and thickness over the whole field.  grain: of a texture whose power falls as frequency to the
    `fall`, down to `coarsest` cycles per pixel, through the lens or (`seen` 0) not.  step: of the light at the carbon's
    edge, beyond which the texture is `rougher`; it lies at `away` of the field's size from its middle, bent to a circle
    of `hole` times that size, in the `direction`, radians.
    """
    edge = rng.random(count) < 0.12
    return {
        "slope": sometimes(rng, 0.4, 0.02, 0.5, count),
        "grain": np.where(edge, 1.0, rng.random(count) < 0.7) * log_uniform(rng, 0.02, 0.5, count),
        "fall": rng.uniform(0, 3, count),
        "coarsest": log_uniform(rng, 0.002, 0.05, count),
        "seen": (rng.random(count) < 0.7) * 1.0,
        "step": edge * rng.choice([-1.0, 1.0, 1.0], count) * log_uniform(rng, 0.1, 2.0, count),
        "rougher": np.where(edge, log_uniform(rng, 1, 6, count), 1.0),
        "away": rng.uniform(-0.25, 0.25, count),
        "hole": log_uniform(rng, 0.3, 5, count),
        "direction": rng.uniform(0, 2 * math.pi, count),
    }


def ground(of: dict[str, Tensor], gain: Tensor, radius: Tensor, generator: torch.Generator) -> Tensor:
    """(count, size, size) in standard deviations of the noise; `gain`: the lenses, (count, *half space)."""
    device, size = gain.device, gain.shape[1]
    white = torch.randn(len(gain), size, size, generator=generator, device=device)
    amplitude = torch.where(of["seen"] > 0, gain, 1.0) * (radius + of["coarsest"]) ** (-of["fall"] / 2)
    amplitude = amplitude / amplitude.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-6)
    texture = from_half_transform(half_transform(white, 2) * amplitude, (size, size))
    side = torch.linspace(-0.5, 0.5, size, device=device)
    y, x = side[:, None], side[None, :]
    centre = of["away"] + of["hole"]
    distance = torch.hypot(y - centre * of["direction"].sin(), x - centre * of["direction"].cos()) - of["hole"]
    carbon = torch.sigmoid(100 * distance) * (of["step"] != 0)
    grain = of["grain"] * (1 + (of["rougher"] - 1) * carbon) * texture
    return grain - of["step"] * carbon + _slopes(of["slope"], y, x, generator)


def _slopes(strength: Tensor, y: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
    """A tilted plane and one slow wave along each axis, of standard deviation `strength` (b, 1, 1)."""
    numbers = torch.randn(6, *strength.shape, generator=generator, device=strength.device)
    waves = numbers[2] * torch.cos(math.pi * y + 2 * numbers[3]) + numbers[4] * torch.cos(math.pi * x + 2 * numbers[5])
    field = math.pi * (numbers[0] * y + numbers[1] * x) + waves
    field = field - field.mean((1, 2), keepdim=True)
    return field * strength / field.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-6)
