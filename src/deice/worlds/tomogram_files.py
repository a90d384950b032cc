"""A simulated tomogram as files: a few rows of y at a time, each file whole or not at all."""

from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from deice.io import create
from deice.worlds.poses import euler_angles
from deice.worlds.records import write_rows
from deice.worlds.tomogram import Tomogram
from deice.worlds.voxels import Block, blocks_of

COLUMNS = ["x", "y", "z", "kind", "rot", "tilt", "psi"]


def write_tomogram(folder: Path, stem: str, tomogram: Tomogram) -> Tomogram:
    """Every file of `tomogram` (see `exposures`); returns it with its series, ready to be described.

    Memory: the series and some blocks, whatever the depth: 1.3 GB for 256 × 1024 × 1024 voxels and 41 tilts.
    """
    shape = tomogram.world.size
    with ExitStack() as files:
        scene, labels = (
            files.enter_context(create(folder / name / f"{stem}.mrc", shape, tomogram.geometry, label=label, int8=int8))
            for name, label, int8 in (("scene", "simulated density, V", False), ("labels", "simulated labels", True))
        )

        def keep(block: Block) -> None:
            scene[:, block.rows] = block.density.numpy()
            labels[:, block.rows] = block.labels.numpy()

        tomogram = replace(tomogram, keep=keep)
        series = tomogram.series
    with ExitStack() as files:
        truth, even, odd, full = (
            files.enter_context(create(folder / name, shape, tomogram.geometry, label=f"simulated {label}"))
            for name, label in ((f"truth/{stem}.mrc", "truth"), (f"halves/{stem}_EVN.mrc", "half EVN"),
                                (f"halves/{stem}_ODD.mrc", "half ODD"), (f"tomograms/{stem}.mrc", "tomogram"))
        )  # fmt: skip
        for rows in blocks_of(shape[1], 3 * shape[0] * shape[2]):
            volumes = series.reconstruct(rows).numpy()
            truth[:, rows], even[:, rows], odd[:, rows] = volumes
            full[:, rows] = series.average(volumes[1], volumes[2])
    write_rows(folder / "coordinates" / f"{stem}.csv", coordinates(tomogram), COLUMNS)
    tilts = folder / "tilts" / f"{stem}.tlt"
    tilts.parent.mkdir(parents=True, exist_ok=True)
    tilts.write_text("".join(f"{angle:.2f}\n" for angle in tomogram.world.angles))
    return tomogram


def coordinates(tomogram: Tomogram) -> list[dict[str, Any]]:
    """Particles and beads: x, y, z in voxels from the centre of the first one, kind, RELION's angles in degrees."""
    rows = []
    for bodies in (*tomogram.cell.particles, tomogram.cell.gold):
        centres = bodies.places[:, ::-1] / tomogram.world.pixel_size
        for centre, angles in zip(centres, euler_angles(bodies.rotations), strict=True):
            values = (*map(float, centre), bodies.protein.name, *map(float, angles))
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def describe_tomogram(tomogram: Tomogram) -> dict[str, Any]:
    """What was drawn: lens, number of each thing, what the labels say, signal/noise; plain values for JSON."""
    cell, world = tomogram.cell, tomogram.world
    return {
        "particles": sum(len(kind.places) for kind in cell.particles),
        "kinds": {kind.protein.name: len(kind.places) for kind in cell.particles},
        "membranes": len(cell.membranes),
        "labels": {str(label): name for label, name in cell.label_names.items()},
        "taken": [world.angles[number] for number in world.taken],
        "signal_to_noise": tomogram.signal_to_noise,
        "optics": asdict(tomogram.optics),
    }
