"""The page of the tables: what was run, what the columns mean, ours against each rival, the published figures."""

from typing import Any

from deice.bench.rivals.methods import METHODS, RIVAL_BUDGET
from deice.tables import markdown

COLUMNS = {
    "psnr_minmax": ("PSNR dB, min–max", 2), "ssim_minmax": ("SSIM, min–max", 3), "psnr": ("PSNR dB", 2),
    "ssim": ("SSIM", 3), "cc": ("CC", 3), "cc_whole": ("CC, whole scene", 3), "fsc_measured": ("FSC, measured", 3),
    "fsc_wedge": ("FSC, wedge", 3), "dice": ("Dice, ridge", 3), "surface_dice": ("surface-Dice, ridge", 3),
    "net_dice": ("Dice, net", 3), "net_surface_dice": ("surface-Dice, net", 3),
    "minutes": ("minutes", 2), "training_seconds": ("trained s", 0), "steps": ("steps", 0), "ram": ("RAM GB", 2),
    "gpu": ("GPU GB", 2), "n": ("n", 0),
}
GAINS = ("psnr_minmax", "ssim_minmax", "psnr", "ssim", "cc", "fsc_measured", "fsc_wedge", "dice", "surface_dice",
         "net_dice", "net_surface_dice")
NOTES = """\
min–max: answer and density of the scene (no lens, no wedge), each stretched to 0 … 1 by its own extremes, then PSNR and
SSIM with peak 1: the convention of F2Fd's program, which hangs on single voxels. PSNR, SSIM, CC: against the noiseless
truth through the same tilts and lens; PSNR and SSIM after least-squares scale and offset, SSIM with a Gaussian window
of σ 1.5 and 11 taps. CC, whole scene: against the same truth with no wedge missing. FSC: mean over the shells to
Nyquist of the correlation where tilts measured, and in the missing wedge (10° from the nearest tilt on), there with the
whole scene. Edges are tapered, which leaks a little from the one into the other: raw shows how much. Membranes by the
ridge detector, its clip and threshold chosen for each kind of input on the other scenes, and by a 3D U-Net trained for
each kind of input on the other scenes' answers, its threshold chosen there. Minutes: training and
estimate, on a device that several rows share. ± is the standard error over scenes.
"""
# SSIM and PSNR in dB, D2: SHREC 2021, model 0; D3: a real tomogram against cryo-CARE's answer (F2Fd's README)
PUBLISHED = {
    "raw": ((0.06, 5.89), (0.34, 14.16)), "tegunov": ((0.09, 6.89), (0.69, 18.02)),
    "noise2void": ((0.06, 5.90), (0.34, 14.12)), "self2self": ((0.06, 6.05), (0.56, 17.03)),
    "isonet": ((0.13, 8.65), (0.67, 17.57)), "f2fd": ((0.10, 6.98), (0.65, 17.97)),
}


def as_markdown(document: dict[str, Any]) -> str:
    """The page by itself."""
    published = beside_published(document["tables"])
    return "\n".join(["# One tomogram, every method", "", NOTES, results(document), "",
                      "## The published figures beside", "", published]) + "\n"


def results(document: dict[str, Any]) -> str:
    """What was run, and of each level the table and ours against each row."""
    took, size = document["took"], "×".join(map(str, document["size"]))
    budgets = " or ".join(f"{seconds:g}" for seconds in document["budgets"])
    lines = [f"{document['scenes']} scenes of {size} voxels of 10 Å, seed {document['seed']}; deice "
             f"{document['deice']}, {document['machine']}. Ours train for {budgets} s, a rival for "
             f"{RIVAL_BUDGET:g} times as long, less where its own validation is flat before. * (k) after a rival: in k "
             f"of its n rows the time ended the training before that. {took['rows']} rows in {took['legs']} legs, "
             f"{took['parallel']} at a time on {took['gpus']} GPUs: {took['cuda_seconds']:.0f} s of a GPU, "
             f"{took['cpu_seconds']:.0f} s without one. Left: {', '.join(document['left']) or 'nothing'}."]
    for level, table in document["tables"].items():
        if table["methods"]:
            lines += ["", f"### Signal/noise {level}", "", markdown(_titled(table), COLUMNS)]
        if table["paired"]:
            lines += ["", "Ours (recorrupted) less each row, scene by scene, mean ± standard error (and the mean in "
                      "standard errors):", "", gains(table["paired"])]
    return "\n".join(lines)


def gains(paired: dict[str, Any]) -> str:
    """Ours less each rival as a table."""
    lines = [f"| ours less | {' | '.join(COLUMNS[figure][0] for figure in GAINS)} |", "|:---|" + "---:|" * len(GAINS)]
    for name, found in paired.items():
        cells = [_gain(found.get(figure), COLUMNS[figure][1]) for figure in GAINS]
        lines.append(f"| {METHODS[name].title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def beside_published(tables: dict[str, Any]) -> str:
    """SSIM and PSNR by the min–max convention, theirs and ours, and the order by PSNR of each column."""
    head = ["published, SHREC 2021", "published, real data", *(f"here, signal/noise {level}" for level in tables)]
    columns: list[dict[str, tuple[float, float]]] = [
        {name: both[which] for name, both in PUBLISHED.items()} for which in (0, 1)]
    columns += [{name: (row["ssim_minmax"], row["psnr_minmax"]) for name, row in table["methods"].items()
                 if name in PUBLISHED} for table in tables.values()]
    lines = [f"| SSIM / PSNR dB | {' | '.join(head)} |", "|:---|" + "---:|" * len(head)]
    for name in PUBLISHED:
        cells = [f"{column[name][0]:.2f} / {column[name][1]:.2f}" if name in column else "–" for column in columns]
        lines.append(f"| {METHODS[name].title} | {' | '.join(cells)} |")
    orders = []
    for title, column in zip(head, columns, strict=True):
        order = sorted(column, key=lambda name: -column[name][1])
        orders.append(f"- {title}: {' > '.join(order) or '–'}")
    return "\n".join([*lines, "", "The order by PSNR:", "", *orders])


def _titled(table: dict[str, Any]) -> dict[str, Any]:
    """The table with titles for names, and a mark where time ended trainings of rivals."""
    rows = {}
    for name, row in table["methods"].items():
        cut = "" if METHODS[name].ours or not row.get("cut") else f" * ({row['cut']})"
        rows[METHODS[name].title + cut] = row
    return {"methods": rows}


def _gain(found: dict[str, Any] | None, digits: int) -> str:
    if found is None:
        return "–"
    errors = "" if found["errors"] is None else f" ({found['errors']:+.1f})"
    return f"{found['mean']:+.{digits}f} ± {found['se']:.{digits}f}{errors}"
