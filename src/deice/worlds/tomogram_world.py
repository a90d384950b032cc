"""What a simulated tomogram is made of: cell, tilt series, lens, detector."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deice.errors import RecipeFault
from deice.ops.ctf import Optics
from deice.worlds.detector import Detector
from deice.worlds.world import refuse_impossible, shared_limits

STEEPEST = 80.0  # degrees
MEAN_FREE_PATH = 3950.0  # Å, inelastic, vitreous ice, 300 kV, through an energy filter (Rice et al. 2018)


@dataclass(frozen=True)
class TomogramWorld:
    """Everything that is set about a set of tomograms; what differs between them is drawn from their seeds.

    size: (z, y, x) in voxels.  pixel_size: Å.  tilt_range: first, last and step of the tilts in degrees; the tilt axis
    is y.  dose: electrons/Å² that reach the specimen over all tilts, split evenly.  frames: of each tilt; the even and
    the odd ones make the halves.
    thickness: Å of the sample, by default 0.8 of the volume's depth.  mean_free_path: Å; the share
    exp(-thickness / (mean_free_path · cos tilt)) of the electrons is counted, the rest filtered out.
    defocus: µm, range that each tomogram's is drawn from.  ctf: False = an ideal lens, where phase is absorption.
    optics: the rest of the lens.  binning: the camera's own pixels along a pixel of the tilt series.
    proteins: which family of procedural proteins; another number gives others.  map: density maps instead, one per
    kind of particle.  map_mass: kDa, of a lone map.
    coverage: share of the sample's volume in particles.  crowding: the same in small proteins without a label, the
    cytosol.  vesicles, sheets, actin, microtubules: how many per µm² of the tomogram.  fiducials: gold beads of 10 nm.
    ice: the structure of the ice is in the pictures (never in the truth).  radiation_damage: fine detail fades from
    tilt to tilt, in the order in which they are taken: from 0° outwards to both sides (Hagen, Wan & Briggs 2017).
    Raises RecipeFault for an impossible value.
    """

    size: tuple[int, int, int] = (128, 256, 256)
    pixel_size: float = 10.0
    tilt_range: tuple[float, float, float] = (-60.0, 60.0, 3.0)
    dose: float = 120.0
    frames: int = 8
    thickness: float | None = None
    mean_free_path: float = MEAN_FREE_PATH
    defocus: tuple[float, float] = (2.5, 4.5)
    ctf: bool = True
    optics: Optics = field(default_factory=lambda: Optics(b_factor=300.0))
    detector: Detector = field(default_factory=Detector)
    binning: int = 4
    proteins: int = 0
    map: tuple[Path, ...] = ()
    map_mass: float | None = None
    coverage: float = 0.04
    crowding: float = 0.08
    vesicles: float = 75.0
    sheets: float = 15.0
    actin: float = 60.0
    microtubules: float = 15.0
    fiducials: int = 0
    ice: bool = True
    radiation_damage: bool = True

    def __post_init__(self) -> None:
        steep = all(abs(angle) <= STEEPEST for angle in self.tilt_range[:2])
        growing = len(self.tilt_range) == 3 and self.tilt_range[0] < self.tilt_range[1] and self.tilt_range[2] >= 0.1
        counts = [(n, getattr(self, n)) for n in ("vesicles", "sheets", "actin", "microtubules")]
        refuse_impossible([
            ("size", self.size, len(self.size) == 3 and min(self.size) >= 16,
             "one number, or depth, rows and columns of 16 voxels or more"),
            *shared_limits(self),
            ("tilt range", self.tilt_range, growing and steep and len(self.angles) >= 3,
             "first, last and step in degrees, within ±80, a step of 0.1 or more, three tilts or more"),
            ("thickness", self.thickness, 0 < self.sample <= self.depth,
             f"above 0, at most the volume's depth of {self.depth:.0f} Å"),
            ("mean free path", self.mean_free_path, self.mean_free_path > 0, "above 0 Å"),
            ("binning", self.binning, 1 <= self.binning <= 64, "1 to 64"),
            ("mass of the map", self.map_mass, self.map_mass is None or len(self.map) == 1, "one map to go with it"),
            ("coverage and crowding", self.coverage + self.crowding, self.coverage + self.crowding <= 0.5,
             "at most 0.5 together"),
            *((name, n, 0 <= n <= 10_000, "0 to 10000 per µm²") for name, n in counts),
            ("fiducials", self.fiducials, 0 <= self.fiducials <= 10_000, "0 to 10000"),
        ])  # fmt: skip

    @property
    def angles(self) -> tuple[float, ...]:
        """Tilts in degrees, growing."""
        first, last, step = self.tilt_range
        return tuple(first + step * n for n in range(math.floor((last - first) / step + 1e-6) + 1))

    @property
    def taken(self) -> list[int]:
        """Numbers of the tilts in the order in which they are taken."""
        return sorted(range(len(self.angles)), key=lambda n: (abs(self.angles[n]), self.angles[n]))

    @property
    def depth(self) -> float:
        """Å of the volume along z."""
        return self.size[0] * self.pixel_size

    @property
    def sample(self) -> float:
        """Thickness of the sample, Å."""
        return 0.8 * self.depth if self.thickness is None else self.thickness

    @property
    def area(self) -> float:
        """µm² of the tomogram seen from above."""
        return self.size[1] * self.size[2] * self.pixel_size**2 * 1e-8

    def counted(self, angle: float) -> float:
        """Electrons per pixel counted on average over all frames of the tilt `angle` (degrees)."""
        path = self.sample / math.cos(math.radians(angle))
        return self.dose / len(self.angles) * self.pixel_size**2 * math.exp(-path / self.mean_free_path)

    @staticmethod
    def complete(settings: dict[str, Any]) -> None:
        """Bring values as a user writes them to this class's types: one size for a volume half as deep, lone maps."""
        size = settings.get("size")
        if size is not None:
            size = (size,) if isinstance(size, int) else tuple(size)
            settings["size"] = (size[0] // 2, *size * 2) if len(size) == 1 else size
        if "tilt_range" in settings:
            settings["tilt_range"] = _tilt_range(settings["tilt_range"])
        if "map" in settings:
            maps = settings["map"] or ()
            settings["map"] = tuple(Path(path) for path in ([maps] if isinstance(maps, (str, Path)) else maps))


def _tilt_range(value: Any) -> tuple[float, ...]:
    """first, last and step of "A,B,STEP" or of numbers; RecipeFault for what is neither."""
    try:
        return tuple(float(number) for number in (value.split(",") if isinstance(value, str) else value))
    except (TypeError, ValueError):
        raise RecipeFault(f"tilt range {value!r} is none; expected first, last and step in degrees: -60,60,3") from None
