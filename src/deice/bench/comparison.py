"""Methods side by side on a user's own files: against a truth where there is one, between halves where not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deice.bench.cases import Case, cases_of
from deice.bench.figure import panel, save
from deice.bench.methods import method_of
from deice.bench.page import COLUMN_NOTES, write_tables
from deice.bench.quality import entries_of, file_name
from deice.bench.tables import columns_of, table_of
from deice.checkpoint import MODEL
from deice.devices import choose_device, machine
from deice.errors import RecipeFault
from deice.io import writable_folder
from deice.peers import find_topaz
from deice.scenes import expand, group
from deice.tables import markdown
from deice.version import __version__

NAME = "table"  # of the files: table.json and so on
BASELINES = ("noisy", "pointwise", "gaussian", "wiener")  # with a truth; tegunov too where the pixel size is known


@dataclass(frozen=True)
class Files:
    """What is compared on. inputs: files, globs or folders; halves are paired by name.  truth: a folder of noiseless
    images of the same names.  axes: "zyx" where a header does not say that three axes are a volume.  pixel_size: Å."""

    inputs: Sequence[str]
    truth: Path | None = None
    axes: str | None = None
    pixel_size: float | None = None


def compare_files(
    files: Files, methods: Sequence[str], out: Path, *, device: str = "auto", topaz: Path | str | None = None,
    figure: bool = True,
) -> dict[str, Any]:
    """Denoise every file by every method; write table.md, .csv, .json, .png and METHOD/NAME.mrc into `out`.

    → {"n", "machine", "methods": {name: figures}}. Against a truth the table holds noisy, pointwise, gaussian, wiener
    and tegunov besides; between halves the noisy input alone. Raises UserError for what is at fault, before any work
    where it can be seen then.
    """
    if not methods:
        raise RecipeFault("no method to compare; expected --methods a,b,c, such as gaussian:sigma=3 or a run's folder")
    paths = expand(files.inputs)
    cases = cases_of(group(paths), files.truth, files.axes, files.pixel_size)
    names = list(dict.fromkeys([*_baselines(cases), *methods]))
    python = find_topaz(topaz)
    known = {name: method_of(name, python, truth=files.truth is not None) for name in names}
    _refuse_overwriting(paths, out, names, cases)
    writable_folder(out)
    where = choose_device(device)
    entries = {}
    for name, method in known.items():
        about = {"method": name, "device": where.type, **_stamp(name)}
        entries[name] = entries_of(method, cases, about, out / file_name(name), where)
    table = {"n": len(cases), "deice": __version__, "machine": machine(), **table_of(entries, {})}
    write_tables(out, NAME, table, {"": table}, as_markdown(table))
    if figure:
        _draw(out, names, cases[0], entries)
    return table


def as_markdown(table: dict[str, Any]) -> str:
    """The table with what its columns mean."""
    columns = columns_of(table)
    return f"{markdown(table, columns)}\n\n{COLUMN_NOTES}\n{table['machine']}, deice {table['deice']}\n"


def _baselines(cases: Sequence[Case]) -> list[str]:
    """What stands in every table: what a denoiser must beat."""
    if any(case.truth is None for case in cases):
        return ["noisy"]
    sized = all(case.pixel_size or case.open().pixel_size for case in cases)
    return [*BASELINES, *(["tegunov"] if sized else [])]


def _refuse_overwriting(inputs: Sequence[Path], out: Path, names: Sequence[str], cases: Sequence[Case]) -> None:
    """RecipeFault where an estimate would be written over an input, or two methods into one folder."""
    taken = {path.resolve() for path in inputs}
    folders = {name: out / file_name(name) for name in names}
    if len(set(folders.values())) < len(names):
        raise RecipeFault(f"methods {', '.join(names)}: two would be written into one folder; expected distinct names")
    for folder in folders.values():
        for case in cases:
            if (folder / f"{case.name}.mrc").resolve() in taken:
                raise RecipeFault(f"{folder / case.name}.mrc: would overwrite an input; choose another -o")


def _stamp(name: str) -> dict[str, Any]:
    """When a model's file was written: another model under the same name is another method."""
    path = Path(name.split("@")[0])
    path = path / MODEL if path.is_dir() else path
    return {"written": path.stat().st_mtime} if path.is_file() else {}


def _draw(out: Path, names: Sequence[str], first: Case, entries: dict[str, list[dict[str, Any]]]) -> None:
    crops = {name: out / file_name(name) / f"{first.name}.mrc" for name in names if name != "pointwise"}
    if first.truth is not None:
        crops["truth"] = first.truth
    with_what = "between denoised halves" if first.truth is None else "with the truth"
    note = f"the middle of {first.name}; FRC or FSC {with_what}, mean of {len(entries[names[0]])}"
    save(out / f"{NAME}.png", [panel(first.name, crops, entries)], note)


