"""Figures for machines: `--json FILE`, or `-` for stdout."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from deice.errors import FileFault


def write_json(figures: Any, where: str | None) -> None:
    """Write `figures` to the file `where`, to stdout if it is "-", nowhere if it is None."""
    if where is None:
        return
    text = json.dumps(figures, indent=2, allow_nan=False) + "\n"
    if where == "-":
        sys.stdout.write(text)
    else:
        write_text(Path(where), text)


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all; FileFault where its place cannot be written."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """The same of bytes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FileFault(path, f"cannot be written ({error.strerror}); expected a folder one may write to") from None
