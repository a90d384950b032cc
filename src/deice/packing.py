"""Packing: images → headerless files of float32 patches, the streaming format of `deice.io.packed`.

One image (and its target) is in memory at a time, whatever the size of the set. Training here needs no such
copy: the stream cuts its windows from the images. The format is for the other programs that read it.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from deice.errors import BatchFailure, FileFault, PairFault, RecipeFault, UserError
from deice.io import read
from deice.io.packed import BYTES_PER_VALUE, NAMES, create_packed, describe
from deice.scenes import Scene, open_views
from deice.version import __version__

log = logging.getLogger(__name__)


def divide_by_percentile(image: np.ndarray) -> np.ndarray:
    """`image` (*space) / the 95th percentile of its positive values, clipped to [0, 1]; changes `image`."""
    positive = image[image > 0]
    if positive.size == 0:
        raise ValueError("no positive value, which percentile needs · take --normalize standard")
    image /= np.percentile(positive, 95, overwrite_input=True)
    return np.clip(image, 0, 1, out=image)


def standardize(image: np.ndarray) -> np.ndarray:
    """`image` (*space) less its mean, over its standard deviation, both in float64; changes `image`."""
    mean, deviation = image.mean(dtype=np.float64), image.std(dtype=np.float64)
    if deviation == 0:
        raise ValueError("every pixel has the same value · nothing to learn from")
    np.subtract(image, mean, out=image, dtype=np.float64, casting="same_kind")
    image /= deviation
    return image


NORMALIZERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "percentile": divide_by_percentile,
    "standard": standardize,
    "none": lambda image: image,
}


@dataclass(frozen=True)
class Packing:
    """How images become samples: patch and stride in pixels, the same on every axis; normalised by image."""

    patch: int = 512
    stride: int | None = None  # None = patch: no overlap
    normalize: str = "percentile"
    test_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.patch < 1 or self.step < 1:
            raise RecipeFault(f"patch {self.patch}, stride {self.step} · both must be at least 1 pixel")
        if self.normalize not in NORMALIZERS:
            raise RecipeFault(f"normalisation {self.normalize!r} · expected one of {', '.join(NORMALIZERS)}")
        if not 0 <= self.test_fraction < 1:
            raise RecipeFault(f"test fraction {self.test_fraction} · expected 0 ≤ fraction < 1")

    @property
    def step(self) -> int:
        """Pixels from one patch to the next."""
        return self.patch if self.stride is None else self.stride


@dataclass(frozen=True)
class Entry:
    """One scene, and where its patches begin on each axis: samples are their product, last axis fastest."""

    scene: Scene
    origins: tuple[tuple[int, ...], ...]
    pixel_size: float | None

    @property
    def samples(self) -> int:
        """How many patches the scene gives."""
        return prod(len(axis) for axis in self.origins)


@dataclass(frozen=True)
class Plan:
    """All that is known before the first byte is written."""

    packing: Packing
    splits: dict[str, list[Entry]]  # "train" and, where there is more than one image, "test"
    failures: list[tuple[str, str]]  # files already known to be unusable, with the reason
    axes: str | None = None

    @property
    def roles(self) -> tuple[str, ...]:
        """("input", "target"), or ("input",) where no target is known."""
        return ("input", "target")[: len(self.splits["train"][0].scene.files)]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(c, *space) of one sample."""
        return (1, *(self.packing.patch for _ in self.splits["train"][0].origins))

    @property
    def samples(self) -> int:
        """Patches of all images."""
        return sum(entry.samples for entries in self.splits.values() for entry in entries)

    @property
    def bytes(self) -> int:
        """What the .bin files will take on the disk."""
        return self.samples * prod(self.sample_shape) * BYTES_PER_VALUE * len(self.roles)


def patch_origins(size: int, patch: int, stride: int) -> tuple[int, ...]:
    """Where the patches begin on an axis of `size` ≥ `patch` pixels; the last one ends at the edge."""
    last = size - patch
    return (*range(0, last, stride), last)


def plan(scenes: Sequence[Scene], packing: Packing, axes: str | None = None) -> Plan:
    """Open every header, cut every axis, split by image; files that fail are kept by name, the rest goes on.

    axes: "zyx" where a header does not say that its three axes are a volume.
    Raises PairFault for single images among pairs or pictures among volumes; the file's own error, or
    BatchFailure, where nothing is left to pack.
    """
    if len({len(scene.files) for scene in scenes}) != 1:
        raise PairFault("single images among pairs · expected all single, all halves, or all with a --target")
    entries: list[Entry] = []
    failures: list[tuple[str, str]] = []
    for scene in scenes:
        try:
            entries.append(_entry(scene, packing, axes))
        except UserError as error:
            if len(scenes) == 1:
                raise
            failures.append((scene.name, str(error)))
    if not entries:
        raise BatchFailure(failures, 0)
    if len({len(entry.origins) for entry in entries}) > 1:
        raise PairFault("pictures among volumes · samples have one shape · pack them into two folders")
    if len({entry.pixel_size for entry in entries}) > 1:
        log.warning("the images have different pixel sizes · deice.json names each file's own")
    return Plan(packing, _split_by_image(entries, packing), failures, axes)


def _entry(scene: Scene, packing: Packing, axes: str | None) -> Entry:
    images = open_views(scene, axes)
    space = images[0].space
    if min(space) < packing.patch:
        sizes = " × ".join(str(size) for size in space)
        found = f"{sizes} is smaller than the patch of {packing.patch} · take --patch {min(space)} or less"
        raise FileFault(scene.files[0], found)
    origins = tuple(patch_origins(size, packing.patch, packing.step) for size in space)
    return Entry(scene, origins, images[0].pixel_size)


def _split_by_image(entries: list[Entry], packing: Packing) -> dict[str, list[Entry]]:
    if packing.test_fraction == 0:
        return {"train": entries}
    if len(entries) == 1:
        log.warning("one image cannot be split by image · all of it is for training, there are no test files")
        return {"train": entries}
    count = min(max(1, round(packing.test_fraction * len(entries))), len(entries) - 1)
    test = set(np.random.default_rng(packing.seed).permutation(len(entries))[:count].tolist())
    return {
        "train": [entry for index, entry in enumerate(entries) if index not in test],
        "test": [entry for index, entry in enumerate(entries) if index in test],
    }


def is_packed(plan: Plan, folder: Path) -> bool:
    """True where `folder` already holds what `plan` would write; False too where files were left out last time.

    Raises FileFault where it holds another packing, or .bin files without a description (another's, then).
    """
    present = [folder / name for name in NAMES if (folder / name).exists()]
    found, expected = describe(folder), json.loads(json.dumps(_description(plan, plan.splits, [])))
    retried = bool(found.get("left_out")) and found.get("packing") == expected["packing"]
    if retried or not (present or found):
        return False
    unchanged = {**found, "version": None} == {**expected, "version": None}
    if unchanged and sum(path.stat().st_size for path in present) == plan.bytes:
        return True
    raise FileFault(folder, "already holds other packed files · choose another folder, or --overwrite")


def pack(plan: Plan, folder: Path) -> Iterator[Entry]:
    """Write the .bin files and deice.json into `folder`, yielding each scene once it is packed.

    A scene whose pixels turn out unusable is left out; BatchFailure names those at the end, after the rest
    was written. Raises UserError before any work where the disk is too small or the folder cannot be written.
    """
    failures = list(plan.failures)
    packed: dict[str, list[Entry]] = {split: [] for split in plan.splits}
    names = [f"{split}_{role}.bin" for split in plan.splits for role in plan.roles]
    with create_packed(folder, names, plan.bytes) as (outputs, description):
        for split, entry in ((split, entry) for split, entries in plan.splits.items() for entry in entries):
            try:
                images = [_normalized(path, plan) for path in entry.scene.files]
            except UserError as error:
                if plan.samples == entry.samples:
                    raise
                failures.append((entry.scene.name, str(error)))
                continue
            for role, image in zip(plan.roles, images):
                _write_patches(image, entry, plan.packing.patch, outputs[f"{split}_{role}.bin"])
            packed[split].append(entry)
            yield entry
        if not any(packed.values()):
            raise BatchFailure(failures, 0)
        description.update(_description(plan, packed, [name for name, _ in failures]))
    if failures:
        raise BatchFailure(failures, sum(len(entries) for entries in packed.values()))


def _normalized(path: Path, plan: Plan) -> np.ndarray:
    image = np.array(read(path, plan.axes).views[0], dtype=np.float32)
    bad = image.size - np.count_nonzero(np.isfinite(image))
    if bad:
        raise FileFault(path, f"{bad} of {image.size} pixels are not finite · repair the image")
    negative = np.count_nonzero(image < 0) / image.size
    if plan.packing.normalize == "percentile" and negative > 0.2:
        log.warning("%s: %.0f %% of the pixels are negative and become 0 · --normalize standard keeps them",
                    path.name, 100 * negative)
    try:
        return NORMALIZERS[plan.packing.normalize](image)
    except ValueError as error:
        raise FileFault(path, str(error)) from error


def _write_patches(image: np.ndarray, entry: Entry, patch: int, output: BinaryIO) -> None:
    for corner in product(*entry.origins):
        window = tuple(slice(start, start + patch) for start in corner)
        output.write(np.ascontiguousarray(image[window]).data)


def _description(plan: Plan, splits: dict[str, list[Entry]], left_out: list[str]) -> dict[str, Any]:
    """deice.json; `origins` of a file: one list an axis, its samples are their product, last axis fastest."""
    sizes = {entry.pixel_size for entries in splits.values() for entry in entries}
    description: dict[str, Any] = {
        "version": __version__,
        "dtype": "float32",
        "byte_order": sys.byteorder,
        "sample_shape": list(plan.sample_shape),
        "roles": list(plan.roles),
        "packing": asdict(plan.packing),
        "pixel_size": sizes.pop() if len(sizes) == 1 else None,
        "left_out": left_out,
    }
    for split, entries in splits.items():
        files, first = [], 0
        for entry in entries:
            files.append(_record(entry, first))
            first += entry.samples
        description[split] = {"samples": first, "files": files}
    return description


def _record(entry: Entry, first: int) -> dict[str, Any]:
    return {
        "name": entry.scene.name,
        "files": [str(path.resolve()) for path in entry.scene.files],
        "modified_ns": [path.stat().st_mtime_ns for path in entry.scene.files],
        "pixel_size": entry.pixel_size,
        "first_sample": first,
        "samples": entry.samples,
        "origins": [list(axis) for axis in entry.origins],
    }
