"""The micrograph suite: proteins in ice at a standard exposure, counted with more or fewer electrons.

A level is the variance of the truth (finer than 500 Å) over the noise variance of a pixel of the full average, and is
reached by the number of electrons that are counted. The particles of every level are those of one exposure of 40
electrons/Å², with its radiation damage, in electrons per pixel and frame of that exposure: so the truth is one for all
levels. The water moves with every electron that is counted (McMullan, Vinothkumar & Henderson 2015): the more there
are, the more of the structure of the ice averages out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from deice.bench.suite import Counted, Drawn, Extent, family, plain, scene_seed
from deice.errors import RecipeFault
from deice.worlds import Exposure, World, signal_to_noise
from deice.worlds.detector import record

SCENES_A_FAMILY = {"train": 10, "test": 2}
FAINTEST = 1e-4  # signal/noise of a standard exposure that shows anything
NOISE = 11  # the stream of random numbers of the counts


@dataclass(frozen=True)
class Micrographs:
    """The suite's world: the default exposure of `deice simulate micrographs`, other proteins every few scenes."""

    world: World = field(default_factory=World)
    axes: str | None = None
    knows_ice: bool = True

    def settings(self, extent: Extent) -> dict[str, Any]:
        """All that is set; proteins differ from scene to scene."""
        return plain(self._sized(extent), drop=("proteins",)) | {"scenes_a_family": SCENES_A_FAMILY}

    def draw(self, extent: Extent, part: str, index: int, levels: Sequence[float]) -> Drawn:
        """One scene at each level: halves of as many electrons each, in electrons per pixel of a standard frame."""
        proteins = family(extent, part, index, SCENES_A_FAMILY[part])
        seed = scene_seed(extent, part)
        exposure = Exposure(replace(self._sized(extent), proteins=proteins), seed, index)
        counted = {level: self._count(exposure, [seed, index, NOISE], level) for level in levels}
        return Drawn(exposure.truth, self._particles(exposure), exposure.geometry, counted)

    def _count(self, exposure: Exposure, seeds: list[int], level: float) -> Counted:
        world = exposure.world
        if exposure.signal_to_noise < FAINTEST:
            raise RecipeFault(f"scene {exposure.index + 1} of {world.size[1]} pixels shows no particle; expected "
                              "larger pictures: --size 512 or more")
        factor = level / exposure.signal_to_noise
        frames = factor * world.frames / 2  # standard frames' worth of electrons in each half
        state = np.random.SeedSequence([*seeds, round(level * 1e6)]).generate_state(1, np.uint64)
        rng = torch.Generator().manual_seed(int(state[0]) >> 1)
        with_ice = exposure.truth_with_ice_over(world.dose * factor)
        rate = torch.from_numpy(with_ice)
        even, odd = ((record(rate * frames, 1, world.detector, 1.0, rng) / frames).numpy() for _ in range(2))
        noise = float((even - odd).var(dtype=np.float64)) / 4
        measured = signal_to_noise(exposure.truth, noise, world.pixel_size)
        return Counted(even, odd, {"signal_to_noise": measured, "dose": world.dose * factor}, with_ice)

    def _particles(self, exposure: Exposure) -> list[dict[str, Any]]:
        radii = {body.name: body.radius for body in exposure.scene.species}
        return [{"x": f"{p.x:.3f}", "y": f"{p.y:.3f}", "name": p.name, "radius": f"{radii[p.name]:.2f}"}
                for p in exposure.scene.particles]

    def _sized(self, extent: Extent) -> World:
        return replace(self.world, size=(extent.size, extent.size))
