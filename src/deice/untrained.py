"""A scheme that is trained on the very image it denoises."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deice.checkpoint import STATE, Model, load_model
from deice.nets import Net, UNet
from deice.recipe import LENGTHS, Recipe, from_table, merged, parse_component, read_table, to_table
from deice.scenes import Scene, open_views
from deice.training import run

log = logging.getLogger(__name__)
SAY_EVERY = 60.0  # seconds
MINUTES = 5.0  # of training an image, where nothing else is said


@dataclass(frozen=True)
class Untrained:
    """A recipe to train on each scene; the runs are kept in `folder`/<scene>, where a killed one goes on."""

    recipe: Recipe
    folder: Path
    device: str
    max_memory: int | None = None

    @classmethod
    def of(
        cls, scheme: str, recipe: Path | None, folder: Path, device: str, settings: Mapping[str, Any],
        max_memory: int | None = None,
    ) -> "Untrained":
        """From a scheme as flags say it, a recipe's file or None, and what is said of tilts, length and seed."""
        table = merged(read_table(recipe) if recipe else {}, {"scheme": parse_component(scheme)})
        table = merged(table, {"data": {"tilt_range": settings.get("tilt_range")}})
        length = {name: settings[name] for name in ("minutes", "steps", "seed")}
        table = merged(table, {"training": length})
        if not any(table.get("training", {}).get(name) for name in LENGTHS):
            table = merged(table, {"training": {"minutes": MINUTES}})
        return cls(from_table(table), folder, device, max_memory)

    def model(self, scene: Scene, axes: str | None) -> Model:
        """The model trained on `scene`; a finished run is not trained again."""
        out = self.folder / scene.name
        data = {"axes": axes, "inputs": [str(path) for path in scene.files]}
        recipe = from_table(merged(to_table(self.recipe), {"data": data}))
        recipe = replace(recipe, net=_shallow_enough(recipe.net, scene, axes))
        best, said = None, time.monotonic()
        for step in run(recipe, scene.files, out, device=self.device, resume=(out / STATE).exists(),
                        max_memory=self.max_memory):
            best = step.validation if step.best else best
            if best is not None and time.monotonic() - said >= SAY_EVERY:
                said = time.monotonic()
                log.info("%s: training, %.0f %% of the run, best validation %.6g", scene.name, 100 * step.fraction,
                         best)
        # it learnt from this very image: a --pixel-size that corrects the header makes no difference to it
        return replace(load_model(out), pixel_size=None)


def _shallow_enough(net: Net | None, scene: Scene, axes: str | None) -> Net | None:
    """The net with fewer poolings where the scene is too small for those it has; a third of its longest axis counts."""
    if not isinstance(net, UNet):
        return net
    sizes = sorted(open_views(scene, axes)[0].space)
    sizes[-1] //= 3  # training and validation, with a gap between
    depth = net.depth
    while depth > 1 and 2**depth > min(sizes):
        depth -= 1
    if depth < net.depth:
        log.warning("%s: too small for a network of %d poolings; %d are used", scene.name, net.depth, depth)
    return replace(net, depth=depth)
