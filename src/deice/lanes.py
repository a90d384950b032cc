"""Lanes: several files in flight, each at another stage; the network of a device is used in turn, every stage timed."""

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar

import torch

U = TypeVar("U")  # a unit of work
P = TypeVar("P")  # a place for it
R = TypeVar("R")  # its result
READING, UPLOADING, NETWORK, DOWNLOADING, WRITING = STAGES = (
    "reading", "uploading", "network", "downloading", "writing")  # fmt: skip


class Stopped(Exception):
    """The work was given up before it was done."""


@dataclass
class Clock:
    """Seconds that the files of a batch spent at each stage, together; with several in flight more than have passed."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    begun: float = field(default_factory=time.perf_counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, stage: str, seconds: float) -> None:
        """Count `seconds` of one file."""
        with self.lock:
            self.seconds[stage] += seconds

    def passed(self) -> float:
        """Seconds since the batch began."""
        return time.perf_counter() - self.begun

    def shares(self) -> str:
        """The stages in per cent of the seconds that passed."""
        passed = max(self.passed(), 1e-9)
        return ", ".join(f"{stage} {100 * seconds / passed:.0f} %" for stage, seconds in self.seconds.items())


@dataclass(frozen=True)
class Lane:
    """Where one file after the other is worked on. Lanes of a device share `turn`; all share `clock` and `stop`.

    On a GPU each lane copies on a stream of its own, and all networks run on the device's current one, so that copies
    and networks overlap and the networks' memory is used again.
    """

    device: torch.device
    in_flight: int
    turn: threading.Lock
    clock: Clock
    stop: threading.Event
    stream: Any = None

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Within it the file is at the stage `name`; for the network it waits for its turn."""
        self.check()
        if name == NETWORK:
            with self._network():
                yield
            return
        begun = time.perf_counter()
        with torch.cuda.stream(self.stream) if self.stream else nullcontext():
            yield
        self.clock.add(name, time.perf_counter() - begun)

    @contextmanager
    def _network(self) -> Generator[None]:
        """The turn ends when all is asked of a GPU, not when it is done: the next file's network follows at once."""
        if self.stream is None:
            with self.turn:
                self.check()
                begun = time.perf_counter()
                yield
                self.clock.add(NETWORK, time.perf_counter() - begun)
            return
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with self.turn, torch.cuda.device(self.device):
            self.check()
            shared = torch.cuda.current_stream()
            shared.wait_stream(self.stream)
            start.record(shared)
            yield
            end.record(shared)
        end.synchronize()
        self.clock.add(NETWORK, start.elapsed_time(end) / 1000)

    def check(self) -> None:
        """Raises Stopped where the work is no longer wanted."""
        if self.stop.is_set():
            raise Stopped


def lanes(devices: Sequence[torch.device], each: int, clock: Clock) -> list[Lane]:
    """`each` lanes on each device; the devices take turns in the list, so that the first files go to all of them."""
    stop, turns = threading.Event(), [threading.Lock() for _ in devices]
    return [Lane(device, each, turn, clock, stop, _stream(device))
            for _ in range(each) for device, turn in zip(devices, turns)]


def _stream(device: torch.device) -> Any:
    return torch.cuda.Stream(device) if device.type == "cuda" else None


def in_order(
    work: Callable[[U, P], R], units: Sequence[U], places: Sequence[P], stop: threading.Event
) -> Iterator[R]:
    """`work`(unit, place) of every unit, as many at once as there are places; the results in the units' order.

    Where the caller goes away, or a unit raises, `stop` is set and what is under way is waited for: nothing is left
    running, and no unit begins after that.
    """
    idle: SimpleQueue[P] = SimpleQueue()
    for place in places:
        idle.put(place)

    def on_an_idle_place(unit: U) -> R:
        place = idle.get()
        try:
            return work(unit, place)
        finally:
            idle.put(place)

    with ThreadPoolExecutor(len(places), "deice") as pool:
        futures = [pool.submit(on_an_idle_place, unit) for unit in units]
        try:
            for future in futures:
                yield future.result()
        finally:
            stop.set()
            for future in futures:
                future.cancel()
