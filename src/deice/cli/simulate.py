"""deice simulate: micrographs, movies and tomograms with a known truth."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

Several = Parameter(consume_multiple=True, negative=())


def simulate(
    kind: Literal["micrographs", "movies", "tomograms"],
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    n: Annotated[int, Parameter(name=["--n", "-n"])] = 4,
    size: Annotated[list[int] | None, Several] = None,
    seed: int = 0,
    map: Annotated[list[Path] | None, Several] = None,
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
    tilt_range: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    fiducials: int | None = None,
    thickness: float | None = None,
    crowding: float | None = None,
    ctf: bool | None = None,
    json: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
) -> None:
    """Pictures with a known truth: proteins in ice, or a piece of a cell, seen through a lens, counted by electrons.

    Writes into the folders micrographs, movies (raw frames; gain.mrc multiplies) or tomograms, truth (noiseless,
    without the structure of the ice), halves (NAME_EVN.mrc, NAME_ODD.mrc), coordinates (csv); for pictures also
    truth_with_ice, for movies drift (csv), for tomograms scene (density before the lens), labels (of membranes,
    filaments, particles) and tilts; world.json holds all that was set. Grey values are electrons per pixel and frame;
    of tomograms V, dark where matter is.

    Example: deice simulate movies -o world --n 8 --size 1024 --dose 40 --frames 40

    Example: deice simulate tomograms -o cells --n 2 --size 128 256 256 --tilt-range -60,60,3

    Parameters
    ----------
    kind
        micrographs (averages and their halves), movies (raw frames), or tomograms.
    output
        Folder of the set; a folder that holds another world is refused.
    n
        How many.
    size
        Pixels: one number, or rows and columns; 1024. Tomograms: or depth, rows and columns; 128 256 256.
    seed
        The same seed gives the same pictures.
    map
        Density map (.mrc) of the particle, instead of procedural proteins; tomograms take several.
    map_mass
        kDa of that particle; estimated from the map's volume.
    proteins
        Which family of procedural proteins, 0 or more; other numbers give other proteins; 0.
    pixel_size
        Å; 1.5, of tomograms 10.
    dose
        Electrons counted per Å² over all frames; 40. Tomograms: that reach the sample over all tilts; 120.
    frames
        Frames per movie; 40. Tomograms: per tilt; 8.
    defocus
        µm under focus: one number, or the range each picture's is drawn from; 0.7 1.7, of tomograms 2.5 4.5.
    kv
        Acceleration voltage, kV; 300.
    detector
        counting, or integrating, whose noise is correlated between neighbouring pixels; counting.
    coverage
        Share of the area under particles; 0.08. Tomograms: of the volume in particles; 0.04.
    ice_thickness
        Å; 400 (pictures).
    drift
        Å that the picture moves during a movie; 0.
    tilt_range
        First tilt, last tilt and step in degrees about the y axis, -60,60,3 (tomograms).
    fiducials
        Gold beads of 10 nm; 0 (tomograms).
    thickness
        Å of the sample; 0.8 of the volume's depth (tomograms).
    crowding
        Pictures: 0 = particles never overlap, 1 = they lie anywhere; 0.2. Tomograms: share of the volume in small
        unlabelled proteins; 0.08.
    ctf
        --no-ctf = an ideal lens that shows all phase as contrast (tomograms).
    json
        Write lens, particles and signal/noise of each picture to this file; - for stdout.
    """
    from deice.cli.figures import write_json
    from deice.cli.progress import progress
    from deice.worlds import default_world, describe, exposures, world_of

    given: dict[str, Any] = {
        "size": size, "map": map, "map_mass": map_mass, "proteins": proteins, "pixel_size": pixel_size,
        "dose": dose, "frames": frames, "defocus": defocus, "kv": kv, "detector": detector, "coverage": coverage,
        "ice_thickness": ice_thickness, "drift": drift, "tilt_range": tilt_range, "fiducials": fiducials,
        "thickness": thickness, "crowding": crowding, "ctf": ctf,
    }  # fmt: skip
    world = world_of(default_world(kind), **{name: value for name, value in given.items() if value is not None})
    figures = []
    with progress(f"simulate {kind}", n, kind) as bar:
        for exposure in exposures(kind, n, output, seed, world):
            figures.append(describe(exposure))
            bar.advance(snr=figures[-1]["signal_to_noise"])
            del exposure  # a tomogram holds its tilt series: not two at a time
    write_json({"kind": kind, "seed": seed, "pictures": figures}, json)
