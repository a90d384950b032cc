"""The tables: rows gathered over the scenes, detectors set on other scenes, ours paired with each rival."""

import csv
import io
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deice.bench.rivals.methods import METHODS, TRUTH
from deice.bench.rivals.page import as_markdown, beside_published, results
from deice.bench.suite import write_json, write_text
from deice.tables import Row

OURS = "recorrupted"  # of one tomogram without halves
PAIRED = ("psnr_minmax", "ssim_minmax", "psnr", "ssim", "cc", "cc_whole", "fsc_measured", "fsc_wedge", "dice",
          "surface_dice", "net_dice", "net_surface_dice")
Kept = dict[str, Any]  # a row as it was kept, with its method, scene and level


def write_all(out: Path, rows: Sequence[Kept], heading: dict[str, Any]) -> dict[str, Any]:
    """Write tomograms.json, .md, .csv (a line a row) and the page's parts, tables/*.md, into `out`; → the document."""
    rows = [with_membranes(row, rows) for row in rows]
    tables = {f"{level:g}": table([row for row in rows if row["level"] == level]) for level in heading["levels"]}
    document = heading | {"tables": tables}
    write_json(out / "tomograms.json", document)
    write_text(out / "tomograms.csv", as_csv(rows))
    write_text(out / "tomograms.md", as_markdown(document))
    for name, text in {"results": results(document), "published": beside_published(tables)}.items():
        write_text(out / "tables" / f"{name}.md", text + "\n")  # what docs/make_sources.py puts into a page
    return document


def detector_for(row: Kept, rows: Sequence[Kept]) -> str | None:
    """The setting of the detector of highest mean Dice over the other scenes of this row's method and level.

    So no scene takes part in choosing its own. None without another scene, or without a membrane.
    """
    others = [other["membranes"] for other in rows if other["scene"] != row["scene"] and other["membranes"]
              and (other["method"], other["level"]) == (row["method"], row["level"])]
    if not others or not row["membranes"]:
        return None
    return max(row["membranes"], key=lambda setting: statistics.fmean(other[setting]["dice"] for other in others))


def with_membranes(row: Kept, rows: Sequence[Kept]) -> Kept:
    """The row with its detector's setting, and Dice and surface-Dice at that one among its figures."""
    detector = detector_for(row, rows)
    found = {"dice": None, "surface_dice": None} if detector is None else row["membranes"][detector]
    return row | {"figures": row["figures"] | found, "detector": detector}


def table(rows: Sequence[Kept]) -> dict[str, Any]:
    """{"methods": {name: means over the scenes, "n", "se", "stopped", …}, "paired": {rival: {figure: …}}}."""
    methods: dict[str, Any] = {}
    for name in METHODS:
        several = [row for row in rows if row["method"] == name]
        if not several:
            continue
        summary = Row()
        for row in several:
            summary.add(row["figures"], {})
        trainings = [row["training"] for row in several if row["training"]]
        methods[name] = summary.summary(None) | _training(trainings)
    paired = {name: against(name, rows) for name in methods if name not in (OURS, TRUTH) and OURS in methods}
    return {"methods": methods, "paired": {name: found for name, found in paired.items() if found}}


def against(rival: str, rows: Sequence[Kept]) -> dict[str, Any]:
    """Ours less a rival, scene by scene: {figure: {"mean", "se", "errors"}}; errors: the mean in standard errors."""
    ours, theirs = ({row["scene"]: row["figures"] for row in rows if row["method"] == name} for name in (OURS, rival))
    both = sorted(ours.keys() & theirs.keys())
    found = {}
    for figure in PAIRED:
        pairs = [(ours[scene][figure], theirs[scene][figure]) for scene in both]
        gains = [a - b for a, b in pairs if a is not None and b is not None]
        if len(gains) > 1:
            mean, error = statistics.fmean(gains), statistics.stdev(gains) / math.sqrt(len(gains))
            found[figure] = {"mean": mean, "se": error, "errors": mean / error if error else None, "n": len(gains)}
    return found


def as_csv(rows: Sequence[Kept]) -> str:
    """One line a row: method, scene, level, every figure, and how its training went."""
    lines = []
    for row in rows:
        training = {f"training_{key}": row["training"].get(key) for key in ("seconds", "allowed", "steps", "stopped")}
        lines.append({key: row[key] for key in ("level", "method", "scene")} | row["figures"] | training
                     | {"estimate_seconds": row["training"].get("estimate_seconds"),
                        "detector": row["detector"], "net_threshold": row["net_threshold"], "machine": row["machine"]})
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for line in lines for key in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _training(trainings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean seconds and steps of the trainings, and how many were ended by the time while still getting better."""
    if not trainings:
        return {}
    return {"training_seconds": statistics.fmean(one["seconds"] for one in trainings),
            "estimate_seconds": statistics.fmean(one["estimate_seconds"] for one in trainings),
            "steps": statistics.fmean(one["steps"] for one in trainings),
            "cut": sum(one["stopped"] != "flat" for one in trainings)}
