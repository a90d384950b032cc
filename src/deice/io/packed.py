"""The headerless streaming format: samples (c, *space) of float32, one after the other, nothing else.

`train_input.bin` and `train_target.bin` (and `test_…`) lie beside a `deice.json` that says what is in them;
files made elsewhere have none, and then the shape of a sample must be given. Size = n × c × h × w × 4 bytes.
"""

import json
import shutil
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from deice.errors import FileFault, PairFault, RecipeFault, UserError
from deice.io import writable_folder

DESCRIPTION = "deice.json"
BYTES_PER_VALUE = 4
NAMES = tuple(f"{split}_{role}.bin" for split in ("train", "test") for role in ("input", "target"))


def open_packed(
    input_bin: Path | str, target_bin: Path | str | None = None, shape: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Two memory maps (n, *space) of float32, samples of the input and of the target; None without a target.

    shape: (*space) of one sample of one channel; None = as the deice.json beside the input says.
    Raises PairFault where the two files do not hold the same number of samples, FileFault where a file is
    missing, empty, or no whole number of samples long, RecipeFault where the shape is unknown or contradicts
    deice.json.
    """
    input_bin = Path(input_bin)
    paths = [input_bin] if target_bin is None else [input_bin, Path(target_bin)]
    sizes = {path: _size(path) for path in paths}
    description = describe(input_bin.parent)
    space = _sample_space(input_bin, description, shape)
    bytes_per_sample = prod(space) * BYTES_PER_VALUE
    _check_lengths(sizes, space, bytes_per_sample)
    order = {"little": "<", "big": ">"}[description.get("byte_order", sys.byteorder)]
    maps = [
        np.memmap(path, dtype=f"{order}f4", mode="r", shape=(size // bytes_per_sample, *space))
        for path, size in sizes.items()
    ]
    return maps[0], maps[1] if len(maps) == 2 else None


def describe(folder: Path) -> dict[str, Any]:
    """What the deice.json in `folder` says, {} where there is none; FileFault where it says nothing."""
    path = folder / DESCRIPTION
    if not path.exists():
        return {}
    try:
        description = json.loads(path.read_text())
        channels, *space = (int(size) for size in description["sample_shape"])
    except (ValueError, KeyError, TypeError) as error:
        found = "does not describe packed samples · pack again, or delete it and give --patch"
        raise FileFault(path, found) from error
    return {**description, "sample_shape": [channels, *space]}


def _size(path: Path) -> int:
    if not path.is_file():
        raise FileFault(path, "no such file")
    size = path.stat().st_size
    if size == 0:
        raise FileFault(path, "is empty · expected packed float32 samples")
    return size


def _sample_space(path: Path, description: dict[str, Any], shape: Sequence[int] | None) -> tuple[int, ...]:
    channels, *described = description.get("sample_shape", [1])
    if channels != 1:
        raise FileFault(path, f"{channels} channels a sample · only samples of one channel are read")
    if shape is None and not described:
        raise RecipeFault(f"{path} stands without a {DESCRIPTION} · sample shape unknown · give --patch N")
    if shape is not None and described and tuple(shape) != tuple(described):
        raise RecipeFault(
            f"samples of {_times(shape)} asked for, {path.parent / DESCRIPTION} says {_times(described)} · "
            "leave out --patch"
        )
    return tuple(int(size) for size in (described if shape is None else shape))


def _check_lengths(sizes: dict[Path, int], space: Sequence[int], bytes_per_sample: int) -> None:
    if len(set(sizes.values())) > 1:
        found = ", ".join(
            f"{path} holds {size} bytes ({size / bytes_per_sample:.10g} samples of {_times(space)})"
            for path, size in sizes.items()
        )
        raise PairFault(f"{found} · input and target must be equally long · pack both again")
    for path, size in sizes.items():
        if size % bytes_per_sample:
            raise FileFault(
                path,
                f"{size} bytes are no whole number of {_times(space)} samples ({bytes_per_sample} bytes) · "
                "give the right --patch, or pack again",
            )


def _times(shape: Sequence[int]) -> str:
    return "×".join(str(size) for size in shape)


@contextmanager
def create_packed(
    folder: Path, names: Sequence[str], needed: int
) -> Generator[tuple[dict[str, BinaryIO], dict[str, Any]]]:
    """Files to append samples to, by name, and the description to fill; `needed`: bytes of all together.

    All stand under temporary names until the block ends well; deice.json comes last and marks completeness.
    Empty files are not kept (they cannot be mapped). Raises FileFault for a folder that cannot be written,
    UserError for a disk that is too small, both before any work.
    """
    free = shutil.disk_usage(writable_folder(folder)).free
    if needed > free:
        raise UserError(
            f"{needed / 1e9:.1f} GB to write, {free / 1e9:.1f} GB free in {folder} · "
            "take a larger --stride or another disk (training needs no packing: it reads the images)"
        )
    partial = {name: folder / f".{name}.part" for name in (*names, DESCRIPTION)}
    description: dict[str, Any] = {}
    try:
        with ExitStack() as stack:
            yield {name: stack.enter_context(partial[name].open("wb")) for name in names}, description
        partial[DESCRIPTION].write_text(json.dumps(description, indent=1, ensure_ascii=False) + "\n")
        for name in (DESCRIPTION, *NAMES):
            (folder / name).unlink(missing_ok=True)
        for name, path in partial.items():
            if path.stat().st_size:
                path.replace(folder / name)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)
