"""Windows of pictures that never were: noisy and true, drawn on the device from one key."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

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
from deice.worlds.drawn.settings import Settings, as_tensors, log_uniform

SIGNAL_TO_NOISE = (1e-3, 2.0)  # variance where there is matter, over the noise's
CONTRAST = 0.9  # largest change of the number of electrons
SMALLEST = 16  # pixels of a window


@dataclass(frozen=True, eq=False)
class Scene:
    """What lies under the noise of some pictures, in standard deviations of the counting noise.

    truth: (b, size, size).  gain: of the lenses, (b, *half space).  radius: cycles per pixel, (*half space).
    facts: what was drawn, each (b,); `of`: the same on the device, each (b, 1, 1).
    """

    truth: Tensor
    gain: Tensor
    radius: Tensor
    facts: Settings
    of: dict[str, Tensor]


@dataclass(frozen=True)
class Pictures:
    """The world of micrographs: what no two microscopes share is drawn, and more than microscopes can do.

    proteins: how many different ones there are; their views are drawn anew all the time.  seed: of the bodies.
    """

    proteins: int = 48
    seed: int = 0
    axes: ClassVar[int] = 2
    together: ClassVar[int] = 32  # windows drawn from one key in training

    def draw(
        self, count: int, window: Sequence[int], key: Sequence[int], device: torch.device | str
    ) -> tuple[Tensor, Tensor, Settings]:
        """`count` windows: noisy (count, 1, *window), truth of the same shape, and what was drawn, each (count,).

        Both are normalised by the mean and the standard deviation of the noisy field, half as wide again as the window,
        that they are cut from. The truth is what a second exposure would share, through lens and camera: particles and
        background, without the ice that moves. key: the same whole numbers give the same windows on the same device.
        Raises RecipeFault for windows below 16 pixels.
        """
        if len(window) != 2 or min(window) < SMALLEST:
            raise RecipeFault(f"window is {list(window)}; expected two sizes of {SMALLEST} pixels or more")
        device, size = torch.device(device), 2 * -(-3 * max(window) // 4)
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
    device = bodies.sites.device
    facts = draw_optics(count, rng) | draw_noise(count, rng) | draw_ground(count, rng)
    content = draw_content(bodies, facts["pixel"], size, rng)
    expected = 0.04 * (facts["pixel"] / 1.5) ** 1.3
    facts["snr"] = np.clip(expected * np.exp(rng.uniform(-2, 2, count)), *SIGNAL_TO_NOISE)
    facts["share"] = np.clip(content.coverage, 0.03, 1.0)
    facts["dose"] = log_uniform(rng, *DOSE, count)
    facts["electrons"] = facts["dose"] * facts["pixel"] ** 2
    of = as_tensors(facts, device)
    radius, azimuth = _frequencies(size, device)
    gain = gains(of, radius, azimuth)
    truth = ground(of, gain, radius, generator)
    if len(content.bodies):
        views = draw_views(bodies, content.bodies, content.blur, generator)
        truth = truth + _seen(paste(views, content.copies, count, size), gain, of)
    most = CONTRAST * of["electrons"].sqrt()
    return Scene(truth.clamp(-most, 3 * most), gain, radius, facts, of)


def _seen(matter: Tensor, gain: Tensor, of: dict[str, Tensor]) -> Tensor:
    """What `matter` (b, size, size) does to the picture, at the signal-to-noise ratio that is drawn."""
    spectrum = half_transform(matter, 2) * gain
    spectrum[:, 0, 0] = 0
    signal = from_half_transform(spectrum, matter.shape[1:])
    # of the mean magnitude, which a few dense bodies change less than the variance
    local = signal.abs().mean((1, 2), keepdim=True) / of["share"].sqrt() * math.sqrt(math.pi / 2)
    return signal * of["snr"].sqrt() / local.clamp_min(1e-9)


def exposed(scene: Scene, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One exposure of each scene and its truth, (count, size, size), in standard deviations of the counting noise.

    Another state of the generator gives another exposure of the same scenes.
    """
    of, radius, truth = scene.of, scene.radius, scene.truth
    noise = half_transform(counted(truth, scene.facts["electrons"], generator), 2) * colours(of, radius)
    noise = noise + moving_ice(of, scene.gain, radius / of["pixel"], generator)
    noise = noise + half_transform(defects(of, truth.shape, generator), 2)
    after, seen = afterwards(of, radius), half_transform(truth, 2)
    shape = truth.shape[1:]
    return from_half_transform((seen + noise) * after, shape), from_half_transform(seen * after, shape)


def _frequencies(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Radius in cycles per pixel and azimuth in radians of a half transform of (size, size)."""
    along_y = torch.fft.fftfreq(size, device=device)[:, None]
    along_x = torch.fft.rfftfreq(size, device=device)[None, :]
    return frequency_radius((size, size), device), torch.atan2(along_y, along_x.expand(size, -1))
