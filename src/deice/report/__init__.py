"""One self-contained HTML page of a run: what was trained, what was removed, and how good it is.

`page(folder)` is the page's text; `write_page(folder, file)` puts it on the disk. Nothing is fetched by the page.
"""

import os
import platform
from datetime import datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from deice.errors import FileFault
from deice.report import figures
from deice.report.comparison import Comparison, compare
from deice.report.evidence import Evidence, Run, gather
from deice.report.tables import OURS, tabulate
from deice.version import __version__

FIGURES = {
    "halves": ("correlation of even and odd halves, noisy", "higher: more signal"),
    "denoised halves": ("correlation of even and odd halves, each denoised by itself", "higher: less noise is left"),
    "removed noise": (
        "correlation of what was removed from even and odd halves",
        "near 0: only noise; clearly above 0: signal was removed too",
    ),
}


def page(folder: Path | str) -> str:
    """The page on `folder`, a run of `deice train` or a folder of `deice demo`; reads only.

    Raises UserError where the folder holds nothing to report. What is missing is absent from the page, and said.
    """
    evidence = gather(folder)
    comparison = compare(evidence.scenes)
    here = files("deice.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((here / "template.html.jinja").read_text("utf-8"))
    return template.render(
        title=evidence.folder.resolve().name,
        style=(here / "style.css").read_text("utf-8"),
        script=(here / "slider.js").read_text("utf-8"),
        evidence=evidence,
        comparison=comparison,
        absent=[*evidence.absent, *comparison.left_out],
        figures=_figures(comparison),
        ours=OURS,
        table=tabulate(evidence.table) if evidence.table else None,
        plots=_plots(evidence, comparison),
        summary=_training_summary(evidence.run),
        made=_made(evidence),
    )


def write_page(folder: Path | str, path: Path | str) -> Path:
    """Write the page on `folder` to the file `path`, whole or not at all; returns the path."""
    path = Path(path)
    text = page(folder)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise FileFault(path, f"cannot be written ({error.strerror}) · choose another file with -o") from error
    finally:
        if partial.exists():
            partial.unlink()
    return path


def _plots(evidence: Evidence, comparison: Comparison) -> dict[str, str]:
    """name → <svg>; only what there is to plot."""
    pixel_size, plots = comparison.pixel_size, {}
    if evidence.run and evidence.run.metrics:
        plots["loss"] = figures.loss_curves(evidence.run.metrics)
        plots["rates"] = figures.rates(evidence.run.metrics)
    if comparison.against_truth:
        plots["truth"] = figures.shell_correlations(_ordered(comparison.against_truth), pixel_size)
    if comparison.between_halves:
        plots["halves"] = figures.shell_correlations(_ordered(comparison.between_halves), pixel_size)
    if comparison.spectra:
        plots["spectra"] = figures.power_spectra(_ordered(comparison.spectra), pixel_size)
    return plots


def _ordered(curves: dict[str, Any]) -> dict[str, Any]:
    return {name: curves[name] for name in figures.COLOURS if name in curves}


def _figures(comparison: Comparison) -> list[tuple[str, str, str]]:
    """(what, value ± standard error, how to read it) of each figure between halves."""
    rows = []
    for key, (what, meaning) in FIGURES.items():
        values = comparison.figures.get(key)
        if values:
            error = f" ± {np.std(values, ddof=1) / len(values) ** 0.5:.3f}" if len(values) > 1 else ""
            rows.append((what, f"{np.mean(values):.3f}{error}", meaning))
    return rows


def _training_summary(run: Run | None) -> dict[str, str]:
    if run is None or not run.metrics:
        return {}
    last = run.metrics[-1]
    seconds = [row["seconds"] for row in run.metrics if "seconds" in row]
    speeds = [row["windows_per_second"] for row in run.metrics if "windows_per_second" in row]
    said = {"steps": f"{last['step']:,}"}
    if seconds:
        said["time"] = f"{max(seconds) / 60:.1f} min" if max(seconds) >= 90 else f"{max(seconds):.0f} s"
    if speeds:
        said["speed"] = f"{np.median(speeds):.0f} windows/s"
    return said | run.model


def _made(evidence: Evidence) -> dict[str, str]:
    """With what, where and when the page was written."""
    return {
        "page written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "by": f"deice {__version__}, torch {version('torch')}, numpy {np.__version__}, "
        f"Python {platform.python_version()}",
        "on": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "with": f"deice report {evidence.folder}",
    }
