"""deice info: what a file is, and what it can serve as."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

AXES = {"zyx": "volume (z, y, x)", "tyx": "frames (t, y, x)", "": "volume (z, y, x) or frames (t, y, x): give --axes"}


def info(
    *files: str,
    json: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    patches: Path | None = None,
    patch: int | None = None,
    target: Path | None = None,
    normaliser: str | None = None,
    axes: Literal["zyx"] | None = None,
) -> None:
    """What each file is: axes, shape, format, pixel size, statistics, and what it can serve as.

    Example: deice info demo/halves/*.mrc --json info.json --patches patches.png

    Parameters
    ----------
    files
        Files, globs or folders: MRC, TIFF, OME-Zarr, EER movies, DM4 gain references; with --patches also one folder of
        packed .bin files.
    json
        Write the figures to this file, "-" for stdout.
    patches
        Also write this PNG: windows as training would cut and normalise them, with their histograms; input and target
        of halves, of --target or of packed pairs, the window alone of single images.
    patch
        Pixels along each axis of those windows, as deice train takes it.
    target
        Folder of targets, named as the files, for --patches.
    normaliser
        standard (if not given), clipped, percentile or none, for --patches.
    axes
        zyx for volumes whose header does not say so, for --patches.
    """
    from deice.cli.figures import write_json
    from deice.cli.options import given, listen
    from deice.errors import BatchFailure, RecipeFault, UserError
    from deice.scenes import expand

    listen()
    asked = given(window=patch, target=target and str(target), normaliser=normaliser, axes=axes)
    if patches is not None and patches.suffix.lower() != ".png":
        raise RecipeFault(f"--patches {patches}: no name of a PNG; expected one that ends in .png")
    if patches is None and asked:
        raise RecipeFault("--patch, --target, --normaliser and --axes say what --patches shows; "
                          "expected --patches FILE.png too")
    packed = patches is not None and len(files) == 1 and (Path(files[0]) / "train_input.bin").is_file()
    paths = [] if packed else expand(files)
    known, failures = [], []
    for path in paths:
        try:
            known.append(describe(path))
        except UserError as error:
            if len(paths) == 1:
                raise
            failures.append((str(path), str(error).removeprefix(f"{path}: ")))
            continue
        if json != "-":
            print("\n".join(_lines(known[-1])))
    write_json(known, json)
    if patches is not None and (packed or known):
        _write_patches(patches, list(files) if packed else [entry["file"] for entry in known], asked)
    if failures:
        raise BatchFailure(failures, len(known))


def _write_patches(path: Path, inputs: list[str], settings: dict[str, Any]) -> None:
    """The contact sheet of `inputs`, with the settings of a recipe's [data]."""
    from deice.cli.figures import write_bytes
    from deice.cli.progress import say
    from deice.recipe import from_table
    from deice.report.patches import contact_sheet, sheet_of

    sheet = sheet_of(inputs, from_table({"data": settings}).data)
    write_bytes(path, contact_sheet(sheet))
    say(f"{path}: {len(sheet.patches)} {sheet.note}")


def describe(path: Path) -> dict[str, Any]:
    """The figures of one file; lengths in Å, statistics in float64, of an EER's sum of all fractions."""
    from deice.io import inspect
    from deice.io.statistics import statistics

    stored = inspect(path)
    events = stored.holds.startswith("EER")
    found = statistics(inspect(path, eer_frames=1).pixels if events else stored.pixels)
    sections, *space = (int(n) for n in stored.pixels.shape)
    serves = _serves_as(path, sections, stored.says, (found.minimum, found.mean))
    return {
        "file": str(path),
        "format": stored.holds,
        "axes": "yx" if sections == 1 else stored.says or "zyx or tyx",
        "shape": space if sections == 1 else [sections, *space],
        "pixels": str(stored.pixels.dtype.newbyteorder("=")),
        "pixel_size": stored.geometry.pixel_size,
        "voxel_size": stored.geometry.voxel_size,
        "statistics_of": "the sum of all fractions" if events else "all pixels",
        "minimum": _finite(found.minimum),
        "maximum": _finite(found.maximum),
        "mean": _finite(found.mean),
        "sd": _finite(found.sd),
        "not_finite": found.not_finite,
        "labels": list(stored.geometry.labels),
        **serves,
    }


def _serves_as(path: Path, sections: int, says: str, levels: tuple[float, float]) -> dict[str, Any]:
    """What the file can be used for; for a half, which one, its scene, and where its partner is."""
    from deice.scenes import half_of

    half = half_of(path)
    lowest, mean = levels
    picture = ["gain reference"] if path.suffix.lower() in (".gain", ".dm4") else ["micrograph"]
    if picture == ["micrograph"] and lowest >= 0 and 0.8 < mean < 1.25:  # a gain is positive, and 1 on the mean
        picture.append("gain reference")
    serves = picture if sections == 1 else {"zyx": ["tomogram"], "tyx": ["movie"]}.get(says, ["tomogram", "movie"])
    if half is None:
        return {"serves_as": serves, "half": None}
    name, found = ("even", "odd")[half.place], half.partner.exists()
    kind = {"of": half.name, "which": name, "partner": str(half.partner), "partner_found": found}
    return {"serves_as": [f"{name} half of {half.name}", *serves], "half": kind}


def _finite(value: float) -> float | None:
    return value if value == value else None


def _lines(figures: dict[str, Any]) -> list[str]:
    size = figures["voxel_size"]
    rows = {
        "axes": "picture (y, x)" if figures["axes"] == "yx" else AXES.get(figures["axes"], AXES[""]),
        "size": " x ".join(str(n) for n in reversed(figures["shape"])) + f" {figures['pixels']}",
        "format": figures["format"],
        "pixel": "unknown: the header does not say" if size is None else f"{' x '.join(f'{s:.4g}' for s in size)} Å",
        "values": "none is finite",
        "serves as": ", ".join(figures["serves_as"]),
    }
    if figures["mean"] is not None:
        rows["values"] = "min {minimum:.6g}  max {maximum:.6g}  mean {mean:.6g}  sd {sd:.6g}".format(**figures)
    if figures["not_finite"]:
        rows["not finite"] = f"{figures['not_finite']} pixels"
    if figures["half"]:
        state = "there" if figures["half"]["partner_found"] else "missing"
        rows["partner"] = f"{figures['half']['partner']}: {state}"
    return [figures["file"], *(f"  {name:<11}{text}" for name, text in rows.items())]
