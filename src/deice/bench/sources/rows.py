"""The rows of the tables: what each one trains, on which pictures, and about how long that takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from deice.bench.sources.data import Scale
from deice.recipe import Recipe, completed, from_table, merged, name_of

DEPTHS, SEEDS = (3, 7, 12, 15), (0, 1)
FOURIER = {"fourier_0.05": "mse+0.05*fourier", "fourier_0.1": "mse+0.1*fourier", "fourier_0.2": "mse+0.2*fourier"}
OTHERS = {"ssim": "mse+0.1*ssim", "gradient": "mse+gradient", "multiscale": "mse+multiscale",
          "mix_two": "mse+0.1*ssim+gradient", "mix_three": "mse+0.05*fourier+0.1*ssim+gradient"}
LOSSES = {"mse": "mse"} | FOURIER | OTHERS
ROUNDS = 2  # of the times, the losses in turn
SET_UP = 15.0  # seconds to start and to judge
MILLISECONDS = {"residual_cnn": 3.3, "unet": 27.0}  # a training step, per megapixel (and layer); one H200 alone

CNN, UNET = {"name": "residual_cnn"}, {"name": "unet"}
PAIRS = {"scheme": {"name": "supervised", "directed": True}}
RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "supervised_cnn": PAIRS | {"data": {"window": 1024}, "net": CNN, "training": {"batch": 1, "steps": 700}},
    "supervised_unet": PAIRS | {"data": {"window": 1024}, "net": UNET | {"depth": 4},
                                "training": {"batch": 1, "steps": 700}},
    "depths": PAIRS | {"data": {"window": 128}, "net": CNN,
                       "training": {"batch": 16, "steps": 1000, "optimiser": "adam", "schedule": "constant",
                                    "warmup": 0.0, "average": 0.0, "clip": 0.0, "validate_every": 50}},
    "losses": PAIRS | {"data": {"window": 128}, "net": CNN,
                       "training": {"batch": 16, "steps": 1000, "validate_every": 100}},
    "movies_cnn": {"data": {"window": 64}, "net": CNN, "training": {"batch": 32, "epochs": 10.0, "optimiser": "adam"}},
    "movies_default": {"data": {"window": 128}, "net": UNET | {"depth": 4}, "training": {"batch": 16, "steps": 2000}},
    "levels": PAIRS | {"data": {"window": 512}, "net": UNET,
                       "training": {"batch": 2, "steps": 1500, "optimiser": "adam"}},
}


@dataclass(frozen=True)
class Row:
    """One training with its measurement. pictures: what it learns from and is judged on.

    recipe: a name of RECIPES, none for the filters that need no training.  changes: tables over that recipe.
    timed: a loss whose time is taken beside that of the recipe's, instead of a training.  alone: it states a time, so
    nothing else may run beside it.
    """

    name: str
    tables: tuple[str, ...]
    pictures: str
    recipe: str = ""
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    timed: str = ""
    alone: bool = False

    def full_recipe(self, scale: Scale) -> Recipe:
        """The complete recipe of this row at a scale."""
        return at_scale(recipe_of(self.recipe, self.changes), scale)

    def seconds(self, scale: Scale) -> float:
        """About how long it takes alone on one H200."""
        if not self.recipe:
            return 2 * SET_UP
        recipe = self.full_recipe(scale)
        net, training = recipe.network, recipe.training
        patches = 73 * scale.train  # of an epoch of 64² patches
        steps = training.steps or (training.epochs or 1.0) * patches / training.batch
        layers = getattr(net, "depth", 1) if name_of(net) == "residual_cnn" else 1
        megapixels = training.batch * prod(recipe.data.window) / 1e6
        runs = 2 * ROUNDS if self.timed else 1
        return SET_UP + runs * steps * megapixels * layers * MILLISECONDS[name_of(net)] / 1e3


def recipe_of(name: str, changes: Mapping[str, Mapping[str, Any]] | None = None) -> Recipe:
    """A recipe of RECIPES, complete; `changes`: tables over it."""
    return completed(from_table(merged(RECIPES[name], changes or {})), 2)


def at_scale(recipe: Recipe, scale: Scale) -> Recipe:
    """The recipe with its length and batch cut down to a scale."""
    if scale.share == 1:
        return recipe
    training = recipe.training
    steps = None if training.steps is None else max(3, round(scale.share * training.steps))
    epochs = None if training.epochs is None else 1.0
    return replace(recipe, training=replace(training, steps=steps, epochs=epochs,
                                            batch=min(training.batch, scale.batch)))


def _supervised() -> list[Row]:
    return [Row(f"{pictures}_{net}", (f"v33_{pictures}",), pictures, f"supervised_{net}")
            for pictures in ("clean", "shot") for net in ("cnn", "unet")]


def _depths() -> list[Row]:
    """Two seeds on the clean target, one on the noisy one."""
    runs = [("clean", depth, seed) for depth in DEPTHS for seed in SEEDS] + [("shot", depth, 0) for depth in DEPTHS]
    return [Row(depth_row(pictures, depth, seed), (f"v32_{pictures}",), pictures, "depths",
                {"net": {"depth": depth}, "training": {"seed": seed}}) for pictures, depth, seed in runs]


def _losses() -> list[Row]:
    tables = {"mse": ("v29", "v31"), "fourier_0.1": ("v29", "v31")}
    return [Row(f"loss_{name}", tables.get(name, ("v29",) if name in FOURIER else ("v31",)), "clean", "losses",
                {"training": {"loss": text}}) for name, text in LOSSES.items()]


def depth_row(pictures: str, depth: int, seed: int) -> str:
    """The name of a row of the table of depths."""
    return f"depth_{depth}_{pictures}_seed_{seed}"


ROWS: tuple[Row, ...] = (
    Row("time_of_losses", ("v29",), "clean", "losses",
        {"data": {"window": 1024}, "training": {"batch": 4, "steps": 30, "validation_batches": 1}},
        timed="mse+0.1*fourier", alone=True),
    *_supervised(), *_depths(), *_losses(),
    Row("movies_cnn", ("n2n",), "packed", "movies_cnn", alone=True),
    Row("movies_default", ("n2n",), "movies", "movies_default"),
    Row("levels_unet", ("v28f",), "levels", "levels"),
    Row("filters_clean", ("v33_clean", "v32_clean", "v29", "v31"), "clean"),
    Row("filters_shot", ("v33_shot", "v32_shot"), "shot"),
    Row("filters_levels", ("v28f",), "levels"),
    Row("filters_movies", ("n2n",), "movies"),
)
