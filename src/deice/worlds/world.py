"""What a simulated world is made of: specimen, lens, detector, exposure."""

import difflib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from deice.errors import RecipeFault
from deice.ops.ctf import Optics
from deice.worlds.detector import Detector, detector_named


@dataclass(frozen=True)
class World:
    """Everything that is set about a set of pictures; what differs between them is drawn from their seeds.

    size: (y, x) in pixels.  pixel_size: Å.  dose: electrons counted per Å² over all frames.
    defocus: µm, range that each picture's is drawn from.  astigmatism: µm, largest.  optics: the rest of the lens.
    proteins: which family of procedural proteins; another number gives other proteins.
    map: a density map instead.  map_mass: kDa of its particle, estimated from its volume where not given.
    coverage: share of the area under particles.  crowding: 0 = they never overlap, 1 = they lie anywhere.
    ice_thickness: Å.  radiation_damage: fine detail fades from frame to frame.
    drift: Å that the picture moves from the first frame to the last, roughly.

    Signal/noise per pixel of the full average is not set: it follows from the potential of protein over that of
    ice (matter.py), the lens and the particles, and grows with dose, pixel area, coverage and defocus. By default it
    is 0.014 on average at 1.5 Å, 0.024 at 2 Å; a third more or less from picture to picture.
    Raises RecipeFault for an impossible value.
    """

    size: tuple[int, int] = (1024, 1024)
    pixel_size: float = 1.5
    dose: float = 40.0
    frames: int = 40
    defocus: tuple[float, float] = (0.7, 1.7)
    astigmatism: float = 0.02
    optics: Optics = field(default_factory=Optics)
    detector: Detector = field(default_factory=Detector)
    proteins: int = 0
    map: Path | None = None
    map_mass: float | None = None
    coverage: float = 0.08
    crowding: float = 0.2
    ice_thickness: float = 400.0
    radiation_damage: bool = True
    drift: float = 0.0

    def __post_init__(self) -> None:
        for name, value, ok, expected in [
            ("size", self.size, len(self.size) == 2 and min(self.size) >= 32, "two numbers of 32 pixels or more"),
            ("pixel size", self.pixel_size, 0.1 <= self.pixel_size <= 50, "0.1 to 50 Å"),
            ("dose", self.dose, 0 < self.dose <= 1e6, "above 0, at most 1000000 electrons/Å²"),
            ("frames", self.frames, self.frames >= 2, "2 or more, one for each half"),
            ("defocus", self.defocus, len(self.defocus) == 2 and -20 <= min(self.defocus) <= max(self.defocus) <= 20,
             "one or two numbers in µm, -20 to 20, positive under focus"),
            ("voltage", self.optics.kv, 10 <= self.optics.kv <= 3000, "10 to 3000 kV"),
            ("proteins", self.proteins, self.proteins >= 0, "0 or more"),
            ("mass of the map", self.map_mass, self.map_mass is None or self.map_mass > 0, "above 0 kDa"),
            ("coverage", self.coverage, 0 <= self.coverage <= 1, "0 to 1"),
            ("crowding", self.crowding, 0 <= self.crowding <= 1, "0 to 1"),
            ("ice thickness", self.ice_thickness, 0 <= self.ice_thickness <= 5000, "0 to 5000 Å"),
            ("drift", self.drift, 0 <= self.drift <= 200, "0 to 200 Å"),
        ]:  # fmt: skip
            if not ok:
                raise RecipeFault(f"{name} {value} is impossible; expected {expected}")

    @property
    def rate(self) -> float:
        """Electrons per pixel and frame, on average."""
        return self.dose * self.pixel_size**2 / self.frames


def world_of(world: World | None = None, **settings: Any) -> World:
    """`world` (the default one) with `settings`: fields of World, and kv, for short; sizes and ranges as one number
    or two, the detector by name.

    Raises RecipeFault for an unknown setting, naming the nearest known one, and for an impossible value.
    """
    world = world or World()
    known = [f.name for f in fields(World)] + ["kv"]
    for name in settings:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1, cutoff=0)[0]
            raise RecipeFault(f"setting {name!r} is unknown; did you mean {nearest!r}?")
    if "kv" in settings:
        settings["optics"] = replace(settings.get("optics", world.optics), kv=settings.pop("kv"))
    for name in ("size", "defocus"):
        if name in settings:
            settings[name] = _pair(settings[name])
    if isinstance(settings.get("detector"), str):
        settings["detector"] = detector_named(settings["detector"])
    if settings.get("map") is not None:
        settings["map"] = Path(settings["map"])
    return replace(world, **settings)


def _pair(value: Any) -> tuple:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return values * 2 if len(values) == 1 else values
