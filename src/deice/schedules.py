"""Schedules: the learning rate as a share of its peak, and how coarse windows are, by the share of the run done."""

import math
from collections.abc import Callable

USUAL_WARMUP = {"cosine": 0.02, "plateau": 0.02, "constant": 0.02, "one_cycle": 0.3}  # share of the run
LOWEST = 0.01  # of the peak, where the warm-up begins
CYCLE_START = 1 / 25  # of the peak, where one cycle begins


def cosine(done: float, warmup: float, final: float) -> float:
    """A linear rise over the share `warmup`, then a cosine down to the share `final` of the peak."""
    return max(done / warmup, LOWEST) if done < warmup else _fall(done, warmup, final)


def one_cycle(done: float, warmup: float, final: float) -> float:
    """A cosine from a 25th of the peak up over the share `warmup`, then a cosine down to the share `final`.

    Source: Smith & Topin, arXiv 1708.07120 (2018). `momentum` goes the other way.
    """
    if done >= warmup:
        return _fall(done, warmup, final)
    return CYCLE_START + (1 - CYCLE_START) * (1 - math.cos(math.pi * done / warmup)) / 2


def constant(done: float, warmup: float, final: float) -> float:
    """A linear rise over the share `warmup`, then the peak; a plateau's halvings come on top."""
    return max(done / warmup, LOWEST) if done < warmup else 1.0


def momentum(done: float, warmup: float) -> float:
    """The first moment's decay under one cycle: 0.95, down to 0.85 at the peak of the rate, and back."""
    rate = one_cycle(done, warmup, CYCLE_START)
    return 0.95 - 0.1 * (rate - CYCLE_START) / (1 - CYCLE_START)


def _fall(done: float, warmup: float, final: float) -> float:
    fallen = (done - warmup) / max(1 - warmup, 1e-9)
    return final + (1 - final) * (1 + math.cos(math.pi * min(1.0, fallen))) / 2


SCHEDULES: dict[str, Callable[[float, float, float], float]] = {
    "cosine": cosine, "plateau": constant, "one_cycle": one_cycle, "constant": constant,
}


def octaves(done: float, coarse: int, share: float) -> int:
    """How often windows are halved when `done` of the run is over: `coarse` times at first, 0 from `share` on."""
    return coarse - int(done / share * coarse) if coarse and done < share else 0
