"""What stands in the table: each method, what it is given, and the recipe by which it is trained on that tomogram."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deice.recipe import Recipe, from_table, merged

RIVAL_BUDGET = 3.0  # times ours
PATIENCE = {"validate_every": 25, "validation_batches": 4, "patience": 8}  # of rivals: then validation is flat
Table = Mapping[str, Mapping[str, Any]]
HALVES, ALONE, FITTED = "halves", "alone", "fitted"
TRUTH = "truth"  # as a row: what the ridge detector finds without noise, and what leaks into the wedge


@dataclass(frozen=True)
class Method:
    """title: in the table.  given: the full tomogram alone, its two halves, or (filters) the truth to be fitted to.

    table: of the recipe, without its length; None for a filter.  ours: has the budget once, and not three times.
    """

    title: str
    given: str
    table: Table | None = None
    ours: bool = False

    def budget(self, seconds: float) -> float:
        """Seconds that it may train for, where ours have `seconds`."""
        return 0.0 if self.table is None else seconds * (1 if self.ours else RIVAL_BUDGET)

    def recipe(self, seconds: float, tilt_range: tuple[float, float], seed: int) -> Recipe:
        """The recipe for one tomogram, of `seconds` of training."""
        assert self.table is not None, "a filter is not trained"
        table = self.table if self.ours else merged(self.table, {"training": PATIENCE})
        training = {"minutes": seconds / 60, "seed": seed}
        given = {"data": {"tilt_range": tilt_range}} if self.tilted else {}
        return from_table(merged(table, {"training": training, **given}))

    @property
    def tilted(self) -> bool:
        """Whether it must know the tilts."""
        return self.table is not None and self.table["scheme"]["name"] in ("missing_wedge", "isonet")


WINDOW = {"window": [64], "axes": "zyx"}
SMALL = {"name": "unet", "size": 16, "depth": 2}
LARGE = {"name": "unet", "size": 32, "depth": 3}
ADAM = {"optimiser": "adam", "lr": 4e-4, "weight_decay": 0.0}

# Settings are the published ones (recipes/*.toml name the sources), but for what is counted in steps: iterations and
# refilling come sooner, since a row has minutes and not the published hours.
METHODS: dict[str, Method] = {
    "raw": Method("raw", ALONE),
    "gaussian": Method("Gaussian, the best", FITTED),
    "tegunov": Method("Wiener-like (Tegunov), the best", FITTED),
    "wiener": Method("Wiener, radial, from the truth", FITTED),
    "recorrupted": Method("**recorrupted, ours**", ALONE, {
        "scheme": {"name": "recorrupted"}, "net": SMALL, "data": {"window": [32], "axes": "zyx"},
        "training": {"batch": 8, "lr": 2e-3, "validate_every": 100}}, ours=True),
    "f2fd": Method("F2Fd, faithful", ALONE, {"scheme": {"name": "f2fd"}, "data": WINDOW}),
    "noise2void": Method("Noise2Void", ALONE, {
        "scheme": {"name": "noise2void", "share": 0.015}, "data": WINDOW,
        "net": {"name": "unet", "size": 32, "depth": 2, "norm": "batch"}, "training": ADAM | {"batch": 8}}),
    "noise2void_z": Method("Noise2Void, structured along z", ALONE, {
        "scheme": {"name": "noise2void", "share": 0.015, "structure": "z:4"}, "data": WINDOW,
        "net": {"name": "unet", "size": 32, "depth": 2, "norm": "batch"}, "training": ADAM | {"batch": 8}}),
    "self2self": Method("Self2Self(d), points", ALONE, {
        "scheme": {"name": "self2self"}, "data": WINDOW, "training": {"batch": 4}}),
    "self2self_blocks": Method("Self2Self(d), blocks", ALONE, {
        "scheme": {"name": "self2self", "mask": "blocks"}, "data": WINDOW, "training": {"batch": 4}}),
    "isonet": Method("IsoNet-like", ALONE, {
        "scheme": {"name": "isonet", "refresh": 40, "noise_start_iter": [3, 5, 7, 9]}, "data": WINDOW,
        "net": LARGE | {"norm": "batch", "dropout": 0.3},
        "training": ADAM | {"batch": 4, "schedule": "constant"}}),
    "missing_wedge": Method("DeepDeWedge-like", HALVES, {
        "scheme": {"name": "missing_wedge", "refresh": 100}, "data": WINDOW, "net": LARGE,
        "training": ADAM | {"batch": 8}}),
    "cryocare": Method("cryo-CARE", HALVES, {
        "scheme": {"name": "noise2noise", "of_average": False}, "data": {"window": [72], "axes": "zyx"},
        "net": {"name": "unet", "size": 16, "depth": 3, "widest": 128, "residual": True},
        "training": ADAM | {"batch": 16, "schedule": "plateau", "plateau": 10, "warmup": 0.0, "average": 0.0,
                            "clip": 0.0}}),
    "noise2noise": Method("**noise2noise, ours**", HALVES, {
        "scheme": {"name": "noise2noise"}, "net": SMALL, "data": {"window": [32], "axes": "zyx"},
        "training": {"batch": 8, "lr": 2e-3, "validate_every": 100}}, ours=True),
    TRUTH: Method("(the noiseless truth)", FITTED),
}
# In which order the methods of a scene are begun (legs.py says which come before those of all other scenes).
ORDER = ("raw", "gaussian", "tegunov", "wiener", "recorrupted", "noise2noise", "f2fd", "noise2void", "cryocare",
         "missing_wedge", "isonet", "self2self", "noise2void_z", "self2self_blocks", TRUTH)
