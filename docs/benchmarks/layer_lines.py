"""The 4 nm layer line of real microtubules before and after denoising: its power against its neighbourhood.

    python docs/benchmarks/layer_lines.py FOLDER -o DIR [--methods recorrupted,f2fd] [--seconds 20] [--parallel 7]

FOLDER holds microtubule_13pf and microtubule_14pf (10.52 Å) as .tif or .mrc. Each method is trained on the very volume
that it denoises, as in `deice bench tomograms`: ours for `--seconds`, others up to three times as long. Tubulin repeats
every 4 nm along a microtubule, so its transform has a plane of power at about 1/41 Å along the axis, however that lies.
The figure is the mean power in that plane, closer than 1/60 Å to the axis, over the mean power in the planes beside it:
1 where nothing is left but noise. The axis, the mask around the microtubule and the frequency of the line are those of
the raw volume. Error: half the difference of the two volumes. Writes DIR/layer_lines.json, .md and .png.
"""

import argparse
import math
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d

from deice import read
from deice.bench.rivals.methods import ALONE, METHODS
from deice.bench.rivals.work import learnt
from deice.bench.suite import write_json, write_text
from deice.devices import choose_device, machine
from deice.filters import Gaussian
from deice.image import Geometry, Image
from deice.inference import denoise
from deice.ops.fourier import half_transform

VOLUMES = ("microtubule_13pf", "microtubule_14pf")
PIXEL = 10.52  # Å
LINE = (38.5, 42.5)  # Å: where the line is sought in the raw volume
NEAR = 60.0  # Å: the plane is looked at closer than 1/NEAR to the axis
BESIDE = (0.02, 0.05)  # cycles per voxel from the line: what it is compared with
RADIUS = 17.0  # voxels: the mask around the microtubule
TILTS = (-60.0, 60.0)  # the range of tilts is not known; for isonet
METHODS_ALONE = tuple(name for name, method in METHODS.items() if method.given == ALONE and name != "raw")


class Axis(NamedTuple):
    """A line through (z, y, x) voxels: y, at z + slope_z·y and x + slope_x·y; `line`: cycles per voxel along it."""

    slope_z: float
    slope_x: float
    z: float
    x: float
    line: float


def smoothed(volume: Tensor, sigma: float) -> Tensor:
    """`volume` (z, y, x) under a Gaussian of `sigma` voxels."""
    return Gaussian(sigma).apply(volume)


def sheared(volume: Tensor, slope_z: float, slope_x: float) -> Tensor:
    """`volume` (z, y, x) with each section of y moved, by whole voxels, so that such a line stands still."""
    centre = volume.shape[1] / 2
    return torch.stack([volume[:, y].roll((-round(slope_z * (y - centre)), -round(slope_x * (y - centre))), (0, 1))
                        for y in range(volume.shape[1])], 1)


def find_axis(volume: Tensor) -> Axis:
    """The direction along which the mean of the smoothed `volume` varies most across it, and where it is brightest."""
    smooth = smoothed(volume.clamp(*volume.quantile(torch.tensor([0.01, 0.99]))), 2.0)
    coarse = avg_pool3d(smooth[None, None], 2)[0, 0]

    def varies(slope: tuple[float, float]) -> float:
        return float(sheared(coarse, *slope).mean(1).var())

    best = max(((0.05 * z, 0.06 * x) for z in range(-2, 3) for x in range(-10, 11)), key=varies)
    best = max(((best[0], best[1] + 0.02 * x) for x in range(-2, 3)), key=varies)
    across = smoothed(sheared(smooth, *best).mean(1, keepdim=True), 9.0)[:, 0]
    z, x = np.unravel_index(int(across.argmax()), across.shape)
    middle = volume.shape[1] / 2
    axis = Axis(*best, float(z) - best[0] * middle, float(x) - best[1] * middle, 0.0)
    frequency, power = axial_power(volume, axis)
    sought = (frequency > PIXEL / LINE[1]) & (frequency < PIXEL / LINE[0])
    return axis._replace(line=float(frequency[sought][power[sought].argmax()]))


def axial_power(volume: Tensor, axis: Axis) -> tuple[Tensor, Tensor]:
    """Mean power near the axis of Fourier space by the frequency along the microtubule: (cycles per voxel, power)."""
    z, y, x = torch.meshgrid(*(torch.arange(size, dtype=torch.float64) for size in volume.shape), indexing="ij")
    off_z, off_x = z - axis.z - axis.slope_z * y, x - axis.x - axis.slope_x * y
    length = math.hypot(1, axis.slope_z, axis.slope_x)
    along = (off_z * axis.slope_z + off_x * axis.slope_x) / length
    distance = (off_z**2 + off_x**2 - along**2).clamp_min(0).sqrt()
    mask = torch.sigmoid(2 * (RADIUS - distance)) * torch.hann_window(volume.shape[1], dtype=torch.float64)[:, None]
    inside = volume.double() - (volume * mask).sum() / mask.sum()
    spectrum = half_transform(inside * mask, 3).abs().square()
    fz, fy, fx = torch.meshgrid(*(torch.fft.fftfreq(size, dtype=torch.float64) for size in volume.shape[:2]),
                                torch.fft.rfftfreq(volume.shape[2], dtype=torch.float64), indexing="ij")
    frequency = ((fz * axis.slope_z + fy + fx * axis.slope_x) / length).abs()
    near = (fz**2 + fy**2 + fx**2 - frequency**2) <= (PIXEL / NEAR) ** 2
    bins = volume.shape[1]  # as fine as the volume resolves
    number = (frequency[near] * bins).round().long()
    power = torch.zeros(int(number.max()) + 1, dtype=torch.float64).index_add(0, number, spectrum[near])
    return torch.arange(len(power)) / bins, power / number.bincount().clamp_min(1)


def line_over_beside(frequency: Tensor, power: Tensor, line: float) -> float:
    """Power of the line, the bin and its two neighbours, over the mean power beside it."""
    away = (frequency - line).abs()
    at = away <= 1.5 * float(frequency[1])
    beside = (away >= BESIDE[0]) & (away <= BESIDE[1])
    return float(power[at].mean() / power[beside].mean())


def file_of(folder: Path, volume: str) -> Path:
    """The file of a volume."""
    found = [path for path in sorted(folder.glob(f"{volume}.*")) if path.suffix in (".mrc", ".tif")]
    if not found:
        raise SystemExit(f"{folder}: no {volume}.tif or .mrc; expected the folder of the two microtubules")
    return found[0]


def answer_of(name: str, volume: Tensor, seconds: float, device: str, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """What a method makes of `volume` (z, y, x), and how its training went."""
    if name == "raw":
        return volume, {}
    if name == "gaussian":
        return smoothed(volume, 1.0), {}
    image = Image(volume.numpy()[None], Geometry().with_pixel_size(PIXEL))
    where = choose_device(device)
    model, training = learnt(METHODS[name], image, TILTS, seconds, where, seed)
    return torch.from_numpy(denoise(image, model, device=str(where)).views[0]), training


def row(name: str, path: Path, seconds: float, device: str, seed: int) -> dict[str, Any]:
    """The figures of one method on one volume, and two means of its answer, for the picture."""
    volume = torch.from_numpy(np.asarray(read(path, "zyx").views[0], np.float32))
    axis = find_axis(volume)
    answer, training = answer_of(name, volume, seconds, device, seed)
    frequency, power = axial_power(answer, axis)
    return {"method": name, "volume": path.stem, "axis": axis._asdict(), "training": training,
            "ratio": line_over_beside(frequency, power, axis.line), "frequency": frequency.tolist(),
            "power": (power / power.sum()).tolist(), "mean": answer.mean(0).numpy(),
            "middle": answer[int(axis.z + axis.slope_z * volume.shape[1] / 2)].numpy()}


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """{method: mean over the volumes of the ratio, and of the ratio over that of the raw volume, with errors}."""
    found: dict[str, dict[str, float]] = {}
    raw = [row["ratio"] for row in rows if row["method"] == "raw"]
    for name in dict.fromkeys(row["method"] for row in rows):
        ratios = [row["ratio"] for row in rows if row["method"] == name]
        shares = [ratio / before for ratio, before in zip(ratios, raw, strict=True)]
        found[name] = {"ratio": statistics.fmean(ratios), "se": abs(ratios[0] - ratios[-1]) / 2,
                       "of_raw": statistics.fmean(shares), "of_raw_se": abs(shares[0] - shares[-1]) / 2}
    return found


def markdown(document: dict[str, Any]) -> str:
    """A line a method."""
    volumes = list(document["lines"])
    lines = [f"| method | {' | '.join(volumes)} | mean | of raw | steps | ended by |",
             "|:---|" + "---:|" * (len(volumes) + 4)]
    for name, mean in document["methods"].items():
        each = [row for row in document["rows"] if row["method"] == name]
        steps = "–" if not each[0]["training"] else ", ".join(str(row["training"]["steps"]) for row in each)
        ended = "–" if not each[0]["training"] else ", ".join(row["training"]["stopped"] for row in each)
        ratios = " | ".join(f"{row['ratio']:.2f}" for row in each)
        lines.append(f"| {name} | {ratios} | {mean['ratio']:.2f} ± "
                     f"{mean['se']:.2f} | {mean['of_raw']:.2f} ± {mean['of_raw_se']:.2f} | {steps} | {ended} |")
    where = ", ".join(f"{volume} at 1/{PIXEL / line:.1f} Å" for volume, line in document["lines"].items())
    return "\n".join([f"The line is at its highest in {where}; trained for {document['seconds']:g} s (ours), "
                      f"{document['machine']}.", "", *lines]) + "\n"


def draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """Means along z and the section through the microtubule's middle, and the power along the axis."""
    from matplotlib.figure import Figure

    names, volumes = (list(dict.fromkeys(row[key] for row in rows)) for key in ("method", "volume"))
    figure = Figure((2.2 * len(names), 5.0 * 3), layout="constrained")
    axes = figure.subplots(3, len(names), squeeze=False)
    for row in rows:
        column, curve = names.index(row["method"]), axes[2][names.index(row["method"])]
        if row["volume"] == volumes[0]:
            for place, kind in enumerate(("mean", "middle")):
                low, high = np.quantile(row[kind], (0.01, 0.99))
                axes[place][column].imshow(row[kind], cmap="gray", vmin=low, vmax=high)
                axes[place][column].set_axis_off()
            axes[0][column].set_title(row["method"])
        curve.semilogy(row["frequency"][5:], row["power"][5:], lw=0.8)
        curve.axvline(row["axis"]["line"], color="grey", lw=0.5)
    figure.savefig(path, dpi=110)


def main(words: list[str] | None = None) -> None:
    """Every method on both volumes; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", "-o", type=Path, required=True)
    parser.add_argument("--methods", default=",".join(METHODS_ALONE))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(words)
    names = ["raw", "gaussian", *filter(None, given.methods.split(","))]
    jobs = [(name, file_of(given.folder, volume), given.seconds, given.device, given.seed)
            for name in names for volume in VOLUMES]
    if given.parallel == 1:
        rows = [row(*job) for job in jobs]
    else:
        with ProcessPoolExecutor(given.parallel, get_context("spawn"), torch.set_num_threads, (2,)) as pool:
            rows = list(pool.map(row, *zip(*jobs, strict=True)))
    given.out.mkdir(parents=True, exist_ok=True)
    draw(given.out / "layer_lines.png", rows)
    kept = [{key: value for key, value in each.items() if key not in ("middle", "mean")} for each in rows]
    document = {"machine": machine(), "seconds": given.seconds, "methods": summary(rows), "rows": kept,
                "lines": {each["volume"]: each["axis"]["line"] for each in kept}}
    write_json(given.out / "layer_lines.json", document)
    write_text(given.out / "layer_lines.md", markdown(document))
    print(markdown(document))


if __name__ == "__main__":
    main()
