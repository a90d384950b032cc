"""`deice split` beside merely reading the movies' bytes, both on two cores and with cold reads."""

import shutil
from pathlib import Path

import mrcfile
import numpy as np
import tifffile
from mrcfile.utils import mode_from_dtype

from deice.bench.speed.answer import Answer
from deice.bench.speed.disk import in_turn, line_of, make_files, on_cores, read_files, refuse_little_room
from deice.bench.speed.events import write_eer
from deice.movies import Splitting, raise_failures, split_files

OURS, READING = "deice split", "reading the bytes"
CORES = 2
HALVES = "halves"  # the folder of the answers
HEADER = 1024
MRC = {"int8": np.int8, "int16": np.int16, "float32": np.float32}
EER_RATE = 0.02  # electrons a pixel and fraction
KINDS = (*MRC, "lzw", "eer")


def measure(folder: Path, kind: str, shape: tuple[int, int, int], count: int) -> Answer:
    """`count` movies (t, y, x) of a kind (KINDS): seconds a movie to split and to read; the files are removed."""
    try:
        movies = movies_in(folder / "movies", kind, shape, count)
        answer = Answer(OURS, facts={"megabytes": movies[0].stat().st_size / 1e6, "movies": count})
        with on_cores(CORES):
            measured = in_turn({READING: lambda: read_files(movies, CORES), OURS: lambda: _split(movies, folder)},
                               movies, lambda: shutil.rmtree(folder / HALVES, ignore_errors=True))  # fmt: skip
        for name, found in measured.items():
            mb_s = answer.facts["megabytes"] * count / found["seconds"]
            answer.lines[name] = line_of(found, count) | {"mb_s": mb_s}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if answer.lines[OURS].get("fetched", 0.0) < 0.9:
        answer.notes.append("the movies did not all come from the disk: the kernel kept them, or does not say")
    answer.ratios[READING] = answer.lines[READING]["ms"] / answer.lines[OURS]["ms"]
    return answer


def _split(movies: list[Path], folder: Path) -> None:
    raise_failures(list(split_files(movies, folder / HALVES, Splitting())))


def movies_in(folder: Path, kind: str, shape: tuple[int, int, int], count: int) -> list[Path]:
    """`count` movies of `kind`: MRC of int8, int16 or float32, TIFF packed by LZW, or EER."""
    suffix = {"lzw": ".tif", "eer": ".eer"}.get(kind, ".mrc")
    names = [f"movie_{number:03d}{suffix}" for number in range(count)]
    if kind in MRC:
        return make_files(folder, names, lambda path: _write_mrc(path, shape, MRC[kind]), HEADER, np.dtype(MRC[kind]))
    folder.mkdir(parents=True, exist_ok=True)
    first = folder / names[0]
    {"lzw": _write_tiff, "eer": _write_events}[kind](first, shape)
    refuse_little_room(folder, (count - 1) * first.stat().st_size)
    return [first, *(Path(shutil.copyfile(first, folder / name)) for name in names[1:])]


def _write_mrc(path: Path, shape: tuple[int, int, int], dtype: type) -> None:
    counts = np.random.default_rng(0).poisson(1.0, shape[1:])
    with mrcfile.new_mmap(path, shape, mrc_mode=mode_from_dtype(np.dtype(dtype))) as mrc:
        for number in range(shape[0]):
            mrc.data[number] = np.roll(counts, 17 * number, axis=1)
        mrc.set_image_stack()


def _write_tiff(path: Path, shape: tuple[int, int, int]) -> None:
    generator = np.random.default_rng(0)
    pages = (generator.poisson(1.0, shape[1:]).astype(np.uint8) for _ in range(shape[0]))
    tifffile.imwrite(path, pages, shape=shape, dtype=np.uint8, compression="lzw", photometric="minisblack",
                     bigtiff=True)


def _write_events(path: Path, shape: tuple[int, int, int]) -> None:
    write_eer(path, shape[0], shape[1:], EER_RATE)

