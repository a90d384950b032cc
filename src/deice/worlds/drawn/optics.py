"""Lenses of drawn pictures: those of microscopes, and others, so that no one transfer function is learnt by heart.

A network that saw one microscope's optics alone puts that lens's halos around every particle it finds.
"""

import math

import numpy as np
import torch
from torch import Tensor

from deice.ops.ctf import electron_wavelength
from deice.worlds.drawn.settings import Settings, log_uniform, one_of, sometimes

PIXEL = (0.5, 15.0)  # Å
DOSE = (1.0, 80.0)  # electrons/Å²
VOLTAGES = (80.0, 100.0, 120.0, 200.0, 300.0)  # kV
DEFOCUS = (0.3, 4.0)  # µm
AMPLITUDE_CONTRAST = (0.04, 0.2)
LENSES = ("microscope", "warped", "smooth", "none")
HOW_OFTEN = (0.55, 0.15, 0.2, 0.1)
WAVES = 4  # of a smooth gain


def draw_optics(count: int, rng: np.random.Generator) -> Settings:
    """Settings of `count` lenses, each (count,), as `gains` wants them; lens: its place in LENSES."""
    plate, wavy = rng.random(count) < 0.12, rng.random(count) < 0.5
    kv = rng.choice(VOLTAGES, count)
    waves = {f"wave{order}": rng.normal(0, 0.5, count) * wavy for order in range(WAVES)}
    return waves | {f"offset{order}": rng.uniform(0, 2 * math.pi, count) for order in range(WAVES)} | {
        "pixel": log_uniform(rng, *PIXEL, count),
        "kv": kv,
        "wavelength": np.array([electron_wavelength(voltage) for voltage in kv]),
        "cs": rng.choice([0.01, 1.2, 2.0, 2.7], count),
        "amplitude": rng.uniform(*AMPLITUDE_CONTRAST, count),
        "defocus": log_uniform(rng, *DEFOCUS, count) * np.where(rng.random(count) < 0.05, -1, 1),
        "astigmatism": rng.exponential(0.03, count),
        "astigmatism_angle": rng.uniform(0, math.pi, count),
        "phase": np.where(plate, rng.uniform(0, math.pi, count), 0.0),
        "b_factor": log_uniform(rng, 10, 500, count),
        "lens": one_of(rng, HOW_OFTEN, count),
        "power": rng.uniform(1.2, 3.0, count),
        "first_zero": log_uniform(rng, 0.01, 0.5, count),
        "cut": log_uniform(rng, 0.05, 1.0, count),
        "steepness": rng.uniform(1, 4, count),
        "dim": sometimes(rng, 0.35, 0.002, 0.05, count),
        "boost": sometimes(rng, 0.2, 0.005, 0.1, count),
        "polarity": np.where(rng.random(count) < 0.3, -1.0, 1.0),
    }


def gains(of: dict[str, Tensor], radius: Tensor, azimuth: Tensor) -> Tensor:
    """What each lens makes of the potential's transform: (count, *half space), real.

    of: the settings on the device, each (count, 1, 1).  radius: cycles per pixel.  azimuth: radians.
    Dense is dark where the lens is that of a microscope, under focus.
    """
    lens = of["lens"]
    k = radius / of["pixel"]
    shift = of["phase"] + of["amplitude"].asin()
    warped = -torch.sin(math.pi * (radius / of["first_zero"]) ** of["power"] + shift)
    gain = torch.where(lens == 0, _microscope(of, k, azimuth, shift), torch.where(lens == 1, warped, -1.0))
    physical = torch.exp(-of["b_factor"] * k**2 / 4)
    other = torch.exp(-((radius / of["cut"]) ** of["steepness"]))
    gain = gain * torch.where(lens == 0, physical, other)
    gain = gain * smooth_waves(of, radius) ** torch.where(lens == 2, 2.0, torch.where(lens == 0, 0.3, 1.0))
    square = radius**2
    gain = gain * square / (square + of["dim"] ** 2 + 1e-12)
    gain = gain * (1 + of["boost"] / (radius + 0.004))
    return gain * of["polarity"]


def _microscope(of: dict[str, Tensor], k: Tensor, azimuth: Tensor, shift: Tensor) -> Tensor:
    """-sin of the aberration (Rohou & Grigorieff 2015), at `k` cycles/Å."""
    wavelength = of["wavelength"]
    defocus = 1e4 * (of["defocus"] + of["astigmatism"] * torch.cos(2 * (azimuth - of["astigmatism_angle"])))
    chi = math.pi * wavelength * defocus * k**2 - 0.5 * math.pi * 1e7 * of["cs"] * wavelength**3 * k**4
    return -torch.sin(chi + shift)


def smooth_waves(of: dict[str, Tensor], radius: Tensor) -> Tensor:
    """A smooth positive gain of the logarithm of the frequency, (count, *half space)."""
    place = ((radius + 0.004) / 0.004).log() / math.log(180)  # 0 at zero frequency, 1 in the corners
    exponent = torch.zeros_like(radius)
    for order in range(WAVES):
        wave = torch.cos(math.pi * (order + 1) * place + of[f"offset{order}"])
        exponent = exponent + of[f"wave{order}"] * wave
    return exponent.exp()
