"""Windows of pictures that never were: noisy and true, drawn on the device from one key."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.ops.fourier import frequency_radius, from_half_transform, half_transform
from deice.worlds.drawn.bodies import Bodies, build_bodies
from deice.worlds.drawn.content import draw_content
from deice.worlds.drawn.ground import draw_ground, ground
from deice.worlds.drawn.noise import afterwards, colours, counted, defects, draw_noise, moving_ice
from deice.worlds.drawn.optics import DOSE, draw_optics, gains
from deice.worlds.drawn.pasting import draw_views, paste
from deice.worlds.drawn.ranges import log_uniform

SIGNAL_TO_NOISE = (1e-3, 2.0)  # variance where there is matter, over the noise's
CONTRAST = 0.9  # largest change of the number of electrons
SMALLEST = 16  # pixels of a window


@dataclass(frozen=True, eq=False)
class Scene:
    """What lies under the noise of some pictures, in standard deviations of the counting noise.

    truth: (b, size, size).  gain: of the lenses, (b, *half space).  radius: cycles per pixel, (*half space).
    facts: what was drawn, each (b,) or (b, n).
    """

    truth: Tensor
    gain: Tensor
    radius: Tensor
    facts: dict[str, Any]


@dataclass(frozen=True)
class Pictures:
    """The world of micrographs: what no two microscopes share is drawn, and more than microscopes can do.

    proteins: how many different ones there are; their views are drawn anew all the time.  seed: of the bodies.
    """

    proteins: int = 60
    seed: int = 0
    axes: ClassVar[int] = 2

    def draw(
        self, count: int, window: Sequence[int], key: Sequence[int], device: torch.device | str
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """`count` windows: noisy (count, 1, *window), truth of the same shape, and what was drawn, each (count,).

        Both are normalised by the mean and the standard deviation of the noisy field, twice as wide as the window,
        that they are cut from. The truth is what a second exposure would share, through lens and camera: particles and
        background, without the ice that moves. key: the same whole numbers give the same windows on the same device.
        Raises RecipeFault for windows below 16 pixels.
        """
        if len(window) != 2 or min(window) < SMALLEST:
            raise RecipeFault(f"window is {list(window)}; expected two sizes of {SMALLEST} pixels or more")
        device, size = torch.device(device), 2 * (max(window) + max(window) % 2)
        rng = np.random.default_rng(list(key))
        generator = torch.Generator(device).manual_seed(int(rng.integers(1 << 62)))
        bodies = build_bodies(self.proteins, self.seed, device)
        scene = draw_scene(bodies, count, size, rng, generator)
        noisy, truth = exposed(scene, generator)
        mean, deviation = noisy.mean((1, 2), keepdim=True), noisy.std((1, 2), keepdim=True)
        rows, columns = (slice((size - w) // 2, (size - w) // 2 + w) for w in window)
        noisy, truth = ((field[:, rows, columns] - mean) / deviation for field in (noisy, truth))
        return noisy[:, None], truth[:, None], scene.facts


def draw_scene(bodies: Bodies, count: int, size: int, rng: np.random.Generator, generator: torch.Generator) -> Scene:
    """`count` scenes of `size`² pixels; `generator` lives where the bodies do."""
    optics, noise, behind = draw_optics(count, rng), draw_noise(count, rng), draw_ground(count, rng)
    electrons = log_uniform(rng, *DOSE, count) * optics["pixel"] ** 2
    radius, azimuth = _frequencies(size, bodies.sites.device)
    gain = gains(optics, radius, azimuth)
    signal, snr = _signal(bodies, optics["pixel"], gain, size, rng, generator)
    truth = signal + ground(behind, gain, radius, generator)
    most = torch.from_numpy(CONTRAST * np.sqrt(electrons)).float().to(truth.device)[:, None, None]
    facts = {**optics, **noise, **behind, "dose": electrons / optics["pixel"] ** 2, "electrons": electrons, "snr": snr}
    return Scene(truth.clamp(-most, 3 * most), gain, radius, facts)


def exposed(scene: Scene, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One exposure of each scene and its truth, (count, size, size), in standard deviations of the counting noise.

    Another state of the generator gives another exposure of the same scenes.
    """
    facts, radius, truth = scene.facts, scene.radius, scene.truth
    pixel = torch.from_numpy(facts["pixel"]).float().to(truth.device)[:, None, None]
    noise = half_transform(counted(truth, facts["electrons"], generator), 2) * colours(facts, radius)
    noise = noise + moving_ice(facts, scene.gain, radius / pixel, generator)
    noise = noise + half_transform(defects(facts, tuple(truth.shape), generator, truth.device), 2)
    after, seen = afterwards(facts, radius), half_transform(truth, 2)
    shape = truth.shape[1:]
    return from_half_transform((seen + noise) * after, shape), from_half_transform(seen * after, shape)


def _signal(
    bodies: Bodies, pixels: np.ndarray, gain: Tensor, size: int, rng: np.random.Generator, generator: torch.Generator
) -> tuple[Tensor, np.ndarray]:
    """What the bodies do to the picture, (b, size, size), at the signal-to-noise ratio (b,) that is drawn for each."""
    content = draw_content(bodies, pixels, size, rng)
    expected = 0.03 * (pixels / 1.5) ** 1.3
    snr = np.clip(expected * np.exp(rng.uniform(-2.0, 2.0, len(pixels))), *SIGNAL_TO_NOISE)
    if not len(content.bodies):
        return torch.zeros(len(pixels), size, size, device=gain.device), snr
    views = draw_views(bodies, content.bodies, content.blur, generator)
    matter = paste(views, content.copies, len(pixels), size)
    spectrum = half_transform(matter, 2) * gain
    spectrum[:, 0, 0] = 0
    signal = from_half_transform(spectrum, (size, size))
    share = torch.from_numpy(np.clip(content.coverage, 0.03, 1.0)).float().to(gain.device)[:, None, None]
    # of the mean magnitude, which a few dense bodies change less than the variance
    local = signal.abs().mean((1, 2), keepdim=True) / share.sqrt() * math.sqrt(math.pi / 2)
    wanted = torch.from_numpy(np.sqrt(snr)).float().to(gain.device)[:, None, None]
    return signal * wanted / local.clamp_min(1e-9), snr


def _frequencies(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Radius in cycles per pixel and azimuth in radians of a half transform of (size, size)."""
    along_y = torch.fft.fftfreq(size, device=device)[:, None]
    along_x = torch.fft.rfftfreq(size, device=device)[None, :]
    return frequency_radius((size, size), device), torch.atan2(along_y, along_x.expand(size, -1))
