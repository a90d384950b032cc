"""What a simulated world is made of: specimen, lens, detector, exposure."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from deice.errors import RecipeFault
from deice.ops.ctf import Optics
from deice.worlds.detector import Detector, detector_named

if TYPE_CHECKING:
    from deice.worlds.tomogram_world import TomogramWorld

Settings = TypeVar("Settings", bound="World | TomogramWorld")
Limit = tuple[str, Any, bool, str]  # name, value, whether it is possible, what would be


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
        refuse_impossible([
            ("size", self.size, len(self.size) == 2 and min(self.size) >= 32, "two numbers of 32 pixels or more"),
            *shared_limits(self),
            ("ice thickness", self.ice_thickness, 0 <= self.ice_thickness <= 5000, "0 to 5000 Å"),
            ("drift", self.drift, 0 <= self.drift <= 200, "0 to 200 Å"),
        ])  # fmt: skip

    @property
    def rate(self) -> float:
        """Electrons per pixel and frame, on average."""
        return self.dose * self.pixel_size**2 / self.frames

    @staticmethod
    def complete(settings: dict[str, Any]) -> None:
        """Bring values as a user writes them to this class's types: one size or two, a map's path."""
        if "size" in settings:
            settings["size"] = _pair(settings["size"])
        maps = settings.get("map")
        if isinstance(maps, (list, tuple)) and len(maps) != 1:
            raise RecipeFault(f"{len(maps)} maps for a picture; expected one: several go into tomograms only")
        if maps is not None:
            settings["map"] = Path(maps[0] if isinstance(maps, (list, tuple)) else maps)


def refuse_impossible(limits: Iterable[Limit]) -> None:
    """RecipeFault for the first value that its limit excludes."""
    for name, value, possible, expected in limits:
        if not possible:
            raise RecipeFault(f"{name} {value} is impossible; expected {expected}")


def shared_limits(world: "World | TomogramWorld") -> list[Limit]:
    """What holds for a world of any kind."""
    return [
        ("pixel size", world.pixel_size, 0.1 <= world.pixel_size <= 50, "0.1 to 50 Å"),
        ("dose", world.dose, 0 < world.dose <= 1e6, "above 0, at most 1000000 electrons/Å²"),
        ("frames", world.frames, world.frames >= 2, "2 or more, one for each half"),
        ("defocus", world.defocus, len(world.defocus) == 2 and -20 <= min(world.defocus) <= max(world.defocus) <= 20,
         "one or two numbers in µm, -20 to 20, positive under focus"),
        ("voltage", world.optics.kv, 10 <= world.optics.kv <= 3000, "10 to 3000 kV"),
        ("proteins", world.proteins, world.proteins >= 0, "0 or more"),
        ("mass of the map", world.map_mass, world.map_mass is None or world.map_mass > 0, "above 0 kDa"),
        ("coverage", world.coverage, 0 <= world.coverage <= 1, "0 to 1"),
        ("crowding", world.crowding, 0 <= world.crowding <= 1, "0 to 1"),
    ]  # fmt: skip


def world_of(world: Settings, **settings: Any) -> Settings:
    """`world` with `settings`: its fields, and kv, for short; sizes and ranges as one number or more, the detector by
    name.

    Raises RecipeFault for an unknown setting, naming the nearest known one, and for an impossible value.
    """
    known = [f.name for f in fields(world)] + ["kv"]
    for name in settings:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1, cutoff=0)[0]
            raise RecipeFault(f"setting {name!r} is unknown; did you mean {nearest!r}?")
    if "kv" in settings:
        settings["optics"] = replace(settings.get("optics", world.optics), kv=settings.pop("kv"))
    if "defocus" in settings:
        settings["defocus"] = _pair(settings["defocus"])
    if isinstance(settings.get("detector"), str):
        settings["detector"] = detector_named(settings["detector"])
    world.complete(settings)
    return replace(world, **settings)


def _pair(value: Any) -> tuple:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return values * 2 if len(values) == 1 else values
