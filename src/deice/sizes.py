"""Sizes in bytes, as people write them and as they read them."""

import re

from deice.errors import RecipeFault

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4,
          "ki": 1024, "mi": 1024**2, "gi": 1024**3, "ti": 1024**4}  # fmt: skip


def parse_bytes(text: str, what: str = "memory size") -> int:
    """"8GB", "500 MB", "2GiB" or a plain number → bytes; RecipeFault, which names `what` it is, for anything else."""
    found = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]?i?)b?\s*", text.lower())
    try:
        size = float(found[1]) * _UNITS[found[2]] if found else 0.0
    except (ValueError, KeyError):
        size = 0.0
    if size <= 0:
        raise RecipeFault(f"{what} {text!r}; expected a number with a unit, such as 8GB or 500MB")
    return int(size)


def say_bytes(size: float) -> str:
    """Bytes as "41.2 GB", decimal units, three digits."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
