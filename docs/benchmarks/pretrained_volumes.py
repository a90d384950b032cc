"""The packaged model of volumes on the tomograms of the quality suite, beside filters that know the truth and Topaz.

    python docs/benchmarks/pretrained.py --volumes 3 [--size 128] [--levels 0.15,0.05] [--topaz PYTHON [--whole]]

Each method is given the reconstruction of all frames of a tomogram of size/2 × size × size voxels and nothing else. The
truth is noiseless, through the same tilts, lens and weights. PSNR in dB after least-squares scale and offset,
correlation, FSC area: means over tomograms ± their standard error.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deice import denoise
from deice.bench.suite import Extent
from deice.bench.tegunov import best_tegunov
from deice.bench.tomograms import Tomograms
from deice.checkpoint import Model
from deice.devices import choose_device
from deice.filters.fitted import best_gaussian, radial_wiener
from deice.image import Geometry, Image
from deice.metrics import correlation, fourier_shell_correlation, frc_area, psnr
from deice.peers import PRETRAINED, denoise_by_topaz

OURS = "**deice**"
Volumes = list[Tensor]  # each (z, y, x)


def volumes(count: int, extent: Extent, model: Model, topaz: Path | None, whole: bool, device: str) -> None:
    """Print a table for each level, in Markdown."""
    drawn = [Tomograms().draw(extent, "test", index, extent.levels) for index in range(count)]
    truths = [torch.from_numpy(one.truth) for one in drawn]
    for level in extent.levels:
        noisy = [torch.from_numpy((one.levels[level].even + one.levels[level].odd) / 2) for one in drawn]
        measured = np.mean([one.levels[level].facts["signal_to_noise"] for one in drawn])
        answers = filtered(noisy, truths, drawn[0].geometry)
        answers |= by_topaz(noisy, topaz, whole, device) if topaz else {}
        answers |= by_model(noisy, model, drawn[0].geometry, device)
        found = {name: [figures(a, truth) for a, truth in zip(given, truths)] for name, given in answers.items()}
        print(f"\nSignal/noise {measured:.3f} a voxel, {count} tomograms of {'×'.join(map(str, noisy[0].shape))}\n")
        print(table(found), flush=True)


def filtered(noisy: Volumes, truths: Volumes, geometry: Geometry) -> dict[str, Volumes]:
    """Raw, and what filters make of it whose parameters are the best for the truth."""
    pairs = list(zip(noisy, truths))
    return {
        "noisy": noisy,
        "best Gaussian (knows the truth)": [best_gaussian(n, t)[0] for n, t in pairs],
        "Wiener-like, Tegunov (knows the truth)": [best_tegunov(n, t, geometry.pixel_size)[0] for n, t in pairs],
        "radial Wiener (knows the truth)": [radial_wiener(n, t) for n, t in pairs],
    }


def by_topaz(noisy: Volumes, topaz: Path, whole: bool, device: str) -> dict[str, Volumes]:
    """The pretrained models of volumes, in patches as Topaz does by itself, and without; whole: only without."""
    cuda = choose_device(device).type == "cuda"
    answers = {}
    for name in PRETRAINED[3]:
        for title, at_once in ((f"Topaz {name}", False), (f"Topaz {name}, whole", True)):
            if at_once or not whole:
                found = denoise_by_topaz(topaz, name, [n.numpy() for n in noisy], cuda=cuda, whole=at_once)
                answers[title] = [torch.from_numpy(answer.image) for answer in found]
    return answers


def by_model(noisy: Volumes, model: Model, geometry: Geometry, device: str) -> dict[str, Volumes]:
    """What `deice denoise` gives, which calibrates no volume by itself, and the same calibrated on the very volume."""
    def network(calibration: bool) -> Volumes:
        images = [Image(n.numpy()[None], geometry) for n in noisy]
        answers = [denoise(image, model, device=device, calibration=calibration) for image in images]
        return [torch.from_numpy(answer.views[0]) for answer in answers]

    return {"deice, calibrated": network(True), OURS: network(False)}


def figures(answer: Tensor, truth: Tensor) -> tuple[float, float, float]:
    """PSNR, correlation and FSC area."""
    return psnr(answer, truth), correlation(answer, truth), frc_area(fourier_shell_correlation(answer, truth)[1])


def table(found: dict[str, list[tuple[float, float, float]]]) -> str:
    """A row for each method, its last cell the paired difference of ours in correlation, ± over tomograms."""
    lines = ["| | PSNR | CC | FSC area | ours − this, CC |", "|:---|---:|---:|---:|---:|"]
    for name, values in found.items():
        columns = np.array(values).T
        cells = [stated(column, digits) for column, digits in zip(columns, (2, 3, 3), strict=True)]
        difference = "" if name == OURS else stated(np.array(found[OURS])[:, 1] - columns[1], 3, "+")
        lines.append(f"| {name} | {' | '.join(cells)} | {difference} |")
    return "\n".join(lines)


def stated(values: Sequence[float] | np.ndarray, digits: int, sign: str = "") -> str:
    """Mean ± standard error; of one value, the value."""
    mean = f"{np.mean(values):{sign}.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1) / len(values) ** 0.5:.{digits}f}"
