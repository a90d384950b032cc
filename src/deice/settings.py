"""Settings of a run: what is learnt from, and how."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deice.errors import RecipeFault
from deice.io.tilts import checked_tilt_range
from deice.losses import Criterion
from deice.schedules import SCHEDULES

LENGTHS = ("steps", "epochs", "minutes")  # of a run: one of them


@dataclass(frozen=True)
class Data:
    """What is learnt from.

    `inputs`: files, globs and folders. `world`: instead of files, windows that are drawn while training goes on:
    pictures or tomograms. `target`: a folder of targets, named as the inputs. `axes`: zyx for volumes whose header
    does not say so. `window`: pixels along each axis of a training window (one number, or one per axis).
    `validation`: the share of images held out (of one image, the share of its longest axis). `order`: random, or
    window for network disks. `normaliser`: standard, clipped, percentile or none. `threads`: that read. `tilt_range`:
    first and last tilt in degrees of all tomograms, for schemes of the missing wedge (None: as the files beside each
    say).
    """

    inputs: tuple[str, ...] = ()
    world: str | None = None
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

    `batch`: windows that are in the network at once (0: the usual). `accumulate`: a step sums the gradients of so many
    batches, which equals a batch so many times larger, in the memory of one (but for batch norm, which sees each by
    itself). `loss`: as "mse+0.1*fourier" (empty: the scheme's usual one).
    `optimiser`: adamw or adam, at the peak rate `lr`, with `weight_decay` (adamw); gradients are cut at norm `clip`
    (0: never).
    `schedule` of the rate: it rises over the share `warmup` of the run (None: 0.02, of one_cycle 0.3), then cosine:
    falls to `final_lr` of its peak; one_cycle: rises and falls as a cosine, the momentum against it; constant: stays;
    plateau: is halved, down to `final_lr`, after every `plateau` validations without a better one.
    `precision`: auto, fp32, bf16, fp16 (with loss scaling).
    `average`: decay of the running mean of the weights that is judged and kept (0: the weights themselves).
    `turns`: flips and quarter turns. `contrast`, `brightness`: grey values times 1 ± contrast, plus ± brightness, in
    normalised grey values (0: as they are; with the standard normaliser not needed, see ops.greys).
    `coarse`: the run begins with images binned by 2 so many times, and comes to their full resolution, octave by
    octave, in its share `coarse_share`.
    `validate_every`: steps between validations on `validation_batches` fixed batches (0: a tenth of an epoch, at least
    50 steps). `patience`: stop after so many validations without a better one (0: never). `keep`: the models of the
    last so many validations stay in RUN/models, beside the best.
    `save_seconds`: between states on disk. `seed`: of weights, windows and noise.
    """

    batch: int = 0
    accumulate: int = 1
    loss: str = ""
    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    optimiser: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    schedule: str = "cosine"
    warmup: float | None = None
    final_lr: float = 0.01
    plateau: int = 3
    average: float = 0.99
    clip: float = 1.0
    turns: bool = True
    contrast: float = 0.0
    brightness: float = 0.0
    coarse: int = 0
    coarse_share: float = 0.3
    precision: str = "auto"
    validate_every: int = 0
    validation_batches: int = 8
    patience: int = 0
    keep: int = 0
    save_seconds: float = 60.0
    seed: int = 0

    def __post_init__(self):
        lengths = [value for value in (self.steps, self.epochs, self.minutes) if value is not None]
        least = {"batch": 0, "accumulate": 1, "weight_decay": 0, "final_lr": 0, "plateau": 1, "clip": 0, "coarse": 0,
                 "validate_every": 0, "validation_batches": 1, "patience": 0, "keep": 0, "save_seconds": 0, "seed": 0}
        expected = {name: (getattr(self, name) >= low, f"{low} or more") for name, low in least.items()}
        expected |= {name: (getattr(self, name) is None or getattr(self, name) > 0, "more than 0") for name in LENGTHS}
        expected |= {"lr": (0 < self.lr < math.inf, "a number above 0"),
                     "schedule": (self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
                     "warmup": (self.warmup is None or 0 <= self.warmup < 1, "0 to below 1"),
                     "average": (0 <= self.average < 1, "0 to below 1"),
                     "contrast": (0 <= self.contrast < 1, "0 to below 1"),
                     "brightness": (0 <= self.brightness < math.inf, "0 or more"),
                     "coarse_share": (0 < self.coarse_share <= 1, "a share above 0, 1 at most")}
        _expect("[training]", self, expected)
        if self.loss:
            Criterion.parse(self.loss)
        if len(lengths) > 1:
            raise RecipeFault("the length of the run is given more than once; expected one of steps, epochs, minutes")


def _expect(where: str, part: Any, rules: Mapping[str, tuple[bool, str]]) -> None:
    """RecipeFault for the first value whose rule is broken."""
    for name, (holds, expected) in rules.items():
        if not holds:
            raise RecipeFault(f"{where}: {name} is {getattr(part, name)}; expected {expected}")
