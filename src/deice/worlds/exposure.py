"""One simulated exposure: the electrons counted from a scene, and the truth they were drawn from.

Grey values of truth, halves and averages are electrons per pixel and frame: a movie's mean over its frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.image import Geometry, Image
from deice.ops.fourier import filter_radially, from_half_transform, half_transform
from deice.worlds.detector import Camera, build_camera, noise_variance, record, transfer
from deice.worlds.scene import Scene
from deice.worlds.world import World

HALVES, MOVIE = 4, 5  # streams of random numbers beside those of the scene
LOWEST = 500.0  # Å: coarser than any particle, so not counted as signal


@dataclass(frozen=True)
class Exposure:
    """Picture number `index` of the set that `seed` begins; the same world, seed and index give the same picture.

    Nothing is computed before it is asked for.
    """

    world: World
    seed: int = 0
    index: int = 0

    @cached_property
    def scene(self) -> Scene:
        """What lies in front of the camera: particles, ice, lens, drift."""
        return Scene(self.world, self.seed, self.index)

    @cached_property
    def camera(self) -> Camera:
        """The one camera of the whole set."""
        return build_camera(self.world.detector, self.world.size, self.seed)

    @cached_property
    def truth(self) -> np.ndarray:
        """(y, x): the rate after the MTF of particles in perfectly smooth ice."""
        scene = self.scene
        return self._crop(self._rate(scene.signal * scene.mean_damage * self._mtf)).numpy()

    @cached_property
    def truth_with_ice(self) -> np.ndarray:
        """(y, x): the same with the structure of the ice: the picture without the noise of counting."""
        return self.truth_with_ice_over(self.world.dose)

    def truth_with_ice_over(self, dose: float) -> np.ndarray:
        """(y, x): the same with the ice as it stands over `dose` electrons/Å², whatever the particles have suffered."""
        spectrum = self.scene.signal * self.scene.mean_damage + self.scene.ice_over(dose)
        return self._crop(self._rate(spectrum * self._mtf)).numpy()

    @property
    def signal_to_noise(self) -> float:
        """Of the full average, per pixel: see the function of this name."""
        noise = noise_variance(self.world.detector, self.world.rate, self.world.frames)
        return signal_to_noise(self.truth, noise, self.world.pixel_size)

    @property
    def geometry(self) -> Geometry:
        """The pixel size, for headers."""
        return Geometry().with_pixel_size(self.world.pixel_size)

    def halves(self) -> Image:
        """(2, y, x): independent averages of the even and of the odd frames, motion-corrected, without defects."""
        rng, frames = self._generator(HALVES), self.world.frames
        rate = self._rate(self._mean_spectrum * self._before_detector)
        views = [self._record(rate, count, 1.0, rng) / count for count in ((frames + 1) // 2, frames // 2)]
        return Image(torch.stack(views).numpy(), self.geometry)

    def average(self, halves: Image) -> Image:
        """(1, y, x): the mean over all frames, from the means over the even and the odd ones."""
        frames = self.world.frames
        even, odd = halves.views
        full = (even * ((frames + 1) // 2) + odd * (frames // 2)) / frames
        return Image(full.astype(np.float32)[None], self.geometry)

    def movie(self) -> Image:
        """(t, y, x): the raw frames, in memory; times camera.reference they are pictures."""
        return Image(np.stack([raw for raw, _ in self.frames()]), self.geometry)

    def frames(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Frame by frame, each (y, x): as the camera wrote it, and as perfect correction would give it back.

        Raw: before the gain, with hot and dead pixels, moved by the drift. Corrected: after the gain, without the
        defects, moved back.
        """
        rng, scene, camera = self._generator(MOVIE), self.scene, self.camera
        gain, hot, dead = (torch.from_numpy(pixels) for pixels in (camera.gain, camera.hot, camera.dead))
        for number in range(self.world.frames):
            spectrum = scene.signal * scene.damage_in(number) + scene.ice
            if self.world.drift:
                spectrum = spectrum * _shift(scene.field, scene.drift[number])
            counts = self._record(self._rate(spectrum * self._before_detector), 1, 1 / gain, rng)
            raw = (counts + torch.poisson(hot, generator=rng)).masked_fill(dead, 0)
            corrected = counts * gain
            if self.world.drift:
                back = half_transform(corrected, 2) * _shift(self.world.size, -scene.drift[number])
                corrected = from_half_transform(back, self.world.size)
            yield raw.numpy(), corrected.numpy()

    @cached_property
    def _mean_spectrum(self) -> Tensor:
        return self.scene.signal * self.scene.mean_damage + self.scene.ice

    @cached_property
    def _mtf(self) -> Tensor:
        return transfer(self.world.detector, self.scene.field)

    @property
    def _before_detector(self) -> Tensor | float:
        """What blurs the rate itself: electrons that a counting detector misplaces."""
        return self._mtf if self.world.detector.kind == "counting" else 1.0

    def _rate(self, spectrum: Tensor) -> Tensor:
        """Electrons per pixel and frame over the field, of the half transform of relative intensity - 1."""
        relative = 1 + from_half_transform(spectrum, self.scene.field)
        if float(relative.min()) < 0:
            raise RecipeFault(
                f"the picture's contrast exceeds 1 ({float(1 - relative.min()):.2f}), where the weak-phase picture "
                "no longer holds; expected less matter: lower the coverage, crowding or defocus, or use a smaller map"
            )
        return self.world.rate * relative

    def _record(self, rate: Tensor, frames: int, sensitivity: Tensor | float, rng: torch.Generator) -> Tensor:
        """Electrons read in the sum of `frames` frames, (y, x), of their mean rate over the field."""
        detector = self.world.detector
        if detector.kind == "counting":
            return record(self._crop(rate) * frames, frames, detector, sensitivity, rng)
        # charge spreads into the picture from beyond its edge: draw on the whole field, then cut
        return self._crop(record(rate * frames, frames, detector, 1.0, rng)) * sensitivity

    def _crop(self, field: Tensor) -> Tensor:
        rows, columns = (slice(self.scene.margin, self.scene.margin + size) for size in self.world.size)
        return field[rows, columns].contiguous()

    def _generator(self, stream: int) -> torch.Generator:
        return generator(self.seed, self.index, stream)


def generator(*key: int) -> torch.Generator:
    """Random numbers of their own for every `key`."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)


def signal_to_noise(truth: np.ndarray, noise_variance: float, pixel_size: float) -> float:
    """Variance of the `truth` (*space) finer than 500 Å over the `noise_variance` of a pixel of the full average.

    pixel_size: Å. Slower variations (ice thickness, illumination) are not what particles look like.
    """
    centred = torch.from_numpy(truth - truth.mean())
    fine = filter_radially(centred, lambda frequency: (frequency >= pixel_size / LOWEST).float(), axes=truth.ndim)
    return float(fine.double().var() / noise_variance)


def _shift(shape: tuple[int, ...], by: np.ndarray) -> Tensor:
    """Phases that move a picture of `shape` by (y, x) pixels, on its half transform."""
    along_y = torch.fft.fftfreq(shape[0], dtype=torch.float64)[:, None] * float(by[0])
    along_x = torch.fft.rfftfreq(shape[1], dtype=torch.float64)[None, :] * float(by[1])
    return torch.exp(-2j * torch.pi * (along_y + along_x)).to(torch.complex64)
