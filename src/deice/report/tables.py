"""Figures as a table a reader can trust: standard errors beside the means, bold only for what is truly better."""

import math
from dataclasses import dataclass
from typing import Any

from deice.tables import COLUMNS

LOWER_IS_BETTER = ("rmse", "frc_0.5", "frc_0.143")
BASELINES, OURS = ("noisy", "pointwise", "gaussian", "wiener"), ("deice", "measured")
NEEDS_TRUTH = {
    "pointwise": "the best scale and offset, found with the truth in hand",
    "gaussian": "σ chosen with the truth in hand",
    "wiener": "the best radial filter, computed from the truth",
}


@dataclass(frozen=True)
class Cell:
    """A mean as text, its standard error as text or "", and whether it is truly the best of its column."""

    text: str
    error: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """Headings, then (method, what it is, cells) for each row."""

    headings: list[str]
    rows: list[tuple[str, str, list[Cell]]]


def tabulate(methods: dict[str, dict[str, Any]]) -> Table:
    """`methods` of a table.json as rows: baselines first, ours last, others between."""
    keys = [key for key in COLUMNS if any(_number(figures.get(key)) is not None for figures in methods.values())]
    order = [name for name in BASELINES if name in methods]
    order += [name for name in methods if name not in BASELINES + OURS]
    order += [name for name in OURS if name in methods]
    columns = [_column(methods, order, key) for key in keys]
    rows = [(name, NEEDS_TRUTH.get(name, ""), [column[i] for column in columns]) for i, name in enumerate(order)]
    return Table([COLUMNS[key][0] for key in keys], rows)


def _column(methods: dict[str, dict[str, Any]], order: list[str], key: str) -> list[Cell]:
    _, digits = COLUMNS[key]
    best = truly_best(methods, key)
    cells = []
    for name in order:
        value, error = _number(methods[name].get(key)), _error(methods[name], key)
        said = "" if error is None else f"{error:.{digits}f}"
        cells.append(Cell("–") if value is None else Cell(f"{value:.{digits}f}", said, name == best))
    return cells


def truly_best(methods: dict[str, dict[str, Any]], key: str) -> str | None:
    """The method whose figure beats every other by more than the standard error of the difference; else None.

    The two standard errors add in squares. Without standard errors (one image) no method is called the best.
    """
    better = min if key in LOWER_IS_BETTER else max
    ranked = {name: value for name, figures in methods.items() if (value := _number(figures.get(key))) is not None}
    if len(ranked) < 2:
        return None
    best = better(ranked, key=lambda name: ranked[name])
    own = _error(methods[best], key)
    for name, value in ranked.items():
        other = _error(methods[name], key)
        if name == best:
            continue
        if own is None or other is None or abs(ranked[best] - value) <= math.hypot(own, other):
            return None
    return best


def _error(figures: dict[str, Any], key: str) -> float | None:
    errors = figures.get("se")
    return _number(errors.get(key)) if isinstance(errors, dict) else None


def _number(value: Any) -> float | None:
    """`value` as a number; None for null, NaN, text: a figure that could not be had."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
