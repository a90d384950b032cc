"""Legs of resumable tables: rows that are kept, how long the legs have lasted, and a leg as a command.

DIR/rows/NAME.json    a row that is done; another one is computed where what it depends on has changed
DIR/legs/STAMP.json   how long a leg has lasted so far, so that one that is killed counts too
"""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deice.bench.suite import write_json
from deice.errors import BatchFailure, UserError

log = logging.getLogger(__name__)


def kept_row(path: Path, key: str, wanted: Any) -> dict[str, Any] | None:
    """The row in `path` if what it kept as `key` is `wanted`, as JSON tells it; None where there is none such."""
    found = json.loads(path.read_text()) if path.exists() else None
    same = found is not None and found.get(key) == json.loads(json.dumps(wanted))
    return found if same else None


def note_leg(out: Path, began: int, seconds: float, **facts: Any) -> None:
    """Keep that the leg begun at `began` (`time.time_ns`, its name) has lasted `seconds`, with more facts of it."""
    write_json(out / "legs" / f"{began}.json", {"seconds": seconds, **facts})


def legs_noted(out: Path) -> list[dict[str, Any]]:
    """What was kept of the legs of `out`, in their order."""
    return [json.loads(path.read_text()) for path in sorted((out / "legs").glob("*.json"))]


def as_command(leg: Callable[[], dict[str, Any]]) -> int:
    """Run `leg`, which gives a document with what is "left"; 0 done, 2 the input is at fault, 3 rows failed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        left = leg()["left"]
    except UserError as error:
        log.error("%s", error)
        return 2
    except BatchFailure as error:
        log.error("%s", "; ".join(f"{name}: {why}" for name, why in error.failures))
        return 3
    log.info("left: %s", ", ".join(left) or "nothing")
    return 0
