"""One simulated tomogram from file to denoised file by one command: seconds, memory, and quality beside filters.

    python docs/benchmarks/one_tomogram.py -o DIR --method f2fd --size 128 512 512 --minutes 5 --max-memory 8GB
    python docs/benchmarks/one_tomogram.py -o DIR --size 256 1024 1024 --minutes 2 --max-memory 8GB
    taskset -c 0,1 python docs/benchmarks/one_tomogram.py -o DIR --size 64 256 256 --device cpu \
        --recipe recipes/tomogram_cpu.toml --filters

The tomogram is drawn by processes of their own (the default cell, voxels of 10 Å; a large one is put together from
tomograms of 128×256×256, of which there are eight), then `deice denoise` runs in this one, whose highest anonymous
memory and highest GPU memory are sampled. DIR/NAME.json and .md hold the figures.
"""

import argparse
import json
import math
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deice import metrics, read
from deice.bench.cost import metered
from deice.bench.judge import GIGABYTE
from deice.bench.suite import write_json, write_text
from deice.bench.tegunov import best_tegunov
from deice.cli import run as deice
from deice.devices import choose_device, machine
from deice.filters.fitted import best_gaussian, radial_wiener
from deice.image import Geometry
from deice.io import write
from deice.worlds import Tomogram, TomogramWorld

PIECE = (128, 256, 256)  # voxels
DISTINCT = 8  # pieces that are drawn
Size = tuple[int, int, int]


def piece(size: Size, seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Tomogram number `index` of `size`: the reconstruction of all frames, and its truth."""
    tomogram = Tomogram(TomogramWorld(size=size), seed, index)
    return tomogram.average(tomogram.halves()).views[0], tomogram.truth


def draw(folder: Path, size: Size, seed: int) -> None:
    """Write lone.mrc, the reconstruction of all frames, and truth.mrc, from pieces side by side."""
    each = tuple(min(*pair) for pair in zip(size, PIECE, strict=True))
    if any(whole % part for whole, part in zip(size, each, strict=True)):
        raise SystemExit(f"--size {size}; expected multiples of {PIECE} where it is larger")
    counts = [whole // part for whole, part in zip(size, each, strict=True)]
    several = min(DISTINCT, math.prod(counts))
    with ProcessPoolExecutor(several, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        pieces = list(pool.map(piece, [each] * several, [seed] * several, range(several)))
    folder.mkdir(parents=True, exist_ok=True)
    for name, which in (("lone", 0), ("truth", 1)):
        volume = np.empty(size, np.float32)
        for number, place in enumerate(np.ndindex(*counts)):
            cut = tuple(slice(at * part, (at + 1) * part) for at, part in zip(place, each, strict=True))
            volume[cut] = pieces[number % several][which]
        write(folder / f"{name}.mrc", volume, Geometry().with_pixel_size(TomogramWorld().pixel_size), label=name)


def judged(answer: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    """Correlation with the truth, and PSNR after least-squares scale and offset."""
    return {"cc": metrics.correlation(answer, truth), "psnr": metrics.psnr(answer, truth)}


def quality(folder: Path, denoised: Path, filters: bool) -> dict[str, dict[str, float]]:
    """The figures of the denoised file, of the raw one, and of filters at their best with the truth in hand."""
    raw, truth, answer = (volume_of(path) for path in (folder / "lone.mrc", folder / "truth.mrc", denoised))
    found = {"raw": judged(raw, truth), "denoised": judged(answer, truth)}
    if filters:
        pixel_size = read(folder / "lone.mrc", "zyx").pixel_size
        found |= {"gaussian": judged(best_gaussian(raw, truth)[0], truth),
                  "wiener-like": judged(best_tegunov(raw, truth, pixel_size)[0], truth),
                  "wiener, radial": judged(radial_wiener(raw, truth), truth)}
    return found


def volume_of(path: Path) -> torch.Tensor:
    """(z, y, x) float32."""
    return torch.from_numpy(np.array(read(path, "zyx").views[0], np.float32))


def validations(folder: Path) -> list[list[float]]:
    """[seconds, step, value] of each validation of the training."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [[round(line["seconds"], 1), line["step"], line["validation"]] for line in lines if "validation" in line]


def command(given: argparse.Namespace, device: torch.device) -> list[str]:
    """The words of `deice denoise`."""
    words = ["denoise", str(given.out / "lone.mrc"), "-m", given.method, "-o", str(given.out / given.name), "--device",
             str(device), "--seed", str(given.seed)]
    for flag in ("recipe", "minutes", "max_memory"):
        value = getattr(given, flag)
        words += [] if value is None else [f"--{flag.replace('_', '-')}", str(value)]
    return words


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """Everything that is kept of one run."""
    if not (given.out / "truth.mrc").exists():
        drawing = get_context("spawn").Process(target=draw, args=(given.out, tuple(given.size), given.seed))
        drawing.start()
        drawing.join()
        if drawing.exitcode:
            raise SystemExit(drawing.exitcode)
    device, begun = choose_device(given.device), time.perf_counter()
    with metered(torch.device("cpu")) as memory, metered(device) as cost:
        code = deice(command(given, device))
    if code:
        raise SystemExit(code)
    seconds = time.perf_counter() - begun
    run = given.out / given.name / "runs" / "lone"
    curve = validations(run)
    found: dict[str, Any] = {
        "method": given.method, "size": given.size, "machine": machine(),
        "seconds": seconds, "training_seconds": curve[-1][0], "ram_gb": memory.bytes / GIGABYTE,
        "gpu_gb": cost.bytes / GIGABYTE if device.type == "cuda" else None,
        "gpu_reserved_gb": torch.cuda.max_memory_reserved(device) / GIGABYTE if device.type == "cuda" else None,
        "max_memory": given.max_memory, "validations": curve, "recipe": (run / "recipe.toml").read_text(),
    }
    return found | {"quality": quality(given.out, given.out / given.name / "lone.mrc", given.filters)}


def markdown(found: dict[str, Any]) -> str:
    """The figures: what it took, and correlation and PSNR of everything there is."""
    size, gpu, curve = "×".join(map(str, found["size"])), found["gpu_reserved_gb"], found["validations"]
    best = min(curve, key=lambda one: one[2])
    held = "no GPU" if gpu is None else f"{gpu:.2f} GB of the GPU"
    took = (f"{size}, {found['method']}, {found['machine']}: {found['seconds'] / 60:.1f} minutes in all, "
            f"{found['training_seconds'] / 60:.1f} of them training ({curve[-1][1]} steps, the best validation after "
            f"{best[0] / 60:.1f}); {found['ram_gb']:.2f} GB of anonymous RAM, {held}.")
    rows = [f"| {name} | {row['cc']:.3f} | {row['psnr']:.2f} |" for name, row in found["quality"].items()]
    return "\n".join([took, "", "| | CC | PSNR dB |", "|:---|---:|---:|", *rows])


def main(words: list[str] | None = None) -> None:
    """Draw, denoise, measure; prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", "-o", type=Path, required=True)
    parser.add_argument("--name", default="denoised", help="of this run's folder and figures in DIR")
    parser.add_argument("--method", default="recorrupted", help="a scheme that is trained on the very tomogram")
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--size", type=int, nargs=3, default=(128, 512, 512))
    parser.add_argument("--filters", action="store_true", help="filters at their best beside")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--max-memory")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(words)
    found = measured(given)
    write_json(given.out / f"{given.name}.json", found)
    write_text(given.out / f"{given.name}.md", markdown(found) + "\n")
    print(markdown(found))


if __name__ == "__main__":
    main()
