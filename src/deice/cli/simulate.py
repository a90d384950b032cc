"""deice simulate: micrographs and movies with a known truth."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

Several = Parameter(consume_multiple=True, negative=())


def simulate(
    kind: Literal["micrographs", "movies"],
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    n: Annotated[int, Parameter(name=["--n", "-n"])] = 4,
    size: Annotated[list[int] | None, Several] = None,
    seed: int = 0,
    map: Path | None = None,
    map_mass: float | None = None,
    proteins: int | None = None,
    pixel_size: float | None = None,
    dose: float | None = None,
    frames: int | None = None,
    defocus: Annotated[list[float] | None, Several] = None,
    kv: float | None = None,
    detector: Literal["counting", "integrating"] | None = None,
    coverage: float | None = None,
    ice_thickness: float | None = None,
    drift: float | None = None,
    json: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
) -> None:
    """Micrographs and movies with a known truth: proteins in ice, seen through a lens, counted electron by electron.

    Writes into the folders micrographs, or movies (raw frames; gain.mrc multiplies), truth (noiseless, without the
    structure of the ice), truth_with_ice, halves (NAME_EVN.mrc, NAME_ODD.mrc), coordinates (csv), for movies drift
    (csv), under the same names; world.json holds all that was set. Grey values are electrons per pixel and frame.

    Example: deice simulate movies -o world --n 8 --size 1024 --dose 40 --frames 40

    Parameters
    ----------
    kind
        micrographs (averages and their halves) or movies (raw frames).
    output
        Folder of the set; a folder that holds another world is refused.
    n
        How many.
    size
        Pixels: one number, or rows and columns; 1024.
    seed
        The same seed gives the same pictures.
    map
        Density map (.mrc) of the particle, instead of procedural proteins.
    map_mass
        kDa of that particle; estimated from the map's volume.
    proteins
        Which family of procedural proteins, 0 or more; other numbers give other proteins; 0.
    pixel_size
        Å; 1.5.
    dose
        Electrons counted per Å² over all frames; 40.
    frames
        Frames per movie; 40.
    defocus
        µm under focus: one number, or the range each picture's is drawn from; 0.7 1.7.
    kv
        Acceleration voltage, kV; 300.
    detector
        counting, or integrating, whose noise is correlated between neighbouring pixels; counting.
    coverage
        Share of the area under particles; 0.08.
    ice_thickness
        Å; 400.
    drift
        Å that the picture moves during a movie; 0.
    json
        Write lens, particles and signal/noise of each picture to this file; - for stdout.
    """
    from deice.cli.figures import write_json
    from deice.cli.progress import progress
    from deice.worlds import describe, exposures, world_of

    given: dict[str, Any] = {
        "size": size, "map": map, "map_mass": map_mass, "proteins": proteins, "pixel_size": pixel_size,
        "dose": dose, "frames": frames, "defocus": defocus, "kv": kv, "detector": detector, "coverage": coverage,
        "ice_thickness": ice_thickness, "drift": drift,
    }  # fmt: skip
    world = world_of(**{name: value for name, value in given.items() if value is not None})
    figures = []
    with progress(f"simulate {kind}", n, kind) as bar:
        for exposure in exposures(kind, n, output, seed, world):
            figures.append(describe(exposure))
            bar.advance(snr=figures[-1]["signal_to_noise"])
    write_json({"kind": kind, "seed": seed, "pictures": figures}, json)
