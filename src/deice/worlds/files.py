"""A set of simulated pictures, in memory or as files."""

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from deice.errors import RecipeFault
from deice.image import Image
from deice.io import create, writable_folder, write
from deice.version import __version__
from deice.worlds.exposure import Exposure
from deice.worlds.world import World, world_of

KINDS = ("micrographs", "movies")


def simulate(
    kind: str = "micrographs",
    n: int = 4,
    out: Path | str | None = None,
    seed: int = 0,
    world: World | None = None,
    **settings: Any,
) -> list[Exposure]:
    """`n` simulated pictures with a known truth; with `out` also as files in that folder.

    kind: "micrographs" (averages and their halves) or "movies" (raw frames and a gain reference).
    settings: whatever differs from `world` (by default World()): size, pixel_size, dose, proteins, detector, …
    Each Exposure computes what it is asked for: .truth (y, x), .halves() (2, y, x), .movie() (t, y, x).
    Raises RecipeFault for an unknown or impossible setting, FileFault where files cannot be written.
    """
    world = world_of(world, **settings)
    for _ in exposures(kind, n, out, seed, world):
        pass
    return [Exposure(world, seed, index) for index in range(n)]


def exposures(kind: str, n: int, out: Path | str | None, seed: int, world: World) -> Iterator[Exposure]:
    """The same one by one, each written under `out` (unless that is None) before it is yielded.

    Files of `out`: KIND/<stem>.mrc, truth/, truth_with_ice/<stem>.mrc, halves/<stem>_EVN.mrc and _ODD.mrc,
    coordinates/<stem>.csv (pixels and RELION's angles), and world.json, with all that was set; for movies gain.mrc
    (multiplies) and drift/<stem>.csv. Movies are raw: not yet multiplied by the gain, with defects.
    """
    if kind not in KINDS:
        raise RecipeFault(f"{kind!r} cannot be simulated; expected one of {', '.join(KINDS)}")
    if n < 1 or seed < 0:
        raise RecipeFault(f"n {n}, seed {seed}; expected n of 1 or more and seed of 0 or more")
    folder = None if out is None else Path(out)
    if folder is not None:
        _ = Exposure(world).scene.species  # a map that cannot be read is found before anything is written
        _refuse_another_world(folder, kind, seed, world)
        writable_folder(folder)
    described = []
    for index in range(n):
        exposure = Exposure(world, seed, index)
        if folder is not None:
            stem = f"{kind[:-1]}_{index + 1:04d}"
            if kind == "movies" and index == 0:
                write(folder / "gain.mrc", exposure.camera.reference, exposure.geometry, label="simulated gain")
            _write_exposure(folder, kind, stem, exposure)
            described.append({"name": stem, **describe(exposure)})
            _write_json(folder / "world.json", _settings(kind, seed, world) | {"pictures": described})
        yield exposure


def describe(exposure: Exposure) -> dict[str, Any]:
    """What was drawn for this picture: lens, number of particles, signal/noise; plain values for JSON."""
    return {
        "particles": len(exposure.scene.particles),
        "signal_to_noise": exposure.signal_to_noise,
        "optics": asdict(exposure.scene.optics),
    }


def _write_exposure(folder: Path, kind: str, stem: str, exposure: Exposure) -> None:
    geometry = exposure.geometry
    write(folder / "truth" / f"{stem}.mrc", exposure.truth, geometry, label="simulated truth")
    write(folder / "truth_with_ice" / f"{stem}.mrc", exposure.truth_with_ice, geometry, label="truth and ice")
    _write_rows(folder / "coordinates" / f"{stem}.csv", [asdict(p) for p in exposure.scene.particles],
                ["x", "y", "name", "rot", "tilt", "psi"])  # fmt: skip
    if kind == "movies":
        halves = _write_movie(folder / kind / f"{stem}.mrc", exposure)
        steps = [{"frame": t, "x": float(x), "y": float(y)} for t, (y, x) in enumerate(exposure.scene.drift)]
        _write_rows(folder / "drift" / f"{stem}.csv", steps, ["frame", "x", "y"])
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


def _settings(kind: str, seed: int, world: World) -> dict[str, Any]:
    settings = asdict(world)
    settings["map"] = None if world.map is None else str(world.map)
    for drawn in ("defocus", "astigmatism", "astigmatism_angle"):
        del settings["optics"][drawn]  # each picture has its own
    return {"deice": __version__, "kind": kind, "seed": seed, "world": settings}


def _refuse_another_world(folder: Path, kind: str, seed: int, world: World) -> None:
    """Pictures of two worlds in one folder would be told apart by nobody."""
    path = folder / "world.json"
    if not path.exists():
        return
    wanted = json.loads(json.dumps(_settings(kind, seed, world)))
    try:
        found = json.loads(path.read_text())
    except ValueError:
        found = {}
    if any(found.get(key) != wanted[key] for key in ("kind", "seed", "world")):
        raise RecipeFault(f"{path} describes another world; expected the same settings: choose an empty folder")


def _write_rows(path: Path, rows: list[dict[str, Any]], columns: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.3f}" if isinstance(v, float) else v for k, v in row.items()})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)
