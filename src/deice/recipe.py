"""A recipe: a run's whole configuration, TOML in and out. One dataclass a component; unknown keys name the nearest."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from deice.errors import FileFault, RecipeFault
from deice.losses import Criterion
from deice.nets import NETS, Net, UNet
from deice.schedules import USUAL_WARMUP
from deice.schemes import SCHEMES, Noise2Noise, Scheme
from deice.settings import LENGTHS, Data, Training

USUAL_NET = {2: UNet(depth=4), 3: UNet(size=16, depth=2)}
USUAL_MINUTES = 10.0
USUAL_BATCH = {2: 16, 3: 4}
USUAL_WINDOW = {2: (128,), 3: (64,)}


@dataclass(frozen=True)
class Recipe:
    """Data, scheme, net and training: all that a run needs besides its folder. No net: the usual one (`completed`)."""

    data: Data = field(default_factory=Data)
    scheme: Scheme = field(default_factory=Noise2Noise)
    net: Net | None = None
    training: Training = field(default_factory=Training)

    @property
    def network(self) -> Net:
        """The net of a completed recipe."""
        assert self.net is not None, "a recipe is completed before its net is asked for"
        return self.net

    @property
    def criterion(self) -> Criterion:
        """What answers are judged by."""
        return Criterion.parse(self.training.loss or self.scheme.usual_loss)


def name_of(component: Scheme | Net) -> str:
    """The name under which a scheme or a net stands in a recipe."""
    for names in (SCHEMES, NETS):
        for name, kind in names.items():
            if type(component) is kind:
                return name
    raise AssertionError(f"{type(component).__name__} stands in no dict of names")


def from_table(table: Mapping[str, Any]) -> Recipe:
    """A recipe from nested tables such as TOML gives; raises RecipeFault for what it does not know.

    What the tables leave open is as the scheme's own `usual` tables say, if it has any, else as everywhere.
    """
    _known("the recipe", table, ["data", "scheme", "net", "training"])
    for section, content in table.items():
        if not isinstance(content, Mapping):
            raise RecipeFault(f"recipe: {section} is {content!r}; expected a table [{section}]")
    kind = SCHEMES.get(table.get("scheme", {}).get("name", ""))
    table = merged(getattr(kind, "usual", {}), table)
    return Recipe(
        _build(Data, table.get("data", {}), "[data]"),
        _named(SCHEMES, table.get("scheme", {}), "scheme", "noise2noise"),
        _named(NETS, table["net"], "net", "unet") if table.get("net") else None,
        _build(Training, table.get("training", {}), "[training]"),
    )


def to_table(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The recipe as nested tables, complete; what is None is left out."""
    sections: dict[str, dict[str, Any]] = {}
    for section in ("data", "scheme", "net", "training"):
        part = getattr(recipe, section)
        if part is None:
            continue
        named = {"name": name_of(part)} if section in ("scheme", "net") else {}
        values = {f.name: getattr(part, f.name) for f in fields(part)}
        given = {key: value for key, value in values.items() if value is not None}
        sections[section] = named | {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}
    return sections


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file."""
    return from_table(read_table(path))


def read_table(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; a file that is none is a FileFault."""
    try:
        return tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise FileFault(path, f"{error.strerror}; expected a recipe in TOML") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileFault(path, f"not TOML: {error}") from error


def to_toml(recipe: Recipe) -> str:
    """The recipe as TOML, complete, so that it runs again as it ran."""
    lines = []
    for section, content in to_table(recipe).items():
        lines += [f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in content.items()), ""]
    return "\n".join(lines)


def merged(table: Mapping[str, Any], over: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """`table` with the values of `over` that are not None: flags over a recipe. Another name brings its own fields."""
    result = {section: dict(content) if isinstance(content, Mapping) else content for section, content in table.items()}
    for section, content in over.items():
        given = {key: value for key, value in content.items() if value is not None}
        kept = result.get(section, {})
        if section == "training" and given.keys() & set(LENGTHS):
            kept = {key: value for key, value in kept.items() if key not in LENGTHS}
        if "name" in given and kept.get("name", given["name"]) != given["name"]:
            kept = {}
        if given:
            result[section] = {**kept, **given}
    return result


def completed(recipe: Recipe, axes: int) -> Recipe:
    """The recipe with what was left open set for images of `axes` axes: net, batch and window.

    One number for the window counts for every axis. Volumes cost far more a pixel, so their usual net is smaller.
    """
    window = recipe.data.window or USUAL_WINDOW[axes]
    if len(window) == 1:
        window = window * axes
    if len(window) != axes or min(window) < 1:
        raise RecipeFault(f"window is {list(window)}; expected one size, or {axes}, for images of {axes} axes")
    given = recipe.training
    warmup = USUAL_WARMUP[given.schedule] if given.warmup is None else given.warmup
    training = replace(given, batch=given.batch or USUAL_BATCH[axes], loss=str(recipe.criterion), warmup=warmup)
    if all(getattr(training, length) is None for length in LENGTHS):
        training = replace(training, minutes=USUAL_MINUTES)
    data = replace(recipe.data, window=tuple(window))
    return replace(recipe, data=data, net=recipe.net or USUAL_NET[axes], training=training)


def parse_component(text: str) -> dict[str, Any]:
    """"unet" or "unet:size=16,depth=4" → the table of a scheme or a net, as flags say it."""
    name, _, settings = text.partition(":")
    table: dict[str, Any] = {"name": name.strip()}
    for setting in filter(None, settings.split(",")):
        key, _, value = setting.partition("=")
        try:
            table[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            table[key.strip()] = value.strip()
    return table


def _named(names: Mapping[str, type], table: Mapping[str, Any], section: str, default: str) -> Any:
    name = table.get("name", default)
    if name not in names:
        near = _nearest(str(name), list(names))
        raise RecipeFault(f"{section} is {name!r}; expected one of {', '.join(names)}{near}")
    return _build(names[name], {k: v for k, v in table.items() if k != "name"}, f"[{section}] {name}")


def _build(kind: Any, table: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a table, each value checked against the type its field states."""
    known = {f.name: f.type.__name__ if type(f.type) is type else str(f.type) for f in fields(kind)}
    _known(where, table, list(known))
    return kind(**{key: _checked(where, key, value, known[key]) for key, value in table.items()})


def _checked(where: str, key: str, value: Any, kind: str) -> Any:
    if "tuple[" in kind:
        element = next(e for e in (int, float, str) if e.__name__ in kind)
        values = value if isinstance(value, list | tuple) else [value]
        if element is float:
            values = [float(v) if type(v) is int else v for v in values]
        if all(type(v) is element for v in values):
            return tuple(values)
    elif kind.startswith("float") and type(value) in (int, float):
        return float(value)
    elif type(value).__name__ == kind.split(" ")[0]:
        return value
    raise RecipeFault(f"{where}: {key} is {value!r}; expected {kind.replace(' | None', '')}")


def _known(where: str, table: Mapping[str, Any], known: list[str]) -> None:
    for key in table:
        if key not in known:
            raise RecipeFault(f"{where}: unknown key {key!r}; known: {', '.join(known)}{_nearest(key, known)}")


def _nearest(word: str, known: list[str]) -> str:
    near = get_close_matches(word, known, n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else ""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, list):
        return f"[{', '.join(_toml(v) for v in value)}]"
    return repr(value)
