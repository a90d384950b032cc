"""The stream: windows cut on the fly from memory-mapped sources, in batches that any rank and any resume can find.

Which windows make batch k is a function of (seed, k) alone. So the position of a run is one number, the batches
consumed; each rank takes its own slice of the batch, and the order does not depend on how many ranks there are.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from deice.carrying import carried_as, normalise_rows, normalised, rows_of
from deice.errors import RecipeFault
from deice.groups import Groups, bytes_of
from deice.ops.normalise import Affine, all_finite
from deice.ranks import ALONE, Ranks
from deice.sources import Source, windows_in

HELD, HELD_BYTES = 4, 1 << 33  # of a group of window order: files, and bytes if there is more than one
SHARE = 1 << 20  # bytes that a thread cuts at a time, or more: where calls are short it waits for Python's lock


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
    def following(self, step: int) -> frozenset[int]:
        """Sources that will have to be held after those."""
        ...


def sizes_of(sources: Sequence[Source], window: Sequence[int]) -> np.ndarray:
    """How many windows each source counts for, (sources,)."""
    return np.array([windows_in(source, window) for source in sources], dtype=np.float64)


def draw_places(
    rng: np.random.Generator, order: "RandomOrder | WindowOrder", chosen: Sequence[int], sizes: np.ndarray
) -> list[Place]:
    """A batch of windows anywhere in the `chosen` sources, each source as often as its size of `sizes` says."""
    sources, window, count = order.sources, order.window, order.count
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

    @cached_property
    def _sizes(self) -> np.ndarray:
        return sizes_of(self.sources, self.window)

    def batch(self, step: int) -> list[Place]:
        """The windows of batch `step`."""
        rng = np.random.default_rng([self.seed, step])
        return draw_places(rng, self, range(len(self.sources)), self._sizes)

    def resident(self, step: int) -> frozenset[int]:
        """Nothing is held: windows are read from the mapped files."""
        return frozenset()

    def following(self, step: int) -> frozenset[int]:
        """Nor will anything be."""
        return frozenset()


@dataclass(frozen=True)
class WindowOrder:
    """`held` files read whole at a time, many windows drawn from them, then the next: best for network disks, and where
    the data are larger than the memory. While one group is cut from, the next is read.
    """

    sources: Sequence[Source]
    window: tuple[int, ...]
    count: int
    seed: int
    held: int = HELD

    @cached_property
    def _sizes(self) -> np.ndarray:
        return sizes_of(self.sources, self.window)

    @cached_property
    def _steps_per_source(self) -> np.ndarray:
        return np.maximum(1, self._sizes // self.count).astype(int)

    @cached_property
    def _steps(self) -> int:
        return int(self._steps_per_source.sum())  # of an epoch

    @cached_property
    def _epochs(self) -> dict[int, tuple[np.ndarray, list[int]]]:
        return {}  # what `_epoch` found for the last two

    def _epoch(self, epoch: int) -> tuple[np.ndarray, list[int]]:
        """The sources in the order of an epoch, and how many of its batches each group's end leaves behind."""
        if epoch not in self._epochs:
            self._epochs.pop(epoch - 2, None)
            files = np.random.default_rng([self.seed, epoch, 1]).permutation(len(self.sources))
            ends = np.cumsum(np.add.reduceat(self._steps_per_source[files], range(0, len(files), self.held)))
            self._epochs[epoch] = files, ends.tolist()
        return self._epochs[epoch]

    def _group(self, step: int) -> tuple[list[int], int]:
        """The files of batch `step`, and the first batch of the next group."""
        epoch, inside = divmod(step, self._steps)
        files, ends = self._epoch(epoch)
        number = bisect_right(ends, inside)
        group = files[number * self.held : (number + 1) * self.held].tolist()
        return group, step - inside + ends[number]

    def batch(self, step: int) -> list[Place]:
        """The windows of batch `step`, all from the files of its group."""
        rng = np.random.default_rng([self.seed, step])
        group = self._group(step)[0]
        return draw_places(rng, self, group, self._sizes[group])

    def resident(self, step: int) -> frozenset[int]:
        """The files of the batch's group."""
        return frozenset(self._group(step)[0])

    def following(self, step: int) -> frozenset[int]:
        """The files of the group after it."""
        return self.resident(self._group(step)[1])


ORDERS = {"random": RandomOrder, "window": WindowOrder}


def make_order(name: str, sources: Sequence[Source], window: tuple[int, ...], count: int, seed: int) -> Order:
    """The order called `name`."""
    if name not in ORDERS:
        raise RecipeFault(f"order is {name!r}; expected one of {', '.join(ORDERS)}")
    if name == "window":
        return WindowOrder(sources, window, count, seed, _held(sources))
    return ORDERS[name](sources, window, count, seed)


def _held(sources: Sequence[Source]) -> int:
    """How many files a group has: HELD, or fewer where they are large."""
    return max(1, min(HELD, HELD_BYTES // max(bytes_of(source) for source in sources)))


def steps_per_epoch(sources: Sequence[Source], window: Sequence[int], count: int) -> int:
    """Batches until as many pixels were shown as the sources hold."""
    return max(1, round(sum(windows_in(source, window) for source in sources) / count))


class Stream:
    """This rank's part of batches (b, v, *window) on `device`, cut by threads into a ring of buffers before their use.

    For a GPU, windows lie in pinned buffers as the files hold them and are normalised where they arrive; for the
    processor, the threads do both. A batch is valid until the next is asked for. `start`: the first batch; `ahead`: how
    many are cut before they are asked for.
    """

    def __init__(self, sources: Sequence[Source], order: Order, device: torch.device, start: int = 0,
                 ranks: Ranks = ALONE, threads: int = 4, ahead: int = 3):
        self.sources, self.order, self.device = sources, order, device
        self.position, self.ranks, self.ahead, self.workers = start, ranks, ahead, threads
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="deice-stream")
        self.groups = Groups(sources, threads, ranks)
        self.on_gpu = device.type == "cuda"
        self.copies = torch.cuda.Stream(device) if self.on_gpu else None
        self.kind = carried_as(sources) if self.on_gpu else torch.float32
        self.affines = torch.stack([rows_of(source) for source in sources]).numpy()
        self.changed = any(affine != Affine() for source in sources for affine in source.affines)
        self.may_be_broken = any(np.dtype(view.dtype).kind == "f" for source in sources for view in source.views)
        self.ring: list[Slot] = []

    def batches(self) -> Generator[Tensor]:
        """Batches from the stream's position on, without end."""
        waiting: deque[tuple[Slot, list[Future]]] = deque()
        asked = self.position
        try:
            while True:
                while len(waiting) < self.ahead:
                    waiting.append(self._ask(asked))
                    asked += 1
                slot, cuts = waiting.popleft()
                for cut in cuts:
                    cut.result()
                batch, copied = self._to_device(slot)
                self.position += 1
                yield batch
                if copied is not None:
                    copied.synchronize()  # long done: only now may the threads write into the buffer again
                self.ring.append(slot)
        finally:
            self.groups.close()
            self.threads.shutdown(wait=True, cancel_futures=True)

    def _to_device(self, slot: "Slot") -> tuple[Tensor, torch.cuda.Event | None]:
        """The batch on the device; a GPU copies on a stream of its own while it computes."""
        if self.copies is None:
            return slot.windows, None
        with torch.cuda.stream(self.copies):
            windows = slot.windows.to(self.device, non_blocking=True)
            affines = slot.affines.to(self.device, non_blocking=True)
            copied = self.copies.record_event()
        current = torch.cuda.current_stream(self.device)
        current.wait_event(copied)
        for tensor in (windows, affines):
            tensor.record_stream(current)
        return normalised(windows, affines), copied

    def _ask(self, step: int) -> tuple["Slot", list[Future]]:
        """Send the threads to cut this rank's part of batch `step`, each a share of its windows."""
        places = self.ranks.share(self.order.batch(step))
        readers = self.groups.readers(self.order.resident(step), self.order.following(step))
        slot = self.ring.pop() if self.ring else self._new_slot(len(places))
        slot.affines.numpy()[...] = self.affines[[place.source for place in places]]
        rows = slot.windows.numpy()
        cuts = [(readers.get(place.source, self.sources[place.source]), place) for place in places]
        share = max(-(-len(cuts) // self.workers), SHARE // max(1, rows[0].nbytes)) if cuts else 1
        parts = [slice(i, i + share) for i in range(0, len(cuts), share)]
        return slot, [self.threads.submit(self._cut, cuts[part], rows[part], slot.affines[part]) for part in parts]

    def _new_slot(self, count: int) -> "Slot":
        views, window = len(self.sources[0].views), self.order.window
        return Slot(torch.empty((count, views, *window), dtype=self.kind, pin_memory=self.on_gpu),
                    torch.empty((count, views, 4), pin_memory=self.on_gpu))

    def _cut(self, cuts: Sequence[tuple[Source, Place]], rows: np.ndarray, affines: Tensor) -> None:
        """Cut each window into its row of `rows` (n, v, *window); the rest is done for all of them at once."""
        for (source, place), row in zip(cuts, rows):
            source.cut(place.origin, self.order.window, row)
        if self.may_be_broken and not all_finite(rows):
            for (source, _), row in zip(cuts, rows):
                source.mend(row)
        if not self.on_gpu and self.changed:
            normalise_rows(rows, affines.numpy())


@dataclass(frozen=True)
class Slot:
    """One buffer of the ring: `windows` (b, v, *window) and, for a GPU, `affines` (b, v, 4) that normalise them."""

    windows: Tensor
    affines: Tensor
