"""The scenes: simulated cells as tomograms at several signal/noise ratios, drawn once and kept with their truth.

DIR/data/scene_N.npz           truth, whole, density, labels
DIR/data/scene_N_snr_L.npz     even, odd: reconstructions of the even and of the odd frames of every tilt
"""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deice.bench.suite import write_json
from deice.bench.tomograms import CountedWorld
from deice.errors import RecipeFault
from deice.image import Geometry
from deice.ops.fourier import (
    conjugate_weight,
    frequency_radius,
    from_half_transform,
    half_transform,
    shell_frequencies,
    shell_sums,
)
from deice.ops.wedge import ends_of, measured, ramps
from deice.worlds import Tomogram, TomogramWorld


@dataclass(frozen=True, eq=False)
class Scene:
    """One tomogram at one level, tensors (z, y, x) float32.

    truth: noiseless, through the same tilts, lens and weights.  whole: the same with nothing missing.  density: the
    scene before any lens, matter dark.  labels: 1 is membrane.  tilt_range: degrees.
    """

    even: Tensor
    odd: Tensor
    truth: Tensor
    whole: Tensor
    density: Tensor
    labels: np.ndarray
    tilt_range: tuple[float, float]
    geometry: Geometry

    @property
    def average(self) -> Tensor:
        """Of all frames."""
        return (self.even + self.odd) / 2


@dataclass(frozen=True)
class Scenes:
    """So many tomograms of `size` (z, y, x) in `folder`. levels: signal/noise variance per voxel, of all frames."""

    folder: Path
    size: tuple[int, int, int]
    count: int
    levels: tuple[float, ...]
    seed: int = 0

    @property
    def world(self) -> TomogramWorld:
        """What they are drawn from, but for the proteins, which differ from scene to scene."""
        return TomogramWorld(size=self.size)

    def described(self) -> dict[str, Any]:
        """All that is set of them, as plain values."""
        settings = {key: value for key, value in asdict(self.world).items() if key != "proteins"}
        return json.loads(json.dumps({"seed": self.seed, "world": settings}, default=str))

    def refuse_others(self) -> None:
        """RecipeFault where the folder holds scenes of another size or seed; else the folder says what it holds."""
        path = self.folder / "scenes.json"
        if not path.exists():
            write_json(path, self.described())
        elif json.loads(path.read_text()) != self.described():
            raise RecipeFault(f"{path} describes other scenes; expected the same size and seed: choose another -o")

    def missing(self) -> list[tuple[int, float]]:
        """Scenes and levels that are not drawn yet."""
        wanted = [(index, level) for index in range(self.count) for level in self.levels]
        return [one for one in wanted if not self._noisy(*one).exists() or not self._noiseless(one[0]).exists()]

    def draw(self, index: int, level: float) -> None:
        """Draw one scene at one level and keep it."""
        world = replace(self.world, proteins=index)
        plain = Tomogram(world, self.seed, index)
        settings = {name: getattr(world, name) for name in world.__dataclass_fields__}
        counted = CountedWorld(**settings, factor=level / plain.signal_to_noise)
        even, odd = replace(plain, world=counted).halves().views
        if not self._noiseless(index).exists():
            truth, density = torch.from_numpy(plain.truth), torch.from_numpy(plain.density)
            whole = completed(truth, density, self.tilt_range)
            _save(self._noiseless(index), truth=plain.truth, whole=whole.numpy(), density=-plain.density,
                  labels=plain.labels)
        _save(self._noisy(index, level), even=even, odd=odd)

    def open(self, index: int, level: float) -> Scene:
        """A scene that was drawn."""
        with np.load(self._noiseless(index)) as kept, np.load(self._noisy(index, level)) as noisy:
            volumes = {name: torch.from_numpy(kept[name]).float() for name in ("truth", "whole", "density")}
            halves = {name: torch.from_numpy(noisy[name]).float() for name in ("even", "odd")}
            return Scene(**halves, **volumes, labels=kept["labels"], tilt_range=self.tilt_range, geometry=self.geometry)

    def labels(self, index: int) -> np.ndarray:
        """The labels (z, y, x) of a scene that was drawn."""
        with np.load(self._noiseless(index)) as kept:
            return kept["labels"]

    @property
    def geometry(self) -> Geometry:
        """Of every scene: its voxel size."""
        return Geometry().with_pixel_size(self.world.pixel_size)

    @property
    def tilt_range(self) -> tuple[float, float]:
        """First and last tilt, degrees."""
        return self.world.angles[0], self.world.angles[-1]

    def _noiseless(self, index: int) -> Path:
        return self.folder / f"scene_{index + 1}.npz"

    def _noisy(self, index: int, level: float) -> Path:
        return self.folder / f"scene_{index + 1}_snr_{level:g}.npz"


def known(shape: torch.Size, tilt_range: tuple[float, float]) -> Tensor:
    """1 where tilts of this range (degrees) measured a volume of `shape`, else 0: (z, y, half x)."""
    pair = torch.from_numpy(np.stack([ramp[...] for ramp in ramps(tilt_range, shape)]))
    return measured(ends_of(pair[None]), shape)[0, 0]


def completed(truth: Tensor, density: Tensor, tilt_range: tuple[float, float]) -> Tensor:
    """`truth` (z, y, x) with the missing wedge filled from the scene's `density` (z, y, x), seen through the same lens.

    The lens, the detector and the damage are a gain of |f| alone, fitted shell by shell where both are known.
    """
    weight = known(truth.shape, tilt_range).double()
    seen, scene = (half_transform(volume.double(), 3) for volume in (truth, density))
    sums = shell_sums(torch.stack([(seen * scene.conj()).real, scene.abs().square()]) * weight, truth.shape)
    gain = sums[0] / sums[1].clamp_min(torch.finfo(torch.float64).tiny)
    radius = frequency_radius(truth.shape, dtype=torch.float64)
    step = float(shell_frequencies(truth.shape)[1])
    at = (radius / step).clamp(max=len(gain) - 1)
    lower = at.floor().long()
    smooth = torch.lerp(gain[lower], gain[(lower + 1).clamp(max=len(gain) - 1)], at - lower)
    smooth = torch.where(radius <= 0.5, smooth, 0.0)
    return from_half_transform(weight * seen + (1 - weight) * smooth * scene, truth.shape).float()


def share_measured(shape: torch.Size, tilt_range: tuple[float, float]) -> float:
    """How much of Fourier space a range of tilts (degrees) measures."""
    weight = known(shape, tilt_range)
    twice = conjugate_weight(shape, weight)
    return float((weight * twice).sum() / (torch.ones_like(weight) * twice).sum())


def _save(path: Path, **volumes: Any) -> None:
    """Write arrays whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez(temporary, **volumes)
    os.replace(temporary, path)
