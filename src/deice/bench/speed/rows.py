"""The rows: what is measured, on which sizes, and how much faster than what it should be."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from deice.bench.speed import files, loading, operations, splitting, training
from deice.bench.speed.answer import Answer, Line
from deice.bench.speed.paths import AUTOTUNED, COMPILED, Operation
from deice.devices import choose_device
from deice.errors import RecipeFault
from deice.nets import ResidualCNN, UNet
from deice.peers import find_topaz

NETS = CNN, UNET, UNET_3D = ResidualCNN(), UNet(), UNet(depth=2)
LIMITS = ((1.2e-2, 2.5e-2, 0.1), (3e-2, 6e-2, 0.2), (3e-2, 6e-2, 0.2))  # of bf16: answers, gradients, one tensor's
BEST, DEFAULT = operations.BEST, "default PyTorch"
COMPILERS = (AUTOTUNED, COMPILED, COMPILED)  # the thorough one takes two minutes to start on a U-Net: the whole job
SPEED, STREAM = "speed", "stream"


@dataclass(frozen=True)
class Scale:
    """Sizes of what is measured. odd: shapes on which the nets (NETS) are compared with the reference.  calls: timed
    one by one.  topaz_files: that Topaz is given.
    """

    patches: tuple[int, ...]
    micrograph: tuple[int, int]
    windows: tuple[int, ...]
    cubes: tuple[int, ...]
    cpu_picture: tuple[int, int]
    movie: tuple[int, int, int]
    movies: int
    odd: tuple[tuple[int, ...], ...]
    loaded: tuple[int, int]
    loaded_files: int
    batches: int
    count: int
    calls: int
    topaz_files: int


SCALES = {
    "full": Scale((4, 1024, 1024), (7676, 7420), (8, 512, 512), (2, 96, 96, 96), (4096, 4096), (40, 4096, 4096), 4,
                  ((3, 137, 151), (3, 136, 168), (2, 20, 36, 28)), (4096, 4096), 32, 2000, 32, 15, 3),
    "small": Scale((1, 64, 64), (96, 80), (1, 64, 64), (1, 16, 16, 16), (128, 128), (6, 128, 128), 2,
                   ((2, 27, 35), (2, 24, 40), (1, 8, 20, 12)), (256, 256), 4, 20, 3, 2, 2),
}


@dataclass(frozen=True)
class Plan:
    """What is run. rows: names or how they begin; none: all of the door.  minutes: of this leg: no row is begun that
    would not fit (0: tables only).  count, size: of the micrographs from file to file.  memory, disk: folders for
    files; disk None: in the folder of the tables.  compiled: with torch.compile's best among the baselines.
    """

    door: str = SPEED
    rows: tuple[str, ...] = ()
    minutes: float | None = None
    scale: str = "full"
    device: str = "auto"
    count: int | None = None
    size: tuple[int, int] | None = None
    memory: Path = Path("/dev/shm")
    disk: Path | None = None
    topaz: str | None = None
    compiled: bool = True

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise RecipeFault(f"scale {self.scale!r} is unknown; expected one of {', '.join(SCALES)}")
        known = [row.name for row in ROWS if row.door == self.door]
        for name in self.rows:
            if not any(row.startswith(name) for row in known):
                raise RecipeFault(f"row {name!r} is unknown; expected among {', '.join(known)}, or how they begin")
        if self.minutes is not None and not self.minutes >= 0:
            raise RecipeFault(f"minutes is {self.minutes:g}; expected 0 or more")
        if self.count is not None and self.count < 1:
            raise RecipeFault(f"count is {self.count}; expected 1 micrograph or more")
        if self.size is not None and min(self.size) < 32:
            raise RecipeFault(f"size is {self.size}; expected 32 pixels or more along each axis")

    def sizes(self) -> Scale:
        """Of what is measured."""
        return SCALES[self.scale]

    def chosen(self) -> list["Row"]:
        """The rows that were asked for."""
        return [row for row in ROWS if row.door == self.door and row.name.startswith(self.rows or ("",))]


@dataclass
class Site:
    """Where a leg works: the plan, the folder of its tables, and what rows share."""

    out: Path
    plan: Plan
    topaz: Line = field(default_factory=dict)
    batches: dict[bool, files.Batch] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Of operations and of files."""
        return choose_device(self.plan.device)

    def folder(self, in_memory: bool) -> Path:
        """For files that live as long as the leg; legs at the same time each have their own."""
        return (self.plan.memory if in_memory else self.plan.disk or self.out) / f"deice-speed-{os.getpid()}"

    def batch(self, in_memory: bool) -> files.Batch:
        """The micrographs from file to file."""
        sizes, plan = self.plan.sizes(), self.plan
        if in_memory not in self.batches:
            self.batches[in_memory] = files.Batch(self.folder(in_memory), plan.size or sizes.micrograph,
                                                  plan.count or sizes.count)
        return self.batches[in_memory]

    def topaz_line(self) -> Line | None:
        """Topaz on some of the micrographs in memory, measured once a leg; None where there is no Topaz."""
        python = find_topaz(self.plan.topaz)
        if python is not None and not self.topaz:
            self.topaz = files.topaz_line(python, self.batch(True), self.device, self.plan.sizes().topaz_files)
        return self.topaz or None


Work = Callable[[Site], Answer]


@dataclass(frozen=True)
class Row:
    """One row. seconds: about how long it takes on one H200.  aims: at least so many times better than what."""

    name: str
    title: str
    work: Work
    aims: Mapping[str, float] = field(hash=False)
    seconds: float
    door: str = SPEED


def operation(net: ResidualCNN | UNet, sizes: Callable[[Scale], tuple[int, ...]], training: bool) -> Work:
    """The work of a row of one operation."""
    def work(site: Site) -> Answer:
        scale, number = site.plan.sizes(), NETS.index(net)
        asked = Operation(net, sizes(scale), training, scale.odd[number], LIMITS[number], COMPILERS[number])
        compiled = site.plan.compiled and site.device.type == "cuda"
        return operations.measure(asked, site.device, scale.calls, compiled)

    return work


def file_to_file(net: ResidualCNN | UNet, in_memory: bool) -> Work:
    """The work of a row from files to files."""
    def work(site: Site) -> Answer:
        batch = site.batch(in_memory)
        if in_memory:
            return files.from_memory(batch, net, site.device, site.topaz_line())
        return files.from_disk_cold(batch, net, site.device)

    return work


def on_two_cores(site: Site) -> Answer:
    """One picture of 4096² by the default U-Net on two cores."""
    batch = files.Batch(site.folder(True) / "one", site.plan.sizes().cpu_picture, 1)
    return files.on_two_cores(batch, UNET, find_topaz(site.plan.topaz))


def split(kind: str) -> Work:
    """The work of a row of `deice split`."""
    return lambda site: splitting.measure(site.folder(False) / "split", kind, site.plan.sizes().movie,
                                          site.plan.sizes().movies)


def load(order: str) -> Work:
    """The work of a row of the stream."""
    return lambda site: loading.measure(site.folder(False) / "stream", order, site.plan.sizes().loaded,
                                        site.plan.sizes().loaded_files, site.plan.sizes().batches, site.device)


ROWS: tuple[Row, ...] = (
    Row("cnn_inference", "residual CNN, inference, patches", operation(CNN, lambda s: s.patches, False),
        {BEST: 2.5, DEFAULT: 9.0}, 22),
    Row("cnn_training", "residual CNN, training step", operation(CNN, lambda s: s.patches, True),
        {BEST: 2.5, DEFAULT: 8.0}, 42),
    Row("files_cnn_memory", "files in memory, residual CNN", file_to_file(CNN, True),
        {files.TOPAZ_DEFAULTS: 25.0}, 45),
    Row("files_unet_memory", "files in memory, the default U-Net", file_to_file(UNET, True),
        {files.TOPAZ_DEFAULTS: 25.0}, 15),
    Row("unet_training", "U-Net, training step", operation(UNET, lambda s: s.windows, True),
        {f"{BEST} over a 2-minute job": 1.0, DEFAULT: 2.5}, 45),
    Row("cnn_micrograph", "residual CNN, inference, one micrograph",
        operation(CNN, lambda s: (1, *s.micrograph), False), {BEST: 2.5, DEFAULT: 9.0}, 28),
    Row("unet3d_training", "3D U-Net, training step", operation(UNET_3D, lambda s: s.cubes, True),
        {f"{BEST} over a 2-minute job": 1.0, DEFAULT: 2.5}, 45),
    Row("files_cnn_disk", "files on the disk, residual CNN", file_to_file(CNN, False), {files.COPY: 0.8}, 30),
    Row("files_unet_disk", "files on the disk, the default U-Net", file_to_file(UNET, False), {files.COPY: 0.8}, 22),
    Row("files_cpu", "a file on two CPU cores, the default U-Net", on_two_cores, {files.ALIGNED_TOPAZ: 3.0}, 180),
    *(Row(f"split_{kind}", f"deice split, {title}", split(kind), aims, 40)
      for kind, title, aims in (("int8", "MRC of bytes", {splitting.READING: 0.6}),
                                ("int16", "MRC of 16-bit integers", {splitting.READING: 0.6}),
                                ("lzw", "TIFF packed by LZW: bound by unpacking", {}),
                                ("eer", "EER: bound by decoding", {}))),
    *(Row(f"load_{order}", f"the stream, {order} order", load(order), {loading.RAW: 0.9}, 60, STREAM)
      for order in ("random", "window")),
    Row("train", "training, from more files than memory holds, and on all GPUs", lambda site: training.row(
        site.folder(False) / "training", site.plan.scale, site.plan.device), training.AIMS, 200, STREAM),
)
