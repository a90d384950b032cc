"""The stream's windows a second beside raw reads of the same bytes by as many threads, from files out of the cache."""

import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from deice.bench.speed.answer import Answer
from deice.bench.speed.disk import in_threads, in_turn, line_of, make_files, read_files
from deice.io import read, write
from deice.ops.normalise import Affine
from deice.settings import Data
from deice.sources import Source
from deice.stream import Order, Place, Stream, make_order

OURS, RAW, WARM = "the stream", "raw reads", "the stream, files in memory"
HEADER = 1024
BATCH, WINDOW = 16, (128, 128)


def measure(
    folder: Path, order: str, shape: tuple[int, int], count: int, batches: int, device: torch.device
) -> Answer:
    """Milliseconds a batch of an order ("random", "window") over `count` files (y, x); the files are removed."""
    try:
        paths = _files(folder, shape, count)
        threads, answer = Data().threads, Answer(OURS)
        waits: list[float] = []
        measured = in_turn({
            RAW: lambda: _read_raw(*_opened(order, paths), paths, batches, threads),
            OURS: lambda: waits.append(_stream(*_opened(order, paths), batches, threads, device)),
        }, paths)  # fmt: skip
        begun = time.perf_counter()
        _stream(*_opened(order, paths), batches, threads, device)
        measured[WARM] = {"seconds": time.perf_counter() - begun}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for name, found in measured.items():
        answer.lines[name] = line_of(found, batches) | {"windows_s": BATCH * batches / found["seconds"]}
    answer.facts |= {"threads": threads, "longest_wait_ms": 1e3 * max(waits), "files": count, "window": list(WINDOW)}
    answer.ratios[RAW] = answer.lines[RAW]["ms"] / answer.lines[OURS]["ms"]
    return answer


def _files(folder: Path, shape: tuple[int, int], count: int) -> list[Path]:
    def first(path: Path) -> None:
        write(path, np.random.default_rng(0).standard_normal(shape, np.float32))

    names = [f"picture_{number:03d}.mrc" for number in range(count)]
    return make_files(folder / "pictures", names, first, HEADER, np.dtype(np.float32))


def _opened(order: str, paths: Sequence[Path]) -> tuple[list[Source], Order]:
    """The order of freshly mapped files: pages that are still mapped would stay in the cache."""
    pictures = [read(path).views[0] for path in paths]
    sources = [Source(path.name, (picture,), (Affine(),), tuple((0, size) for size in picture.shape))
               for path, picture in zip(paths, pictures)]
    return sources, make_order(order, sources, WINDOW, BATCH, seed=0)


def _stream(sources: Sequence[Source], order: Order, batches: int, threads: int, device: torch.device) -> float:
    """Take `batches` batches; the longest wait for one, in seconds."""
    longest, last = 0.0, time.perf_counter()
    with closing(Stream(sources, order, device, threads=threads).batches()) as windows:
        for _ in islice(windows, batches):
            longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return longest


def _read_raw(
    sources: Sequence[Source], order: Order, paths: Sequence[Path], batches: int, threads: int
) -> None:
    """The bytes that these batches are cut from: their windows as they lie in the files, or the files whole."""
    if not order.resident(0):
        pictures = [source.views[0].view(np.ndarray) for source in sources]
        in_threads(lambda step: _copy_windows(pictures, order.batch(step)), range(batches), threads)
        return
    groups = list(dict.fromkeys(order.resident(step) for step in range(batches)))
    read_files([paths[number] for group in groups for number in sorted(group)], threads)


def _copy_windows(pictures: Sequence[np.ndarray], places: Sequence[Place]) -> None:
    """The windows at `places` into one buffer, a batch a thread: more calls would wait for Python's lock."""
    into = np.empty(WINDOW, np.float32)
    for place in places:
        (y, x), (height, width) = place.origin, WINDOW
        np.copyto(into, pictures[place.source][y : y + height, x : x + width])
