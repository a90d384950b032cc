"""What is kept of a row: its lines, what they are compared with, whether ours was right."""

from dataclasses import asdict, dataclass, field
from typing import Any

Line = dict[str, float]


@dataclass
class Answer:
    """`lines`: figures by what was run, "ms" among them; `ours`: which line is.  ratios: how many times better ours is
    than what stands in the name.  error: relative, against float64.  failure: why there is no speed; empty if there is.
    """

    ours: str
    lines: dict[str, Line] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    error: float | None = None
    failure: str = ""
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def kept(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)
