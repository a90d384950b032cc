"""The tables: rows of DIR/rows set beside what the source documents report, as Markdown, CSV and JSON."""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deice.bench.sources.rows import DEPTHS, FOURIER, LOSSES, SEEDS, depth_row
from deice.bench.suite import write_json, write_text
from deice.tables import markdown

Figures = dict[str, Any]
FILTERS = ("noisy", "pointwise", "gaussian", "wiener")
PAIR = {"psnr": ("PSNR dB", 2), "gain": ("gain dB", 2), "over_wiener": ("over Wiener dB", 2), "ssim": ("SSIM", 3),
        "cc": ("CC", 3), "edges": ("edges", 3), "frc": ("FRC area", 3)}
SPECTRA = {"mse1000": ("pixel MSE × 1000", 3), "fourier": ("Fourier loss", 3), "against_noisy": ("against noisy %", 1),
           "against_mse": ("against MSE alone %", 1), "psnr": ("PSNR dB", 2),
           "minutes": ("minutes an epoch", 2), "slower": ("slower %", 1)}
HALVES = {"even_odd_before": ("even/odd CC before", 3), "even_odd": ("after", 3),
          "removed_noise": ("removed noise CC", 3), "gain_other": ("PSNR gain, other half", 2),
          "ssim_gain_other": ("SSIM gain, other half", 3), "gain": ("PSNR gain, truth", 2), "ssim": ("SSIM, truth", 3),
          "cc": ("CC, truth", 3), "training_seconds": ("trained s", 0)}
STABILITY = {"spread": ("last 5 validations, dB", 3), "between_seeds": ("between seeds, dB", 3)}
COUNT = {"n": ("n", 0)}
EPOCH = 10_309  # patches of an epoch of theirs
THEIRS = "**theirs**"


@dataclass(frozen=True)
class Table:
    """name: of its file.  filters: the row of the filters, and which stand here.  lines: label → rows (seeds of one).

    theirs: what the documents report, label → figures.
    """

    name: str
    title: str
    filters: tuple[str, Sequence[str]]
    lines: Mapping[str, Sequence[str]]
    columns: Mapping[str, tuple[str, int]]
    theirs: Mapping[str, Figures]


def _theirs(**figures: float) -> Figures:
    return figures | {"se": {}}


V33 = {THEIRS: _theirs(psnr=16.90, gain=4.09, edges=0.559), f"{THEIRS}: noisy": _theirs(psnr=12.81)}
V32 = {f"{THEIRS}: 3 layers": _theirs(gain=4.0, edges=0.54), f"{THEIRS}: 7 layers": _theirs(gain=4.0, edges=0.54),
       f"{THEIRS}: 12 layers": _theirs(gain=4.1, edges=0.56), f"{THEIRS}: 15 layers": _theirs(edges=1.38)}
V29 = {f"{THEIRS}: MSE": _theirs(mse1000=9.94, minutes=7.7), f"{THEIRS}: MSE + 0.1 Fourier": _theirs(
    mse1000=9.93, fourier=1.71, against_noisy=-86.2, minutes=7.8, slower=1.3)}
N2N = {THEIRS: _theirs(even_odd_before=0.067, even_odd=0.879, removed_noise=0.024, gain_other=2.82,
                            ssim_gain_other=0.109, training_seconds=600)}
V28F = {f"{THEIRS}: good": _theirs(psnr=20.0, ssim=0.80), f"{THEIRS}: excellent": _theirs(psnr=21.0, ssim=0.85)}
NETS = {"residual CNN 12 × 32": "cnn", "U-Net 32/4": "unet"}

TABLES: tuple[Table, ...] = (
    *(Table(f"v33_{pictures}", title, (f"filters_{pictures}", FILTERS),
            {label: [f"{pictures}_{net}"] for label, net in NETS.items()}, PAIR | COUNT,
            V33 if pictures == "shot" else {})
      for pictures, title in (("clean", "v33, supervised, a clean target"),
                              ("shot", "v33, supervised, a target with shot noise"))),
    *(Table(f"v32_{pictures}", f"v32, depths, {title}", (f"filters_{pictures}", FILTERS),
            {f"{depth} layers": [depth_row(pictures, depth, seed) for seed in seeds] for depth in DEPTHS},
            PAIR | STABILITY | COUNT, V32 if pictures == "shot" else {})
      for pictures, title, seeds in (("clean", "a clean target", SEEDS), ("shot", "a target with shot noise", (0,)))),
    Table("v29", "v29, the Fourier loss", ("filters_clean", FILTERS),
          {LOSSES[name]: [f"loss_{name}"] for name in ("mse", *FOURIER)}, SPECTRA | COUNT, V29),
    Table("v31", "v31, losses", ("filters_clean", FILTERS),
          {text: [f"loss_{name}"] for name, text in LOSSES.items() if name not in ("fourier_0.05", "fourier_0.2")},
          {"psnr": PAIR["psnr"], "ssim": PAIR["ssim"], "frc": PAIR["frc"], "edges": PAIR["edges"],
           "fourier": SPECTRA["fourier"]} | COUNT, {}),
    Table("n2n", "v33, Noise2Noise on movies", ("filters_movies", ("noisy", "flat", "pointwise", "gaussian", "wiener")),
          {"residual CNN 12 × 32, 64² patches": ["movies_cnn"], "deice's default": ["movies_default"]},
          HALVES | COUNT, N2N),
    Table("v28f", "v28f, the levels", ("filters_levels", FILTERS), {"U-Net 32/3": ["levels_unet"]}, PAIR | COUNT, V28F),
)


def write_all(out: Path, rows: Mapping[str, dict[str, Any]], heading: dict[str, Any]) -> dict[str, Any]:
    """tables/NAME.md, sources.md, sources.csv and sources.json in `out`, of the rows that there are; → the JSON."""
    document = heading | {"tables": {}}
    page = [f"# The source documents' tables\n\n{_said(heading)}\n"]
    for table in TABLES:
        methods = methods_of(table, rows)
        if not methods:
            continue
        document["tables"][table.name] = {"title": table.title, "methods": methods}
        text = markdown({"methods": methods}, {k: v for k, v in table.columns.items() if _known(methods, k)})
        write_text(out / "tables" / f"{table.name}.md", f"{text}\n")
        page.append(f"## {table.title}\n\n{text}\n")
    page.append(f"{foot(heading)}\n")
    write_text(out / "tables" / "foot.md", f"{foot(heading)}\n")
    write_text(out / "sources.md", "\n".join(page))
    write_text(out / "sources.csv", as_csv(document["tables"]))
    write_json(out / "sources.json", document)
    return document


def methods_of(table: Table, rows: Mapping[str, dict[str, Any]]) -> dict[str, Figures]:
    """{label: figures}: theirs first, then the filters, then the nets whose rows are there; {} without any of ours."""
    source, names = table.filters
    filters = rows[source]["methods"] if source in rows else {}
    ours = {name: filters[name] for name in names if name in filters}
    for label, wanted in table.lines.items():
        found = [rows[name] for name in wanted if name in rows]
        if found:
            ours[label] = _together(wanted, found)
    for line in ours.values():
        line["over_wiener"] = line["gain"] - filters["wiener"]["gain"] if filters else None
    if table.name == "v29":
        _compare_spectra(ours, rows.get("time_of_losses"))
    if table.name == "v31":
        ours = _best_mix_named(ours)
    return {**table.theirs, **ours} if ours else {}


def _together(names: Sequence[str], found: Sequence[dict[str, Any]]) -> Figures:
    """One line of a table from the rows of its seeds: means over them, and what the training was like."""
    several = [row["methods"][row["row"]] for row in found]
    line: Figures = {key: _mean([one[key] for one in several]) for key in several[0] if key != "se"}
    line["se"] = {key: _mean([one["se"][key] for one in several]) for key in several[0]["se"]}
    gains = [one["gain"] for one in several]
    line["between_seeds"] = max(gains) - min(gains) if len(gains) > 1 else None
    line["spread"] = max(row["training"]["spread"] for row in found)
    line["training_seconds"] = found[0]["training"]["seconds"] if found[0]["alone"] else None
    line["diverged"] = sum(row["training"]["diverged"] is not None for row in found)
    line["seeds"] = len(found)
    return line


def _compare_spectra(ours: dict[str, Figures], timed: dict[str, Any] | None) -> None:
    """Add the changes of the Fourier loss and the times of a step to the lines of v29."""
    for label, line in ours.items():
        line["mse1000"], line["se"]["mse1000"] = 1e3 * line["mse"], _times(1e3, line["se"].get("mse"))
        for key, base in (("against_noisy", "noisy"), ("against_mse", "mse")):
            line[key] = 100 * (line["fourier"] / ours[base]["fourier"] - 1) if base in ours and base != label else None
        if timed and label in timed["training"]["milliseconds"]:
            milliseconds = timed["training"]["milliseconds"]
            line["minutes"] = milliseconds[label] * EPOCH / timed["training"]["batch"] / 60e3
            line["slower"] = 100 * (milliseconds[label] / milliseconds["mse"] - 1) if label != "mse" else None


def _best_mix_named(ours: dict[str, Figures]) -> dict[str, Figures]:
    """The same lines; of those with more than two losses, the one of highest SSIM is called the best mix."""
    mixes = [label for label in ours if label.count("+") > 1]
    best = max(mixes, key=lambda label: ours[label]["ssim"], default=None)
    return {f"{label}, the best mix" if label == best else label: line for label, line in ours.items()}


def foot(heading: dict[str, Any]) -> str:
    """What it took."""
    took = heading["took"]
    return (f"{took['rows']} of {heading['rows']} rows on {heading['machine']}: {took['leg_seconds']:.0f} s in "
            f"{took['legs']} legs, with the drawing of the pictures; {took['row_seconds']:.0f} s of rows, up to "
            f"{took['parallel']} at a time.")


def as_csv(tables: dict[str, Any]) -> str:
    """One line per table and method: every figure and its standard error."""
    lines = []
    for name, table in tables.items():
        for method, row in table["methods"].items():
            figures = {key: value for key, value in row.items() if key != "se"}
            errors = {f"{key}_se": value for key, value in row["se"].items()}
            lines.append({"table": name, "method": method.replace("*", "") if method.startswith("**") else method,
                          **figures, **errors})
    text = io.StringIO()
    columns = dict.fromkeys(key for line in lines for key in line) or ["table", "method"]
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _said(heading: dict[str, Any]) -> str:
    pictures, facts = heading["pictures"], heading["facts"]
    return (f"Simulated: {pictures['train']} micrographs of {pictures['size']}² pixels to learn from, "
            f"{pictures['test']} with other proteins to judge on, seed {pictures['seed']}. Raw halves correlate at "
            f"{facts['even_odd']:.4f} at {facts['dose']:.0f} electrons/Å². Theirs are other pictures: read a table "
            f"downwards. ± is the standard error over pictures. deice {heading['deice']}.")


def _known(methods: Mapping[str, Figures], key: str) -> bool:
    return any(line.get(key) is not None for line in methods.values())


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value
