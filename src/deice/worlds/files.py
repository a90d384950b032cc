"""A set of simulated pictures, in memory or as files."""

from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from deice.errors import RecipeFault
from deice.image import Image
from deice.io import create, writable_folder, write
from deice.worlds.cell import kinds_of
from deice.worlds.exposure import Exposure
from deice.worlds.records import refuse_another_world, settings_of, write_json, write_rows
from deice.worlds.tomogram import Tomogram
from deice.worlds.tomogram_files import describe_tomogram, write_tomogram
from deice.worlds.tomogram_world import TomogramWorld
from deice.worlds.world import World, world_of

KINDS = ("micrographs", "movies", "tomograms")


def simulate(
    kind: str = "micrographs",
    n: int = 4,
    out: Path | str | None = None,
    seed: int = 0,
    world: World | TomogramWorld | None = None,
    **settings: Any,
) -> list[Exposure] | list[Tomogram]:
    """`n` simulated pictures with a known truth; with `out` also as files in that folder.

    kind: "micrographs" (averages and their halves), "movies" (raw frames and a gain reference) or "tomograms".
    settings: whatever differs from `world` (by default World() or TomogramWorld()): size, pixel_size, dose, …
    Each Exposure computes what it is asked for: .truth (y, x), .halves() (2, y, x), .movie() (t, y, x);
    each Tomogram .truth (z, y, x), .halves() (2, z, y, x), .density and .labels (z, y, x).
    Raises RecipeFault for an unknown or impossible setting, FileFault where files cannot be written.
    """
    world = world_of(world or default_world(kind), **settings)
    deque(exposures(kind, n, out, seed, world), maxlen=0)
    if isinstance(world, World):
        return [Exposure(world, seed, index) for index in range(n)]
    return [Tomogram(world, seed, index) for index in range(n)]


def default_world(kind: str) -> World | TomogramWorld:
    """What pictures of this kind are made of where nothing else is said; RecipeFault for a kind that is none."""
    if kind not in KINDS:
        raise RecipeFault(f"{kind!r} cannot be simulated; expected one of {', '.join(KINDS)}")
    return TomogramWorld() if kind == "tomograms" else World()


def exposures(
    kind: str, n: int, out: Path | str | None, seed: int, world: World | TomogramWorld
) -> Iterator[Exposure | Tomogram]:
    """The same one by one, each written under `out` (unless that is None) before it is yielded.

    Files of `out`: KIND/<stem>.mrc, truth/<stem>.mrc, halves/<stem>_EVN.mrc and _ODD.mrc, coordinates/<stem>.csv
    (pixels and RELION's angles), and world.json, with all that was set; for micrographs and movies truth_with_ice/;
    for movies gain.mrc (multiplies) and drift/<stem>.csv; for tomograms scene/, labels/<stem>.mrc, tilts/<stem>.tlt.
    Movies are raw: not yet multiplied by the gain, with defects.
    """
    if type(default_world(kind)) is not type(world):
        raise RecipeFault(f"a {type(world).__name__} has no {kind}; expected a {type(default_world(kind)).__name__}")
    if n < 1 or seed < 0:
        raise RecipeFault(f"n {n}, seed {seed}; expected n of 1 or more and seed of 0 or more")
    folder = None if out is None else Path(out)
    if folder is not None:
        # a map that cannot be read is found before anything is written
        _ = Exposure(world).scene.species if isinstance(world, World) else kinds_of(world)
        refuse_another_world(folder, kind, seed, world)
        writable_folder(folder)
    described = []
    for index in range(n):
        picture = Exposure(world, seed, index) if isinstance(world, World) else Tomogram(world, seed, index)
        if folder is not None:
            stem = f"{kind[:-1]}_{index + 1:04d}"
            if isinstance(picture, Exposure):
                _write_exposure(folder, kind, stem, picture)
            else:
                picture = write_tomogram(folder, stem, picture)
            described.append({"name": stem, **describe(picture)})
            write_json(folder / "world.json", settings_of(kind, seed, world) | {"pictures": described})
        yield picture


def describe(picture: Exposure | Tomogram) -> dict[str, Any]:
    """What was drawn for this picture: lens, number of particles, signal/noise; plain values for JSON."""
    if isinstance(picture, Tomogram):
        return describe_tomogram(picture)
    return {
        "particles": len(picture.scene.particles),
        "signal_to_noise": picture.signal_to_noise,
        "optics": asdict(picture.scene.optics),
    }


def _write_exposure(folder: Path, kind: str, stem: str, exposure: Exposure) -> None:
    geometry = exposure.geometry
    if kind == "movies" and exposure.index == 0:
        write(folder / "gain.mrc", exposure.camera.reference, geometry, label="simulated gain")
    write(folder / "truth" / f"{stem}.mrc", exposure.truth, geometry, label="simulated truth")
    write(folder / "truth_with_ice" / f"{stem}.mrc", exposure.truth_with_ice, geometry, label="truth and ice")
    write_rows(folder / "coordinates" / f"{stem}.csv", [asdict(p) for p in exposure.scene.particles],
                ["x", "y", "name", "rot", "tilt", "psi"])  # fmt: skip
    if kind == "movies":
        halves = _write_movie(folder / kind / f"{stem}.mrc", exposure)
        steps = [{"frame": t, "x": float(x), "y": float(y)} for t, (y, x) in enumerate(exposure.scene.drift)]
        write_rows(folder / "drift" / f"{stem}.csv", steps, ["frame", "x", "y"])
    else:
        halves = exposure.halves()
        write(folder / kind / f"{stem}.mrc", exposure.average(halves), label="simulated micrograph")
    for half, view in zip(("EVN", "ODD"), halves.views, strict=True):
        write(folder / "halves" / f"{stem}_{half}.mrc", view, geometry, label=f"simulated half {half}")


def _write_movie(path: Path, exposure: Exposure) -> Image:
    """The raw frames, written one by one; returns the halves (2, y, x) of the perfectly corrected ones.

    A counting camera's frames are small whole numbers, which float16 holds exactly in half the space.
    """
    world = exposure.world
    whole = world.detector.kind == "counting" and world.rate < 100
    sums = np.zeros((2, *world.size))
    shape = (world.frames, *world.size)
    with create(path, shape, exposure.geometry, float16=whole, label="simulated movie", axes="tyx") as stored:
        for number, (raw, corrected) in enumerate(exposure.frames()):
            stored[number] = raw
            sums[number % 2] += corrected
    counts = np.array([(world.frames + 1) // 2, world.frames // 2])
    return Image((sums / counts[:, None, None]).astype(np.float32), exposure.geometry)
