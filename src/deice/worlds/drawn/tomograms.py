"""Windows of tomograms that never were: noisy and true, projected and back-projected on the device from one key."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.ops.fourier import frequency_radius, from_half_transform, half_transform
from deice.worlds.drawn.bodies import build_bodies
from deice.worlds.drawn.cells import draw_contents, potential
from deice.worlds.drawn.noise import afterwards, colours, draw_noise
from deice.worlds.drawn.optics import draw_optics, gains
from deice.worlds.drawn.settings import Settings, as_tensors, log_uniform, sometimes
from deice.worlds.drawn.tilting import Series, draw_tilts, series_of
from deice.worlds.matter import damage, ice_structure_factor

PIXEL = (4.0, 20.0)  # Å
DEFOCUS = (1.0, 8.0)  # µm
DOSE = (40.0, 180.0)  # electrons/Å² over all tilts
SIGNAL_TO_NOISE = (0.005, 2.0)  # variance per voxel
FREE_PATH = (2500.0, 5000.0)  # Å
SMALLEST = 16  # voxels of a window
LARGER = 1.5  # the field that a window is cut from


@dataclass(frozen=True)
class Tomograms:
    """The world of tomograms; the tilt axis is y.

    proteins: how many different ones there are; how they lie is drawn anew all the time.  seed: of the bodies.
    """

    proteins: int = 60
    seed: int = 0
    axes: ClassVar[int] = 3
    together: ClassVar[int] = 8  # windows drawn from one key in training

    def draw(
        self, count: int, window: Sequence[int], key: Sequence[int], device: torch.device | str
    ) -> tuple[Tensor, Tensor, Settings]:
        """`count` windows: noisy (count, 1, *window), truth of the same shape, and what was drawn, each (count,).

        Both are normalised by the mean and the standard deviation of the noisy field that they are cut from, 1.5 times
        as wide. The truth is the noiseless scene through the same tilts, lens and weights: nothing is asked that no
        tilt has seen. key: the same whole numbers give the same windows on the same device.
        Raises RecipeFault for windows below 16 voxels.
        """
        if len(window) != 3 or min(window) < SMALLEST:
            raise RecipeFault(f"window is {list(window)}; expected three sizes of {SMALLEST} voxels or more")
        device = torch.device(device)
        depth, rows, length = (2 * round(LARGER * size / 2) for size in window)
        shape = (depth, rows, length)
        rng = np.random.default_rng(list(key))
        generator = torch.Generator(device).manual_seed(int(rng.integers(1 << 62)))
        bodies = build_bodies(self.proteins, self.seed, device)
        facts = draw_facts(count, rng)
        scene = potential(bodies, draw_contents(bodies, facts["pixel"], shape, rng), facts["pixel"], shape)
        truth, noise = reconstructed(scene, facts, generator)
        noisy = truth + noise
        mean, deviation = noisy.mean((1, 2, 3), keepdim=True), noisy.std((1, 2, 3), keepdim=True)
        corner = [int(rng.integers(whole - size + 1)) for whole, size in zip(shape, window, strict=True)]
        cut = (slice(None), *(slice(at, at + size) for at, size in zip(corner, window, strict=True)))
        noisy, truth = (((field - mean) / deviation)[cut] for field in (noisy, truth))
        return noisy[:, None], truth[:, None], facts


def draw_facts(count: int, rng: np.random.Generator) -> Settings:
    """All settings of `count` tomograms, each (count,).

    outwards: the tilts were taken from 0° on, else from one end.  flipped: the lens's phases were corrected.  ramp:
    power of |κ| in the weights.  free_path, thickness: Å; more electrons are lost in a tilted sample.
    """
    return {
        **draw_optics(count, rng), **draw_noise(count, rng), **draw_tilts(count, rng),
        "pixel": log_uniform(rng, *PIXEL, count),
        "defocus": log_uniform(rng, *DEFOCUS, count),
        "b_factor": log_uniform(rng, 50, 2000, count),
        "dose": sometimes(rng, 0.8, *DOSE, count),
        "outwards": (rng.random(count) < 0.7).astype(float),
        "flipped": (rng.random(count) < 0.5).astype(float),
        "ramp": np.where(rng.random(count) < 0.7, 1.0, rng.uniform(0.4, 1.0, count)),
        "free_path": rng.uniform(*FREE_PATH, count),
        "thickness": log_uniform(rng, 500, 3500, count),
        "snr": log_uniform(rng, *SIGNAL_TO_NOISE, count),
    }  # fmt: skip


def reconstructed(scene: Tensor, facts: Settings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Truth and noise (b, z, y, x) of `scene` (b, z, y, x) in V, the noise as strong as its ratio says."""
    series, of = series_of(facts, scene.shape[1:], scene.device), as_tensors(facts, scene.device)
    gain, lost = lens_of(series, of), spread_of(series, of)
    pictures = series.project(scene - scene.mean((1, 2, 3), keepdim=True)) * gain
    electrons = series.white(lost, generator) * colours(of, _flat(series.radius)).reshape(gain.shape)
    frozen = series.white(lost * of["ice"][:, 0], generator)
    electrons = electrons + frozen * gain * ice_structure_factor(series.radius / of["pixel"][..., None]).sqrt()
    after = afterwards(of, frequency_radius(scene.shape[1:], scene.device).flatten(1)[None])
    both = series.back_project(torch.stack([pictures, electrons]), of["ramp"][:, 0, 0])
    truth, noise = _filtered(both, after)
    signal, there = truth.var((1, 2, 3), keepdim=True), noise.var((1, 2, 3), keepdim=True)
    wanted = torch.where(signal > 0, signal / of["snr"][..., None], torch.ones_like(signal))
    return truth, noise * (wanted / there).sqrt()


def lens_of(series: Series, of: dict[str, Tensor]) -> Tensor:
    """What lens and damage leave of each picture's coefficients: (b, half x, y, t), real."""
    radius = series.radius
    gain = gains(of, _flat(radius), _flat(series.azimuth))
    gain = torch.where(of["flipped"] > 0, -gain.abs() * of["polarity"], gain).reshape(radius.shape)
    there = series.weights > 0
    outwards = torch.where(there, series.angles.abs(), 1e3).argsort(1).argsort(1)
    order = torch.where(of["outwards"][:, 0] > 0, outwards, torch.arange(there.shape[1], device=radius.device))
    before = of["dose"][:, 0] * order / there.sum(1, keepdim=True)
    return gain * damage(radius / of["pixel"][..., None], before[:, None, None])


def spread_of(series: Series, of: dict[str, Tensor]) -> Tensor:
    """Standard deviation of the noise of each picture, (b, t): fewer electrons pass a tilted sample."""
    cosine = torch.cos(torch.deg2rad(series.angles))
    path = (of["thickness"] / of["free_path"])[:, 0]
    return (cosine * torch.exp(path * (1 / cosine - 1))).sqrt()


def _filtered(volume: Tensor, gain: Tensor) -> Tensor:
    """`volume` (..., b, *shape) through `gain` (b, z, y · half x)."""
    spectrum = half_transform(volume, 3)
    return from_half_transform(spectrum * gain.reshape(spectrum.shape[-4:]), volume.shape[-3:])


def _flat(values: Tensor) -> Tensor:
    """(b, half x, y, t) → (b, half x · y, t), as functions of pictures want them."""
    return values.flatten(1, 2)
