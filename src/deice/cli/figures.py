"""Figures for machines: `--json FILE`, or `-` for stdout."""

import json
import sys
from pathlib import Path
from typing import Any


def write_json(figures: Any, where: str | None) -> None:
    """Write `figures` to the file `where`, to stdout if it is "-", nowhere if it is None."""
    if where is None:
        return
    text = json.dumps(figures, indent=2, allow_nan=False)
    if where == "-":
        sys.stdout.write(text + "\n")
    else:
        Path(where).write_text(text + "\n")
