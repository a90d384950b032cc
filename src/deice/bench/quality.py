"""The quality suite: methods on simulated scenes whose truth is known, at several noise levels, in one table a level.

>>> from deice.bench.quality import Plan, run
>>> table = run("quality", Plan(suite="micrographs", minutes=8))      # also quality/quality.md, .csv, .json, .png
"""

import json
import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from deice.bench.cases import Case
from deice.bench.figure import panel, save
from deice.bench.judge import judged, picking_precision
from deice.bench.learning import OURS, Lesson, identity, learns, learnt
from deice.bench.methods import FITTED, Method, given_of, method_of, without_given
from deice.bench.micrographs import Micrographs
from deice.bench.page import as_markdown, write_tables
from deice.bench.suite import Extent, Scenery, Suite, level_name, write_json
from deice.bench.tables import table_of
from deice.bench.tomograms import Tomograms
from deice.devices import choose_device, machine
from deice.errors import RecipeFault
from deice.io import write
from deice.peers import CUTOFF, find_topaz
from deice.version import __version__

log = logging.getLogger(__name__)

NAME = "quality"  # of the files: quality.json and so on
SCENERIES: dict[str, Scenery] = {"micrographs": Micrographs(), "tomograms": Tomograms()}
EXTENTS = {"micrographs": Extent(), "tomograms": Extent(train=6, test=4, size=256)}
PEERS = ("topaz:unet", f"topaz:unet,cutoff={CUTOFF:g}", "topaz:unet-small", "topaz:fcnn")


@dataclass(frozen=True)
class Plan:
    """What is run. methods: besides those that stand in every table; none given: deice, and Topaz where it is known.

    recipe: of the method `deice` (the default recipe of `deice train`).  minutes: of training, instead of the
    recipe's.  topaz: its Python.  with_ice: judge against the truth with the structure of the ice.  figure: draw the
    figure, for which matplotlib must be there.  workers: scenes that are drawn at a time.
    """

    suite: str = "micrographs"
    extent: Extent = field(default_factory=Extent)
    methods: tuple[str, ...] = ()
    recipe: Path | None = None
    minutes: float | None = None
    device: str = "auto"
    topaz: Path | str | None = None
    with_ice: bool = False
    figure: bool = True
    workers: int = 1


def run(out: Path | str, plan: Plan = Plan()) -> dict[str, Any]:
    """Build what is missing, judge every method at every level, write quality.md, .csv, .json and .png into `out`.

    → {"suite", "machine", "seed", …, "levels": {level: {"facts": {…}, "methods": {name: figures}}}}. What is finished
    is not computed again. Raises UserError for methods, recipes or folders that are at fault.
    """
    out = Path(out)
    if plan.suite not in SCENERIES:
        raise RecipeFault(f"suite {plan.suite!r} is unknown; expected one of {', '.join(SCENERIES)}")
    suite = Suite(plan.suite, SCENERIES[plan.suite], plan.extent, out)
    names = chosen(plan)
    refuse_unknown(names, plan)
    _build(suite, plan)
    document = _heading(plan)
    entries = {}
    for level in plan.extent.levels:
        entries[level], training = _level(suite, level, names, plan)
        table = table_of(entries[level], training)
        document["levels"][f"{level:g}"] = {"facts": suite.facts(level), **table}
        write_tables(out, NAME, document, document["levels"], as_markdown(document))
    document["picking_ap_of_truth"] = _ceiling(suite.cases(plan.extent.levels[0], plan.with_ice))
    write_tables(out, NAME, document, document["levels"], as_markdown(document))
    if plan.figure:
        _draw(suite, names, entries)
    return document


def train(out: Path | str, plan: Plan = Plan()) -> None:
    """Only draw the scenes and train what learns: for a machine with a GPU whose runs are judged on another one.

    `run` in a copy of the folders snr_LEVEL/METHOD/run finds the models trained, whatever the device was.
    """
    names = chosen(plan)
    refuse_unknown(names, plan)
    suite = Suite(plan.suite, SCENERIES[plan.suite], plan.extent, Path(out))
    _build(suite, plan)
    for level in plan.extent.levels:
        for name in filter(learns, names):
            learnt(name, lesson_of(suite, level, plan), run_folder(suite, level, name))


def _build(suite: Suite, plan: Plan) -> None:
    for done, total in suite.build(plan.workers):
        if done == total or done % 10 == 0:
            log.info("%s: %d of %d scenes drawn", suite.kind, done, total)


def lesson_of(suite: Suite, level: float, plan: Plan) -> Lesson:
    """What is learnt from at a level, and how."""
    return Lesson(suite.training_halves(level), choose_device(plan.device), plan.recipe, plan.minutes,
                  plan.extent.seed, find_topaz(plan.topaz))


def run_folder(suite: Suite, level: float, name: str) -> Path:
    """Where a method is trained; one run serves it whatever it is given."""
    return suite.folder / level_name(level) / file_name(without_given(name)) / "run"


def extent_of(suite: str, **given: Any) -> Extent:
    """The suite's usual extent, with whatever of `given` is not None."""
    if suite not in EXTENTS:
        raise RecipeFault(f"suite {suite!r} is unknown; expected one of {', '.join(SCENERIES)}")
    return replace(EXTENTS[suite], **{key: value for key, value in given.items() if value is not None})


def chosen(plan: Plan) -> list[str]:
    """The methods in the order of the table."""
    others = plan.methods
    if not others:
        flat = plan.suite == "micrographs"
        others = (OURS, *(PEERS if flat and find_topaz(plan.topaz) else ()))
    return list(dict.fromkeys([*FITTED, *others]))


def refuse_unknown(names: Sequence[str], plan: Plan) -> None:
    """RecipeFault for a method, recipe or Topaz that is not there, before any work."""
    if len(set(map(label, names))) < len(names):
        raise RecipeFault(f"methods {', '.join(names)}: two bear one name; expected recipes of different file names")
    if plan.with_ice and not SCENERIES[plan.suite].knows_ice:
        raise RecipeFault(f"--with-ice: the truth of {plan.suite} holds no ice; leave it out")
    lesson = Lesson((), choose_device(plan.device), plan.recipe, plan.minutes, topaz=find_topaz(plan.topaz))
    for name in names:
        if learns(name) and not plan.extent.train:
            raise RecipeFault(f"{name} learns, but there are no training scenes; expected --train of 1 or more")
        if learns(name):
            identity(name, lesson)
        else:
            method_of(name, lesson.topaz, truth=True)


def _level(
    suite: Suite, level: float, names: Sequence[str], plan: Plan
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, dict[str, Any]]]:
    """The judge's entries of each method at one level, and what is to be said of their training."""
    folder = suite.folder / level_name(level)
    lesson = lesson_of(suite, level, plan)
    cases = suite.cases(level, plan.with_ice)
    entries, training = {}, {}
    for name in names:
        said: dict[str, Any] = {}
        method: Method
        if learns(name):
            method, said = learnt(name, lesson, run_folder(suite, level, name))
        else:
            method = method_of(name, lesson.topaz, truth=True)
        training[label(name)] = said
        about = identity(name, lesson) | {"device": lesson.device.type, "with_ice": plan.with_ice, "training": said}
        found = entries[label(name)] = entries_of(method, cases, about, folder / file_name(name), lesson.device)
        log.info("level %g: %s, PSNR %.2f dB", level, label(name),
                 sum(one["figures"]["psnr"] for one in found) / len(found))
    return entries, training


def entries_of(
    method: Method, cases: Sequence[Case], about: dict[str, Any], folder: Path, device: torch.device
) -> list[dict[str, Any]]:
    """What the judge says of each case; taken from the disk where the same was judged before of the same pictures.

    Writes the estimates, NAME.mrc, and figures.json into `folder`.
    """
    path = folder / "figures.json"
    about = json.loads(json.dumps(about))
    if path.exists():
        known = json.loads(path.read_text())
        prints = [case.open().fingerprint for case in cases]
        if known["about"] == about and [entry["fingerprint"] for entry in known["entries"]] == prints:
            return known["entries"]
    entries = []
    for known, answer in method.answers(cases, device):
        write(folder / f"{known.name}.mrc", answer.image.numpy(), known.geometry, label=about["method"])
        entries.append(judged(known, answer))
    write_json(path, {"about": about, "entries": entries})
    return entries


def label(method: str) -> str:
    """A method as a table names it: a recipe without its folder."""
    recipe = without_given(method)
    return Path(recipe).stem + given_of(method) if recipe.endswith(".toml") else method


def file_name(method: str) -> str:
    """A method as a folder's name."""
    return re.sub(r"[^A-Za-z0-9.=_@-]+", "_", method.removesuffix(".toml"))


def _heading(plan: Plan) -> dict[str, Any]:
    extent = {key: value for key, value in asdict(plan.extent).items() if key != "levels"}
    return {"suite": plan.suite, **extent, "deice": __version__, "machine": machine(), "command": " ".join(sys.argv),
            "minutes": plan.minutes, "recipe": plan.recipe and str(plan.recipe),
            "truth": "with the structure of the ice" if plan.with_ice else "in smooth ice", "levels": {}}


def _ceiling(cases: Sequence[Case]) -> float | None:
    """Mean average precision of the picker in the truth itself: what no denoiser need pass."""
    found = [picking_precision(known.truth, known) for known in (case.open() for case in cases)
             if known.truth is not None]
    kept = [value for value in found if value is not None]
    return sum(kept) / len(kept) if kept else None


def _draw(suite: Suite, names: Sequence[str], entries: dict[float, dict[str, list[dict[str, Any]]]]) -> None:
    """Crops of the first scene and mean FRC, a row a level."""
    rows = []
    for level, by_method in entries.items():
        first = suite.cases(level)[0]
        shown = [name for name in names if name != "pointwise"]  # it looks like `noisy`
        crops = {label(n): suite.folder / level_name(level) / file_name(n) / f"{first.name}.mrc" for n in shown}
        if first.truth is not None:
            crops["truth"] = first.truth
        rows.append(panel(f"signal/noise {level:g}", crops, by_method))
    save(suite.folder / f"{NAME}.png", rows, f"{suite.kind}: the middle of {first.name}; FRC or FSC with the truth, "
                                             f"mean of {suite.extent.test} scenes")
