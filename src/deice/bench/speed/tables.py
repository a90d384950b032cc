"""The tables of the rows: what was asked against what was measured, then every line, as Markdown, CSV and JSON."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deice.bench.speed.rows import Row
from deice.bench.suite import write_json, write_text

COLUMNS = {  # key → title, digits
    "ms": ("ms", 3), "spread_ms": ("quartiles apart, ms", 3), "range_ms": ("highest less lowest, ms", 3),
    "processor_ms": ("of processor time, ms", 3), "start_up_s": ("start-up, s", 1),
    "job_ms": ("ms in a 2-minute job", 2), "tflops": ("TFLOP/s", 1), "of_matrix_rate": ("of the matrix rate", 2),
    "gigabytes": ("GB held", 2), "mb_s": ("MB/s", 0), "windows_s": ("windows/s", 0),
    "fetched": ("from the disk", 2), "files": ("files", 0),
}
Rows = Mapping[Row, dict[str, Any]]


def write_all(out: Path, door: str, rows: Rows, heading: dict[str, Any]) -> dict[str, Any]:
    """DOOR.md and DOOR.csv in `out`, of the rows of one door, and their parts in tables/ for the page; speed.json with
    the rows of both doors; → that document.
    """
    document = heading | {row.name: machine_readable(answer) for row, answer in rows.items()}
    write_json(out / "speed.json", document)
    rows = {row: answer for row, answer in rows.items() if row.door == door}
    parts = {f"{door}_summary": summary(rows), f"{door}_lines": lines(rows), f"{door}_foot": foot(heading)}
    for name, text in parts.items():
        write_text(out / "tables" / f"{name}.md", f"{text}\n")
    write_text(out / f"{door}.md", "\n\n".join([f"# deice bench {door}", *parts.values()]) + "\n")
    write_text(out / f"{door}.csv", as_csv(rows))
    return document


def machine_readable(answer: dict[str, Any]) -> dict[str, Any]:
    """{"ours_ms", "baseline": {name: ms}, "ratio": {name: how many times better ours is}, "error"}, or a "failure"."""
    if answer["failure"]:
        return {"failure": answer["failure"], "error": answer["error"]}
    milliseconds = {name: line["ms"] for name, line in answer["lines"].items()}
    baseline = {name: ms for name, ms in milliseconds.items() if name != answer["ours"]}
    return {"ours_ms": milliseconds[answer["ours"]], "baseline": baseline, "ratio": answer["ratios"],
            "error": answer["error"], "lines": answer["lines"], "facts": answer["facts"], "notes": answer["notes"]}


def summary(rows: Rows) -> str:
    """One line per row and per thing that ours is compared with."""
    table = ["| work | ours | against | times as fast | at least | |", "|:---|---:|:---|---:|---:|:---|"]
    for row, answer in rows.items():
        if answer["failure"]:
            table.append(f"| {row.title} | no speed | | | | wrong: {answer['failure']} |")
            continue
        ours = f"{answer['lines'][answer['ours']]['ms']:,.3f} ms"
        for name, ratio in answer["ratios"].items():
            aim = row.aims.get(name)
            verdict = "" if aim is None else "reached" if ratio >= aim else "missed"
            table.append(f"| {row.title} | {ours} | {name} | {ratio:.2f} | {'' if aim is None else f'{aim:g}'} | "
                         f"{verdict} |")
        missing = [name for name in row.aims if name not in answer["ratios"]]
        table += [f"| {row.title} | {ours} | {name} | not here | {row.aims[name]:g} | |" for name in missing]
    return "\n".join(table)


def lines(rows: Rows) -> str:
    """A table per row with all that was run."""
    parts = []
    for row, answer in rows.items():
        if answer["failure"]:
            continue
        keys = [key for key in COLUMNS if any(key in line for line in answer["lines"].values())]
        table = [f"**{row.title}** (`{row.name}`){_said(answer)}", "",
                 f"| | {' | '.join(COLUMNS[key][0] for key in keys)} |", "|:---|" + "---:|" * len(keys)]
        for name, line in answer["lines"].items():
            table.append(f"| {name} | {' | '.join(_cell(line, key) for key in keys)} |")
        parts.append("\n".join(table))
    return "\n\n".join(parts)


def _said(answer: dict[str, Any]) -> str:
    facts = answer["facts"]
    said = [f"error {answer['error']:.2g}"] if answer["error"] is not None else []
    if "matrix_tflops" in facts:
        said.append(f"copy {facts['copy_gb_s']:,.0f} GB/s, bf16 matrix product {facts['matrix_tflops']:,.0f} TFLOP/s")
    said += answer["notes"]
    return f": {'; '.join(said)}" if said else ""


def _cell(line: dict[str, float], key: str) -> str:
    return f"{line[key]:,.{COLUMNS[key][1]}f}" if key in line else ""


def foot(heading: dict[str, Any]) -> str:
    """Where it was measured."""
    left = f" Left: {', '.join(heading['left'])}." if heading["left"] else ""
    return f"{heading['machine']}, deice {heading['deice']}, scale {heading['scale']}.{left}"


def as_csv(rows: Rows) -> str:
    """One line per row and per thing that was run."""
    table = []
    for row, answer in rows.items():
        if answer["failure"]:
            table.append({"row": row.name, "what": answer["ours"], "failure": answer["failure"]})
        table += [{"row": row.name, "what": name, **line} for name, line in answer["lines"].items()]
    text = io.StringIO()
    columns = dict.fromkeys(key for line in table for key in line) or ["row", "what"]
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()
