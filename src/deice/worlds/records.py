"""What stands beside the pictures of a simulated set: world.json, and tables."""

import csv
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deice.errors import RecipeFault
from deice.version import __version__
from deice.worlds.tomogram_world import TomogramWorld
from deice.worlds.world import World


def settings_of(kind: str, seed: int, world: World | TomogramWorld) -> dict[str, Any]:
    """All that was set, as plain values for JSON."""
    settings = asdict(world)
    if isinstance(world, World):
        settings["map"] = None if world.map is None else str(world.map)
    else:
        settings["map"] = [str(path) for path in world.map]
    for drawn in ("defocus", "astigmatism", "astigmatism_angle"):
        del settings["optics"][drawn]  # each picture has its own
    return {"deice": __version__, "kind": kind, "seed": seed, "world": settings}


def refuse_another_world(folder: Path, kind: str, seed: int, world: World | TomogramWorld) -> None:
    """Pictures of two worlds in one folder would be told apart by nobody."""
    path = folder / "world.json"
    if not path.exists():
        return
    wanted = json.loads(json.dumps(settings_of(kind, seed, world)))
    try:
        found = json.loads(path.read_text())
    except ValueError:
        found = {}
    if any(found.get(key) != wanted[key] for key in ("kind", "seed", "world")):
        raise RecipeFault(f"{path} describes another world; expected the same settings: choose an empty folder")


def write_rows(path: Path, rows: list[dict[str, Any]], columns: list[str]) -> None:
    """A table as csv; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.3f}" if isinstance(v, float) else v for k, v in row.items()})


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)
