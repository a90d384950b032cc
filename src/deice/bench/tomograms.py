"""The tomogram suite: labelled cells, seen as tilt series and back-projected, counted with more or fewer electrons.

A level is the variance of the truth (finer than 500 Å) over the variance that counting leaves in a voxel of the full
reconstruction. As for micrographs, the scene of every level is that of the standard exposure, with its radiation
damage and its ice, and the level is reached by the number of electrons that are counted of it at each tilt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from deice.bench.suite import Counted, Drawn, Extent, family, plain, scene_seed
from deice.worlds import Tomogram, TomogramWorld

SCENES_A_FAMILY = {"train": 1, "test": 1}


@dataclass(frozen=True)
class CountedWorld(TomogramWorld):
    """A world of whose electrons `factor` times as many are counted, while the specimen suffers its dose."""

    factor: float = 1.0

    def counted(self, angle: float) -> float:
        """Electrons per pixel counted on average over all frames of the tilt `angle` (degrees)."""
        return self.factor * super().counted(angle)


@dataclass(frozen=True)
class Tomograms:
    """The suite's scenery: the default cell of `deice simulate tomograms`, other proteins in every scene."""

    world: TomogramWorld = field(default_factory=TomogramWorld)
    axes: str | None = "zyx"
    knows_ice: bool = False

    def settings(self, extent: Extent) -> dict[str, Any]:
        """All that is set; proteins differ from scene to scene."""
        return plain(self._sized(extent), drop=("proteins",)) | {"scenes_a_family": SCENES_A_FAMILY}

    def draw(self, extent: Extent, part: str, index: int, levels: Sequence[float]) -> Drawn:
        """One scene at each level: reconstructions of the even and of the odd frames, in V."""
        world = replace(self._sized(extent), proteins=family(extent, part, index, SCENES_A_FAMILY[part]))
        standard = Tomogram(world, scene_seed(extent, part), index)
        counted = {}
        for level in levels:
            factor = level / standard.signal_to_noise
            settings: dict[str, Any] = {f.name: getattr(world, f.name) for f in fields(world)}
            tomogram = replace(standard, world=CountedWorld(**settings, factor=factor))
            facts = {"signal_to_noise": tomogram.signal_to_noise, "dose": world.dose * factor}
            even, odd = tomogram.halves().views
            counted[level] = Counted(even, odd, facts)
        return Drawn(standard.truth, particles_of(standard), standard.geometry, counted)

    def _sized(self, extent: Extent) -> TomogramWorld:
        return replace(self.world, size=(extent.size // 2, extent.size, extent.size))


def particles_of(tomogram: Tomogram) -> list[dict[str, Any]]:
    """x, y, z in voxels, name and radius in Å of every particle; other proteins of the crowd are not to be picked."""
    rows = []
    for bodies in tomogram.cell.particles:
        for z, y, x in bodies.places / tomogram.world.pixel_size:
            rows.append({"x": f"{x:.3f}", "y": f"{y:.3f}", "z": f"{z:.3f}", "name": bodies.protein.name,
                         "radius": f"{bodies.protein.radius:.2f}"})
    return rows
