"""A recipe: a run's whole configuration, TOML in and out. One dataclass a component; unknown keys name the nearest."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from deice.errors import FileFault, RecipeFault
from deice.io.tilts import checked_tilt_range
from deice.losses import Criterion
from deice.nets import NETS, Net, UNet
from deice.schemes import SCHEMES, Noise2Noise, Scheme

USUAL_NET = {2: UNet(depth=4), 3: UNet(size=16, depth=2)}
USUAL_MINUTES = 10.0
USUAL_BATCH = {2: 16, 3: 4}
USUAL_WINDOW = {2: (128,), 3: (64,)}
LENGTHS = ("steps", "epochs", "minutes")  # of a run: one of them


@dataclass(frozen=True)
class Data:
    """What is learnt from.

    `inputs`: files, globs and folders. `target`: a folder of targets, named as the inputs. `axes`: zyx for volumes
    whose header does not say so. `window`: pixels along each axis of a training window (one number, or one per axis).
    `validation`: the share of images held out (of one image, the share of its longest axis). `order`: random, or
    window for network disks. `normaliser`: standard, percentile or none. `threads`: that read. `tilt_range`: first and
    last tilt in degrees of all tomograms, for schemes of the missing wedge (None: as the files beside each say).
    """

    inputs: tuple[str, ...] = ()
    target: str | None = None
    axes: str | None = None
    window: tuple[int, ...] = ()
    validation: float = 0.1
    order: str = "random"
    normaliser: str = "standard"
    threads: int = 4
    tilt_range: tuple[float, ...] | None = None

    def __post_init__(self):
        if self.tilt_range is not None:
            checked_tilt_range(self.tilt_range, "[data] tilt_range")
        _expect("[data]", self, {"validation": (0 < self.validation < 1, "a share between 0 and 1"),
                                 "threads": (self.threads >= 1, "1 or more"),
                                 "window": (all(w >= 1 for w in self.window), "1 or more")})


@dataclass(frozen=True)
class Training:
    """How it is learnt. One of `steps`, `epochs`, `minutes` ends the run; ten minutes where none is given.

    `batch`: windows a step (0: the usual). `loss`: as "mse+0.1*fourier" (empty: the scheme's usual one).
    `warmup`: share of the run in which the rate rises; then it falls as a cosine to `final_lr` of its peak.
    `optimiser`: adamw or adam, at the peak rate `lr`, with `weight_decay` (adamw); gradients are cut at norm `clip`
    (0: never). `turns`: flips and quarter turns. `precision`: auto, fp32, bf16, fp16.
    `average`: decay of the running mean of the weights that is judged and kept (0: the weights themselves).
    `save_seconds`: between states on disk. `seed`: of weights, windows and noise.
    `validate_every`: steps between validations on `validation_batches` fixed batches (0: a tenth of an epoch, at least
    50 steps). `patience`: stop after so many validations without a better one (0: never).
    """

    batch: int = 0
    loss: str = ""
    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    optimiser: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.02
    final_lr: float = 0.01
    average: float = 0.99
    clip: float = 1.0
    turns: bool = True
    precision: str = "auto"
    validate_every: int = 0
    validation_batches: int = 8
    patience: int = 0
    save_seconds: float = 60.0
    seed: int = 0

    def __post_init__(self):
        lengths = [value for value in (self.steps, self.epochs, self.minutes) if value is not None]
        expected = {name: (getattr(self, name) >= 0, "0 or more") for name in (
            "batch", "weight_decay", "final_lr", "clip", "validate_every", "patience", "save_seconds", "seed")}
        expected |= {name: (getattr(self, name) is None or getattr(self, name) > 0, "more than 0") for name in LENGTHS}
        expected |= {"lr": (0 < self.lr < math.inf, "a number above 0"),
                     "warmup": (0 <= self.warmup < 1, "0 to below 1"),
                     "average": (0 <= self.average < 1, "0 to below 1"),
                     "validation_batches": (self.validation_batches >= 1, "1 or more")}
        _expect("[training]", self, expected)
        if self.loss:
            Criterion.parse(self.loss)
        if len(lengths) > 1:
            raise RecipeFault("the length of the run is given more than once; expected one of steps, epochs, minutes")


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
    """A recipe from nested tables such as TOML gives; raises RecipeFault for what it does not know."""
    _known("the recipe", table, ["data", "scheme", "net", "training"])
    for section, content in table.items():
        if not isinstance(content, Mapping):
            raise RecipeFault(f"recipe: {section} is {content!r}; expected a table [{section}]")
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
    training = replace(recipe.training, batch=recipe.training.batch or USUAL_BATCH[axes],
                       loss=str(recipe.criterion))
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


def _expect(where: str, part: Any, rules: Mapping[str, tuple[bool, str]]) -> None:
    """RecipeFault for the first value whose rule is broken."""
    for name, (holds, expected) in rules.items():
        if not holds:
            raise RecipeFault(f"{where}: {name} is {getattr(part, name)}; expected {expected}")


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
