"""The files of a table: a page with what its columns mean, a line per method for spreadsheets, and JSON."""

from pathlib import Path
from typing import Any

from deice.bench.suite import write_json, write_text
from deice.bench.tables import as_csv, columns_of
from deice.tables import markdown

COLUMN_NOTES = """\
PSNR and SSIM (Gaussian window, σ 1.5 pixels, 11 taps) after least-squares scale and offset, against the noiseless
truth; FRC (FSC) against the truth, its area the mean over shells. Worst ring − linear: the lowest difference, over 64
rings to Nyquist, of the mean FRC to that of the noisy pictures, which no radial linear filter moves; − Wiener: to that
of the radial Wiener filter, which is higher where its gains, fitted to the truth, follow chance. Removed noise:
correlation between what was removed from the even and from the odd half, each denoised by itself; its worst ring: of
the mean over images. Picking: average precision of a Laplacian of a Gaussian at the known sizes, a pick being right
within a particle's radius. Time and memory of one estimate; that of `gaussian`, `wiener` and `tegunov` includes their
fit to the truth. ± is the standard error over images.
"""


def write_tables(
    out: Path, name: str, document: dict[str, Any], levels: dict[str, dict[str, Any]], page: str
) -> None:
    """NAME.json, NAME.csv (a line a level and method) and NAME.md in the folder `out`."""
    write_json(out / f"{name}.json", document)
    write_text(out / f"{name}.csv", as_csv(levels))
    write_text(out / f"{name}.md", page)


def as_markdown(document: dict[str, Any]) -> str:
    """The page of a suite: what was run, then a table a level."""
    said = [f"{key} {document[key]}" for key in ("train", "test", "size", "seed", "minutes", "recipe", "truth", "deice")
            if document[key] is not None]
    lines = [f"# Quality: {document['suite']}", "", f"{', '.join(said)}. {document['machine']}.", "",
             f"`{document['command']}`", "", COLUMN_NOTES]
    ceiling = document.get("picking_ap_of_truth")
    if ceiling is not None:
        lines += [f"The picker's average precision in the noiseless truth itself: {ceiling:.3f}.", ""]
    for level, table in document["levels"].items():
        facts = table["facts"]
        lines += [f"## Signal/noise {level}", "",
                  f"Measured {facts['signal_to_noise']:.4g} at {facts['dose']:.4g} electrons/Å² in the mean.", "",
                  markdown(table, columns_of(table)), ""]
        for name, row in table["methods"].items():
            if "training_seconds" in row:
                lines += [f"{name} trained for {row['training_seconds']:.0f} s on {row['trained_on']}.", ""]
    return "\n".join(lines)
