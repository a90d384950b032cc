"""A scheme that is trained on the very image it denoises."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deice.checkpoint import STATE, Model, load_model
from deice.errors import RecipeFault
from deice.recipe import LENGTHS, Recipe, from_table, merged, read_table, to_table
from deice.scenes import Scene
from deice.training import run

log = logging.getLogger(__name__)
MINUTES = 5.0  # of training an image, where nothing else is said


@dataclass(frozen=True)
class Untrained:
    """A recipe to train on each scene; the runs are kept in `folder`/<scene>, where a killed one goes on."""

    recipe: Recipe
    folder: Path
    device: str

    @classmethod
    def of(
        cls, scheme: str, recipe: Path | None, folder: Path, device: str, settings: Mapping[str, Any]
    ) -> "Untrained":
        """From a scheme's name, a recipe's file or None, and what is said of minutes, steps and seed."""
        table = merged(read_table(recipe) if recipe else {}, {"scheme": {"name": scheme}})
        length = {name: settings[name] for name in ("minutes", "steps", "seed")}
        table = merged(table, {"training": length})
        if not any(table.get("training", {}).get(name) for name in LENGTHS):
            table = merged(table, {"training": {"minutes": MINUTES}})
        complete = from_table(table)
        if complete.scheme.views_needed > 1:
            raise RecipeFault(f"{scheme} needs {complete.scheme.views_needed} views of each scene to learn from: "
                              "run deice train on the halves, or use noise2void")
        return cls(complete, folder, device)

    def model(self, scene: Scene, axes: str | None) -> Model:
        """The model trained on `scene`; a finished run is not trained again."""
        out = self.folder / scene.name
        data = {"axes": axes, "inputs": [str(path) for path in scene.files]}
        recipe = from_table(merged(to_table(self.recipe), {"data": data}))
        for step in run(recipe, scene.files, out, device=self.device, resume=(out / STATE).exists()):
            if step.validation is not None:
                log.debug("%s: step %d, validation %.6g", scene.name, step.step, step.validation)
        # it learnt from this very image: a --pixel-size that corrects the header makes no difference to it
        return replace(load_model(out), pixel_size=None)

