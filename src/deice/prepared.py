"""Prepared views: what a scheme makes of whole scenes now and then, kept where windows are cut from it.

They lie on the device where they fit, else in a scratch file that is gone when the run is; never in anonymous memory.
What is made is a function of (seed, epoch, scene), so that nothing of it has to be saved.
"""

import logging
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deice.devices import memory_left
from deice.errors import MemoryFault, RecipeFault, UserError
from deice.ops.tiles import blocks
from deice.ranks import ALONE, Ranks, launched
from deice.schemes import Preparing
from deice.sources import Source
from deice.stream import Order, Place

log = logging.getLogger(__name__)

RESIDENT = {"cpu": 1 << 28, "cuda": 1 << 35}  # at most so many bytes of prepared views are kept on the device
SHARE = 4  # and at most this part of what the device has left
WORK = 7  # whole volumes in float32 that preparing one takes beside its views, where the scheme says nothing
DRAWS = 7  # sets these random numbers apart from those of steps, which are of the same seed
AHEAD = 3  # batches cut before they are asked for

Net = Callable[[Tensor], Tensor]


class Prepared:
    """The prepared views of each of `sources`, `kept` of each scene; `fill` makes them, `batches` cuts windows.

    folder: where the scratch file goes, if it takes one. store_on: the device that keeps them, by default the one that
    makes them. Raises UserError where neither memory nor disk suffices.
    """

    def __init__(self, scheme: Preparing, sources: Sequence[Source], kept: int, device: torch.device, folder: Path,
                 seed: int, store_on: str | None = None):
        if any(source.packed for source in sources):
            raise RecipeFault(f"{type(scheme).__name__.lower()} needs whole volumes, but the input is packed windows; "
                              "give the files themselves")
        self.scheme, self.sources, self.kept, self.device, self.seed = scheme, sources, kept, device, seed
        self._refuse_too_large()
        self.stores = self._stores(folder, torch.device(store_on or device))

    def fill(self, epoch: int, net: Net | None) -> None:
        """Make the views of `epoch` of every scene, over those of the epoch before."""
        for number, (source, store) in enumerate(zip(self.sources, self.stores)):
            mixed = np.random.SeedSequence([self.seed, epoch, number, DRAWS])
            generator = torch.Generator(self.device).manual_seed(int(mixed.generate_state(1, np.uint64)[0] >> 1))
            with torch.no_grad():
                made = self.scheme.prepare(whole(source, self.device), epoch, generator, net)
                for view, place in zip(islice(made, self.kept), store, strict=True):
                    place.copy_(view)

    def batches(self, order: Order, start: int, ranks: Ranks = ALONE) -> Generator[Tensor]:
        """This rank's part (b, kept, *window) of batches on the device, from number `start` of `order` on, endless."""
        with ThreadPoolExecutor(AHEAD, thread_name_prefix="deice-prepared") as threads:
            waiting = deque(threads.submit(self._cut, order, start + i, ranks) for i in range(AHEAD))
            for number in count(start + AHEAD):
                yield waiting.popleft().result().to(self.device)
                waiting.append(threads.submit(self._cut, order, number, ranks))

    def _cut(self, order: Order, number: int, ranks: Ranks) -> Tensor:
        return torch.stack([self._window(place, order.window) for place in ranks.share(order.batch(number))])

    def _window(self, place: Place, window: Sequence[int]) -> Tensor:
        cut = tuple(slice(start, start + size) for start, size in zip(place.origin, window))
        return self.stores[place.source][(slice(None), *cut)]

    def _refuse_too_large(self) -> None:
        largest = max(self.sources, key=lambda source: prod(source.views[0].shape))
        space, views = largest.views[0].shape, len(largest.views)
        in_work = getattr(self.scheme, "volumes_in_work", lambda _: WORK + 1)(space)
        needed = int(4 * prod(space) * (in_work + views - 1))
        left = memory_left(self.device, None)
        if needed > left:
            raise MemoryFault(f"{largest.name}: {type(self.scheme).__name__.lower()} takes volumes whole, which needs "
                              f"{needed / 1e9:.1f} GB, and {left / 1e9:.1f} GB are left; use a scheme that learns from "
                              "windows, as recorrupted")

    def _stores(self, folder: Path, device: torch.device) -> list[Tensor]:
        shapes = [(self.kept, *source.views[0].shape) for source in self.sources]
        size = sum(4 * prod(shape) for shape in shapes)
        if size <= min(RESIDENT[device.type], memory_left(device, None) // SHARE):
            return [torch.empty(shape, device=device) for shape in shapes]
        free = shutil.disk_usage(folder).free
        size *= launched().local_world  # each rank of this machine has its own
        if size > free:
            raise UserError(f"{folder}: {size / 1e9:.1f} GB of prepared views, but {free / 1e9:.1f} GB are free; "
                            "make room, choose another -o, or keep fewer of them (total_samples)")
        log.info("%.1f GB of prepared views in a scratch file in %s", size / 1e9, folder)
        return [mapped(folder, shape) for shape in shapes]


def whole(source: Source, device: torch.device) -> Tensor:
    """The normalised views of `source`, (v, *space) on `device`, read in slabs."""
    space = source.views[0].shape
    views = torch.empty((len(source.views), *space), device=device)
    for rows in blocks(space):
        origin, size = (rows.start, *(0,) * (len(space) - 1)), (rows.stop - rows.start, *space[1:])
        views[:, rows] = torch.from_numpy(source.read(origin, size)).to(device)
    return views


def mapped(folder: Path, shape: Sequence[int]) -> Tensor:
    """Zeros of `shape` in a file without a name in `folder`, which is gone when nobody uses it any more."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(4 * prod(shape))
        array: Any = np.memmap(file, np.float32, "r+", shape=tuple(shape))
    return torch.from_numpy(array)


def prepared_batches(
    prepared: Prepared, order: Order, start: int, net_of: Callable[[int], Net | None], ranks: Ranks = ALONE
) -> Generator[Tensor]:
    """This rank's part of batches from number `start` of `order` on; every `refresh` of them the views are made anew.

    net_of: the network as it was when an epoch of preparation began; None in the first. Each rank prepares all views.
    """
    refresh = prepared.scheme.refresh
    while True:
        epoch, done = divmod(start, refresh)
        prepared.fill(epoch, net_of(epoch))
        batches = prepared.batches(order, start, ranks)
        try:
            yield from islice(batches, refresh - done)
        finally:
            batches.close()
        start += refresh - done
