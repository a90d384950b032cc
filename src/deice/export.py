"""Export and import: which format a path means, and what must be said of files that say nothing themselves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deice.checkpoint import Model, load_model, save_model
from deice.errors import FileFault, RecipeFault
from deice.io import writable_folder
from deice.nets import parameters
from deice.onnx_model import export_onnx
from deice.recipe import completed, from_table, merged, parse_component, to_table
from deice.weight_dumps import DESCRIPTION, WEIGHTS, Layout, described, holds_dumps, read_dumps, write_dumps

ONNX, SAFETENSORS = ".onnx", ".safetensors"


def export(source: Path, out: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Write the model of `source` to `out` (.onnx, .safetensors, or else a folder of weight dumps); what was checked.

    options: order, mirrored, net, scheme, normaliser, axes, pixel_size; only those that were given. Raises UserError
    where the source is no model, an option is missing or means nothing here, or the ONNX file fails its check.
    """
    into_dumps = out.suffix not in (ONNX, SAFETENSORS)
    from_dumps = holds_dumps(source) or "net" in options
    if into_dumps and from_dumps:
        raise RecipeFault(f"{source} and {out} would both be weight dumps; go by way of a .safetensors model")
    meaningless = set(options) - {"order", "mirrored"} if into_dumps else set(options)
    if meaningless and not from_dumps:
        raise RecipeFault(f"{_flags(meaningless)}: said of weight dumps, but {source} holds none; leave it out")
    if not into_dumps and out.is_dir():
        raise FileFault(out, "a folder stands where the file should; expected another name")
    model = _from_dumps(source, options) if from_dumps else load_model(source)
    writable_folder(out.parent)
    figures: dict[str, Any] = {"parameters": parameters(model.module)}
    if out.suffix == ONNX:
        figures["differences"] = export_onnx(model, out)
    elif into_dumps:
        figures["files"] = write_dumps(out, model, _layout(out, options))
    else:
        save_model(out, model.module.state_dict(), model.recipe, model.axes, model.facts)
    return figures


def _from_dumps(folder: Path, options: Mapping[str, Any]) -> Model:
    """The model of a folder of dumps: what deice wrote beside them, or what the options say."""
    if not holds_dumps(folder):
        raise RecipeFault(f"{folder}: no file ends with {WEIGHTS}; expected a folder of weight dumps, or no --net")
    parts = {name: parse_component(options[name]) for name in ("net", "scheme") if name in options}
    table = merged(parts, {"data": {"normaliser": options.get("normaliser")}})
    said = described(folder)
    if said is not None:
        recipe, axes, facts, layout = said
        known = to_table(recipe) | {"": {"axes": axes, "pixel_size": facts.get("pixel_size"), **vars(layout)}}
        asked = table | {"": {name: value for name, value in options.items() if name in known[""]}}
        _agree(folder, asked, known)
        return read_dumps(folder, recipe, axes, layout, facts)
    if "net" not in options:
        raise RecipeFault(f"{folder}: weight dumps do not say what net they are; give --net residual_cnn or --net unet")
    axes, layout = options.get("axes", 2), _layout(folder, options)
    facts = {"pixel_size": options.get("pixel_size"), "imported": f"weight dumps, {layout.order} order"}
    return read_dumps(folder, completed(from_table(table), axes), axes, layout, facts)


def _agree(folder: Path, asked: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """RecipeFault where an option contradicts what deice wrote beside its dumps."""
    for section, values in asked.items():
        for name, value in values.items():
            if known[section].get(name) != value:
                raise RecipeFault(f"{folder / DESCRIPTION} says that {section} {name}".replace("  ", " ")
                                  + f" is {known[section].get(name)!r}, the command {value!r}; leave the option out")


def _layout(folder: Path, options: Mapping[str, Any]) -> Layout:
    """The layout that the options say."""
    if "order" not in options:
        raise RecipeFault(f"{folder}: a folder of weight dumps, whose files do not say how they lie; give --order c or "
                          f"--order fortran (a model's file ends with {ONNX} or {SAFETENSORS})")
    return Layout(options["order"], options.get("mirrored", False))


def _flags(names: set[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in sorted(names))
