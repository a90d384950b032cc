"""The stream: windows cut on the fly from memory-mapped sources, in batches that any rank and any resume can find.

Which windows make batch k is a function of (seed, k) alone. So the position of a run is one number, the batches
consumed; each rank takes its own slice of the batch, and the order does not depend on how many ranks there are.
"""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from deice.errors import RecipeFault
from deice.ranks import ALONE, Ranks
from deice.sources import Source, windows_in


@dataclass(frozen=True)
class Place:
    """One window: the source's index and the origin of the cut."""

    source: int
    origin: tuple[int, ...]


class Order(Protocol):
    """Which windows make a batch."""

    @property
    def window(self) -> tuple[int, ...]: ...
    def batch(self, step: int) -> list[Place]: ...
    def resident(self, step: int) -> frozenset[int]:
        """Sources to hold in memory while this batch is cut."""
        ...


def draw_places(
    rng: np.random.Generator, sources: Sequence[Source], chosen: Sequence[int], window: Sequence[int], count: int
) -> list[Place]:
    """`count` windows anywhere in the `chosen` sources, each source as often as its size says."""
    sizes = np.array([windows_in(sources[i], window) for i in chosen], dtype=np.float64)
    picks = rng.choice(len(chosen), size=count, p=sizes / sizes.sum())
    places = []
    for pick, fractions in zip(picks.tolist(), rng.random((count, len(sources[0].region)))):
        index = chosen[pick]
        source = sources[index]
        cut = (1, *window) if source.packed else window
        origin = (start + int(f * (stop - start - w + 1)) for f, (start, stop), w in zip(fractions, source.region, cut))
        places.append(Place(index, tuple(origin)))
    return places


@dataclass(frozen=True)
class RandomOrder:
    """Every window from any source: best where random reads are cheap (local disks)."""

    sources: Sequence[Source]
    window: tuple[int, ...]
    count: int
    seed: int

    def batch(self, step: int) -> list[Place]:
        """The windows of batch `step`."""
        rng = np.random.default_rng([self.seed, step])
        return draw_places(rng, self.sources, range(len(self.sources)), self.window, self.count)

    def resident(self, step: int) -> frozenset[int]:
        """Nothing is held: windows are read from the mapped files."""
        return frozenset()


@dataclass(frozen=True)
class WindowOrder:
    """`held` files read whole at a time, many windows drawn from them, then the next: best for network disks."""

    sources: Sequence[Source]
    window: tuple[int, ...]
    count: int
    seed: int
    held: int = 4

    @cached_property
    def _steps_per_source(self) -> list[int]:
        return [max(1, windows_in(source, self.window) // self.count) for source in self.sources]

    def _group(self, step: int) -> list[int]:
        epoch, left = divmod(step, sum(self._steps_per_source))
        files = np.random.default_rng([self.seed, epoch, 1]).permutation(len(self.sources)).tolist()
        for start in range(0, len(files), self.held):
            group = files[start : start + self.held]
            left -= sum(self._steps_per_source[i] for i in group)
            if left < 0:
                return group
        raise AssertionError("a step lies in one of its epoch's groups")

    def batch(self, step: int) -> list[Place]:
        """The windows of batch `step`, all from the files of its group."""
        rng = np.random.default_rng([self.seed, step])
        return draw_places(rng, self.sources, self._group(step), self.window, self.count)

    def resident(self, step: int) -> frozenset[int]:
        """The files of the batch's group."""
        return frozenset(self._group(step))


ORDERS = {"random": RandomOrder, "window": WindowOrder}


def make_order(name: str, sources: Sequence[Source], window: tuple[int, ...], count: int, seed: int) -> Order:
    """The order called `name`."""
    if name not in ORDERS:
        raise RecipeFault(f"order is {name!r}; expected one of {', '.join(ORDERS)}")
    return ORDERS[name](sources, window, count, seed)


def steps_per_epoch(sources: Sequence[Source], window: Sequence[int], count: int) -> int:
    """Batches until as many pixels were shown as the sources hold."""
    return max(1, round(sum(windows_in(source, window) for source in sources) / count))


class Stream:
    """Batches (b, v, *window) on `device`, cut by threads into a ring of (pinned) buffers ahead of their use.

    A batch is valid until the next is asked for. `start`: the first batch; of `ranks` each takes its part.
    """

    def __init__(self, sources: Sequence[Source], order: Order, device: torch.device, start: int = 0,
                 ranks: Ranks = ALONE, threads: int = 4, ahead: int = 3):
        self.sources, self.order, self.device = sources, order, device
        self.position, self.ranks, self.ahead = start, ranks, ahead
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="deice-stream")
        self.ring: list[Tensor] = []
        self.held: dict[int, Source] = {}
        self.copies = torch.cuda.Stream(device) if device.type == "cuda" else None

    def batches(self) -> Generator[Tensor]:
        """Batches from the stream's position on, without end."""
        waiting: deque[tuple[Tensor, list[Future]]] = deque()
        asked = self.position
        try:
            while True:
                while len(waiting) < self.ahead:
                    waiting.append(self._ask(asked))
                    asked += 1
                buffer, cuts = waiting.popleft()
                for cut in cuts:
                    cut.result()
                batch, copied = self._to_device(buffer)
                self.position += 1
                yield batch
                if copied is not None:
                    copied.synchronize()  # long done: only now may the threads write into the buffer again
                self.ring.append(buffer)
        finally:
            self.threads.shutdown(wait=True, cancel_futures=True)

    def _to_device(self, buffer: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
        """The batch on the device; a GPU copies on a stream of its own while it computes."""
        if self.device.type != "cuda":
            return buffer, None
        with torch.cuda.stream(self.copies):
            batch = buffer.to(self.device, non_blocking=True)
            copied = torch.cuda.current_stream(self.device).record_event()
        torch.cuda.current_stream(self.device).wait_event(copied)
        batch.record_stream(torch.cuda.current_stream(self.device))
        return batch, copied

    def _ask(self, step: int) -> tuple[Tensor, list[Future]]:
        """Send the threads to cut this rank's part of batch `step`."""
        places = self.ranks.share(self.order.batch(step))
        readers = self._readers(self.order.resident(step))
        window = self.order.window
        buffer = self.ring.pop() if self.ring else torch.empty(
            (len(places), len(self.sources[0].views), *window), pin_memory=self.device.type == "cuda")
        rows = buffer.numpy()
        return buffer, [self.threads.submit(_cut, readers.get(p.source, self.sources[p.source]), p, window, rows[i])
                        for i, p in enumerate(places)]

    def _readers(self, wanted: frozenset[int]) -> dict[int, Source]:
        """The sources held in memory for a batch; files of an earlier group are let go."""
        if wanted != self.held.keys():
            kept = {i: self.held[i] for i in wanted & self.held.keys()}
            self.held = {}
            loads = {i: self.threads.submit(self.sources[i].resident) for i in sorted(wanted - kept.keys())}
            self.held = kept | {i: load.result() for i, load in loads.items()}
        return self.held


def _cut(source: Source, place: Place, window: tuple[int, ...], row: np.ndarray) -> None:
    row[:] = source.read(place.origin, window)
