"""deice info: what a file is, and what it can serve as."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

AXES = {"zyx": "volume (z, y, x)", "tyx": "frames (t, y, x)", "": "volume (z, y, x) or frames (t, y, x): give --axes"}


def info(
    *files: str,
    json: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
) -> None:
    """What each file is: axes, shape, format, pixel size, statistics, and what it can serve as.

    Example: deice info demo/halves/*.mrc --json info.json

    Parameters
    ----------
    files
        Files, globs or folders: MRC, TIFF, EER movies, DM4 gain references.
    json
        Write the figures to this file, "-" for stdout.
    """
    from deice.cli.figures import write_json
    from deice.cli.options import listen
    from deice.errors import BatchFailure, UserError
    from deice.scenes import expand

    listen()
    paths = expand(files)
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
    if failures:
        raise BatchFailure(failures, len(known))


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
