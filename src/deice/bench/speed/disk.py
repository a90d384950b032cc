"""Files for the measurements, cold reads, and the rates of merely reading and copying them."""

import os
import shutil
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np

from deice.bench.speed.answer import Line
from deice.errors import UserError

T = TypeVar("T")
U = TypeVar("U")
BLOCK = 8 << 20  # bytes of a read
ROUNDS = 3  # of what is compared
SLACK = 1.1  # of the room that is asked for


def make_files(
    folder: Path, names: Sequence[str], write_first: Callable[[Path], None], header: int, dtype: np.dtype
) -> list[Path]:
    """Files named `names` in `folder`: the first by `write_first`, the others with its header and numbers of their own.

    The numbers are normal (floats) or Poisson-like (integers, by their bytes): real, non-sparse, incompressible.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in names]
    write_first(paths[0])
    start, count = paths[0].read_bytes()[:header], (paths[0].stat().st_size - header) // dtype.itemsize
    refuse_little_room(folder, (len(paths) - 1) * paths[0].stat().st_size)

    def write(number: int) -> None:
        with paths[number].open("wb") as file:
            file.write(start)
            generator = np.random.default_rng(number)
            for first in range(0, count, BLOCK):
                random_numbers(generator, min(BLOCK, count - first), dtype).tofile(file)

    in_threads(write, range(1, len(paths)), os.cpu_count() or 1)
    return paths


def random_numbers(generator: np.random.Generator, count: int, dtype: np.dtype) -> np.ndarray:
    """`count` numbers: normal for floats, for integers the counts 0 to 7 of a camera, three bits each."""
    if dtype.kind == "f":
        return generator.standard_normal(count, np.float32).astype(dtype)
    return (np.frombuffer(generator.bytes(count), np.uint8) & 7).astype(dtype)


def refuse_little_room(folder: Path, needed: int) -> None:
    """UserError where the disk of `folder` has no room for `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if SLACK * needed > free:
        raise UserError(f"{folder}: {needed / 1e9:.1f} GB are needed there and {free / 1e9:.1f} GB are free; expected "
                        "more room: fewer files by --count, smaller ones by --scale small, or another folder")


def copy_files(paths: Sequence[Path], folder: Path, threads: int) -> list[Path]:
    """Copies of `paths` in `folder`, each on the disk when it is done, as every file of deice is."""
    folder.mkdir(parents=True, exist_ok=True)

    def copy(path: Path) -> Path:
        target = folder / path.name
        shutil.copyfile(path, target)
        sync(target)
        return target

    return in_threads(copy, paths, threads)


def read_files(paths: Sequence[Path], threads: int) -> int:
    """Read every byte of `paths`, a file a thread; how many."""

    def read(path: Path) -> int:
        buffer, total = bytearray(BLOCK), 0
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                total += count
        return total

    return sum(in_threads(read, paths, threads))


def in_threads(work: Callable[[T], U], items: Sequence[T], threads: int) -> list[U]:
    """`work` on each of `items`, `threads` at a time."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


def sync(path: Path) -> None:
    """Wait until the file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def forget(paths: Sequence[Path]) -> None:
    """Ask the kernel to drop `paths` from the page cache."""
    for path in paths:
        sync(path)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def bytes_from_disk() -> int | None:
    """Bytes that this process has had fetched from disks so far, by /proc/self/io; None where it does not say."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("read_bytes:")), None)


@contextmanager
def from_disk(paths: Sequence[Path]) -> Generator[dict[str, float]]:
    """Seconds of the block with `paths` out of the page cache before, and the share of their bytes that was fetched.

    {"seconds", "fetched"}: fetched is absent where the kernel does not tell, and near 0 where it kept the files.
    """
    forget(paths)
    found: dict[str, float] = {}
    before, begun = bytes_from_disk(), time.perf_counter()
    yield found
    found["seconds"] = time.perf_counter() - begun
    after = bytes_from_disk()
    if before is not None and after is not None:
        found["fetched"] = (after - before) / sum(path.stat().st_size for path in paths)


def in_turn(
    works: Mapping[str, Callable[[], object]], paths: Sequence[Path], before: Callable[[], object] = lambda: None
) -> dict[str, dict[str, float]]:
    """Each of `works` on cold `paths`, one after the other and all of that ROUNDS times: a disk that others use too, or
    that is slow at first, is so for all of them. `before` each, untimed.

    The medians by name: "seconds", "processor" (seconds of all cores), and "fetched" where the kernel tells;
    "range": the highest less the lowest seconds.
    """
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            before()
            with from_disk(paths) as found:
                begun = time.process_time()
                work()
                found["processor"] = time.process_time() - begun
            rounds[name].append(found)
    medians = {name: {key: median(found[key] for found in each) for key in each[0]} for name, each in rounds.items()}
    for name, each in rounds.items():
        seconds = [found["seconds"] for found in each]
        medians[name]["range"] = max(seconds) - min(seconds)
    return medians


def line_of(found: dict[str, float], count: int) -> Line:
    """Milliseconds of one of `count` things, from what `in_turn` found of all."""
    names = {"seconds": "ms", "range": "range_ms", "processor": "processor_ms"}
    line = {name: 1e3 * found[key] / count for key, name in names.items() if key in found}
    return line | ({"fetched": found["fetched"]} if "fetched" in found else {})


@contextmanager
def on_cores(count: int) -> Generator[None]:
    """The calling thread, and what it starts, on `count` of the cores that it may use."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[-count:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
