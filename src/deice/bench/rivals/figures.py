"""Figures of one answer: against the truth by two conventions, inside and outside the missing wedge, and membranes."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deice import metrics
from deice.bench.rivals.scenes import Scene, known
from deice.conditions import Conditions
from deice.image import Image
from deice.membranes import Labelling, Ridge, probability_into, scores
from deice.ops.fourier import half_transform, shell_frequencies, shell_sums, tapered

MEMBRANE = 1  # its label
TOLERANCE = 20.0  # Å, of surface-Dice
MARGIN = 10.0  # degrees from the last tilt to what counts as inside the wedge: less leaks into it from outside
CLIPS = (0.1, 0.5)  # of the ridge detector: what suits a noisy volume does not suit a denoised one
THRESHOLDS = (0.35, 0.45, 0.55, 0.65, 0.75, 0.85)  # of its probability


def judged(answer: Tensor, scene: Scene, device: torch.device) -> dict[str, Any]:
    """{"figures": {…}, "curves": {"frequency", "measured", "wedge"}, "membranes": {setting: {dice, surface_dice}}}.

    psnr_minmax, ssim_minmax: answer and density of the scene, each brought to 0 … 1 by its own extremes, as F2Fd's
    program does.  psnr, ssim, cc: against the truth, PSNR and SSIM after least-squares scale and offset.  cc_whole:
    correlation with the truth of which no wedge is missing.  fsc_measured, fsc_wedge: mean over shells to Nyquist of
    the shell correlation where tilts measured, and where they did not, there with the whole truth.
    """
    answer, exact = answer.double(), torch.equal(answer, scene.truth)
    aligned = metrics.align(answer, scene.truth)
    found: dict[str, float | None] = {
        "psnr_minmax": psnr_minmax(answer, scene.density),
        "ssim_minmax": metrics.ssim(stretched(answer), stretched(scene.density)),
        "psnr": None if exact else metrics.psnr(answer, scene.truth), "ssim": metrics.ssim(aligned, scene.truth),
        "cc": metrics.correlation(answer, scene.truth), "cc_whole": metrics.correlation(answer, scene.whole),
    }
    shape, (first, last) = scene.truth.shape, scene.tilt_range
    outside = shells(answer, scene.truth, known(shape, (first, last)))
    inside = shells(answer, scene.whole, 1 - known(shape, (first - MARGIN, last + MARGIN)))
    found |= {"fsc_measured": metrics.frc_area(outside), "fsc_wedge": metrics.frc_area(inside)}
    curves = {"frequency": shell_frequencies(scene.truth.shape)[1:].tolist(), "measured": _short(outside),
              "wedge": _short(inside)}
    return {"figures": found, "curves": curves, "membranes": membranes(answer, scene, device)}


def stretched(volume: Tensor) -> Tensor:
    """`volume` (*space) float64 brought to 0 … 1 by its extremes."""
    volume = volume.double()
    return (volume - volume.min()) / metrics.data_range(volume)


def psnr_minmax(answer: Tensor, target: Tensor) -> float:
    """10·log10(1 / mean square error) of two volumes (*space), each stretched to 0 … 1, in dB."""
    return -20 * math.log10(max(metrics.rmse(stretched(answer), stretched(target)), torch.finfo(torch.float64).eps))


def shells(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Shell correlation of two volumes (z, y, x) over the coefficients that `weight` (z, y, half x) marks: (shells,).

    Edges are tapered as in `metrics.fourier_shell_correlation`. A shell where either has nothing correlates at 0.
    """
    x, y = (half_transform(tapered(volume.double()), 3) for volume in (a, b))
    products = torch.stack([(x * y.conj()).real, x.abs().square(), y.abs().square()]) * weight
    cross, power_a, power_b = shell_sums(products, a.shape)[:, 1:]
    floors = [4 * torch.finfo(torch.float64).eps * float(power.sum()) for power in (power_a, power_b)]
    filled = (power_a > floors[0]) & (power_b > floors[1])
    return torch.where(filled, cross / torch.where(filled, power_a * power_b, 1.0).sqrt(), 0.0)


def membranes(answer: Tensor, scene: Scene, device: torch.device) -> dict[str, dict[str, float]]:
    """Dice and surface-Dice of the ridge detector's membranes in `answer` (z, y, x) at each of CLIPS and THRESHOLDS.

    Empty where the scene has no membrane. Which setting counts is chosen later, on other scenes.
    """
    if not (scene.labels == MEMBRANE).any() or answer.std() == 0:
        return {}
    pixel_size = scene.geometry.pixel_size
    assert pixel_size is not None, "simulated tomograms know their voxels"
    image, found, labels = Image(answer.float().numpy()[None], scene.geometry), {}, np.zeros(answer.shape, np.int8)
    for clip in CLIPS:
        probability = np.zeros(answer.shape, np.float32)
        probability_into(probability, image, Ridge(clip=clip), Conditions(device))
        for threshold in THRESHOLDS:
            Labelling(threshold).into(labels, probability, pixel_size)
            given = scores(labels, scene.labels, TOLERANCE / pixel_size, (MEMBRANE,))
            found[f"clip {clip:g}, threshold {threshold:g}"] = {key: given[key] for key in ("dice", "surface_dice")}
    return found


def _short(curve: Tensor) -> list[float]:
    return [float(f"{value:.5g}") for value in curve.tolist()]
