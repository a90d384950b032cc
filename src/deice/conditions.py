"""Conditions: where an image is denoised, within what memory, and beside what other work."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from deice.devices import memory_left
from deice.lanes import Lane


@dataclass(frozen=True)
class Conditions:
    """Where and within what memory; `tile`: the core's length along each axis (None: what the memory allows).

    `lane`: the place of this image among others that are worked on at the same time; None: it is alone. `granted`:
    bytes that they may all take together, counted before the work, so that no plan depends on how far the others are;
    None: what is free now. `reserve`: bytes of it that are spoken for. `calibration`: whether a network's answer is
    calibrated on the very picture (None: if the model says so). `uncertainty`: whether its standard error is wanted.
    """

    device: torch.device
    precision: str = "auto"
    max_memory: int | None = None
    tile: int | None = None
    lane: Lane | None = None
    granted: int | None = None
    reserve: int = 0
    calibration: bool | None = None
    uncertainty: bool = False

    def memory_left(self) -> int:
        """Bytes that may still be taken."""
        left = memory_left(self.device, self.max_memory) if self.granted is None else self.granted
        return left - self.reserve

    @property
    def in_flight(self) -> int:
        """How many images are worked on at the same time."""
        return 1 if self.lane is None else self.lane.in_flight

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Within it the image is at the stage `name` of `lanes.STAGES`."""
        return nullcontext() if self.lane is None else self.lane.stage(name)

    def check(self) -> None:
        """Raises Stopped where the work is no longer wanted."""
        if self.lane is not None:
            self.lane.check()
