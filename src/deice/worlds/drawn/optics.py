"""Lenses of drawn pictures: those of microscopes, and others, so that no one transfer function is learnt by heart.

A network that saw one microscope's optics alone puts that lens's halos around every particle it finds.
"""

import math

import numpy as np
import torch
from torch import Tensor

from deice.ops.ctf import electron_wavelength
from deice.worlds.drawn.ranges import log_uniform, one_of

Settings = dict[str, np.ndarray]

PIXEL = (0.5, 15.0)  # Å
DOSE = (1.0, 80.0)  # electrons/Å²
VOLTAGES = (80.0, 100.0, 120.0, 200.0, 300.0)  # kV
DEFOCUS = (0.3, 4.0)  # µm
AMPLITUDE_CONTRAST = (0.04, 0.2)
LENSES = ("microscope", "warped", "smooth", "none")
HOW_OFTEN = (0.55, 0.15, 0.2, 0.1)


def draw_optics(count: int, rng: np.random.Generator) -> Settings:
    """Settings of `count` lenses, each (count,), as `gains` wants them."""
    plate = rng.random(count) < 0.12
    return {
        "pixel": log_uniform(rng, *PIXEL, count),
        "kv": rng.choice(VOLTAGES, count),
        "cs": rng.choice([0.01, 1.2, 2.0, 2.7], count),
        "amplitude": rng.uniform(*AMPLITUDE_CONTRAST, count),
        "defocus": log_uniform(rng, *DEFOCUS, count) * np.where(rng.random(count) < 0.05, -1, 1),
        "astigmatism": rng.exponential(0.03, count),
        "astigmatism_angle": rng.uniform(0, math.pi, count),
        "phase": np.where(plate, rng.uniform(0, math.pi, count), 0.0),
        "b_factor": log_uniform(rng, 10, 500, count),
        "lens": one_of(rng, LENSES, HOW_OFTEN, count),
        "power": rng.uniform(1.2, 3.0, count),
        "first_zero": log_uniform(rng, 0.01, 0.5, count),
        "cut": log_uniform(rng, 0.05, 1.0, count),
        "steepness": rng.uniform(1, 4, count),
        "high_pass": np.where(rng.random(count) < 0.35, log_uniform(rng, 0.002, 0.05, count), 0.0),
        "boost": np.where(rng.random(count) < 0.2, log_uniform(rng, 0.005, 0.1, count), 0.0),
        "polarity": np.where(rng.random(count) < 0.3, -1.0, 1.0),
        "waves": rng.normal(0, 0.5, (count, 4)) * (rng.random(count) < 0.5)[:, None],
        "offsets": rng.uniform(0, 2 * math.pi, (count, 4)),
    }


def gains(settings: Settings, radius: Tensor, azimuth: Tensor) -> Tensor:
    """What each lens makes of the potential's transform: (count, *half space), real.

    radius: cycles per pixel.  azimuth: radians.  Dense is dark where the lens is that of a microscope, under focus.
    """
    of = {name: torch.from_numpy(np.asarray(value, dtype=np.float32)).to(radius.device)[:, None, None]
          for name, value in settings.items() if value.dtype.kind == "f" and value.ndim == 1}  # fmt: skip
    lens = torch.from_numpy(np.array([LENSES.index(name) for name in settings["lens"]])).to(radius.device)
    lens = lens[:, None, None]
    k = radius / of["pixel"]
    shift = of["phase"] + of["amplitude"].asin()
    warped = -torch.sin(math.pi * (radius / of["first_zero"]) ** of["power"] + shift)
    gain = torch.where(lens == 0, _microscope(of, settings, k, azimuth, shift), torch.where(lens == 1, warped, -1.0))
    physical = torch.exp(-of["b_factor"] * k**2 / 4)
    other = torch.exp(-((radius / of["cut"]) ** of["steepness"]))
    gain = gain * torch.where(lens == 0, physical, other)
    gain = gain * smooth_waves(settings, radius) ** torch.where(lens == 2, 2.0, torch.where(lens == 0, 0.3, 1.0))
    square = radius**2
    gain = gain * square / (square + of["high_pass"] ** 2 + 1e-12)
    gain = gain * (1 + of["boost"] / (radius + 0.004))
    return gain * of["polarity"]


def _microscope(of: dict[str, Tensor], settings: Settings, k: Tensor, azimuth: Tensor, shift: Tensor) -> Tensor:
    """-sin of the aberration (Rohou & Grigorieff 2015), at `k` cycles/Å."""
    lengths = np.array([electron_wavelength(kv) for kv in settings["kv"]], dtype=np.float32)
    wavelength = torch.from_numpy(lengths).to(k.device)[:, None, None]
    defocus = 1e4 * (of["defocus"] + of["astigmatism"] * torch.cos(2 * (azimuth - of["astigmatism_angle"])))
    chi = math.pi * wavelength * defocus * k**2 - 0.5 * math.pi * 1e7 * of["cs"] * wavelength**3 * k**4
    return -torch.sin(chi + shift)


def smooth_waves(settings: Settings, radius: Tensor) -> Tensor:
    """A smooth positive gain of the logarithm of the frequency, (count, *half space)."""
    waves, offsets = (torch.from_numpy(settings[name]).float().to(radius.device) for name in ("waves", "offsets"))
    place = ((radius + 0.004) / 0.004).log() / math.log(180)  # 0 at zero frequency, 1 in the corners
    exponent = torch.zeros_like(radius)
    for order in range(waves.shape[1]):
        wave = torch.cos(math.pi * (order + 1) * place + offsets[:, order, None, None])
        exponent = exponent + waves[:, order, None, None] * wave
    return exponent.exp()
