"""The judge: figures and curves of one answer, plain values that go to disk and into tables."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from deice import metrics
from deice.bench.cases import Pictures
from deice.bench.methods import Answer
from deice.bench.picking import average_precision, pick
from deice.judgement import figures_of

GIGABYTE = 1e9


def judged(known: Pictures, answer: Answer) -> dict[str, Any]:
    """{"name", "fingerprint", "figures": {…}, "curves": {name: [shells]}} of one case.

    Against a truth: PSNR, SSIM, RMSE, correlation, edges, FRC or FSC, and picking average precision where the
    particles are known. Between halves: even/odd correlation and FRC of the denoised halves, and the correlation of
    what was removed from each, which is 0 where only noise was (null where nothing was removed).
    """
    figures: dict[str, float | None] = {}
    curves: dict[str, list[float]] = {}
    if known.truth is not None:
        found, curve = figures_of(answer.image, known.truth)
        figures |= found
        _keep(curves, "frc", curve)
        if known.places is not None:
            figures["ap"] = picking_precision(answer.image, known)
    if known.halves is not None and answer.halves is not None:
        _between_halves(known.halves, answer.halves, figures, curves)
    figures |= {"seconds": answer.cost.seconds, "gigabytes": answer.cost.bytes / GIGABYTE}
    curves["n"] = metrics.fourier_shell_correlation(known.noisy, known.noisy)[2].tolist()
    return {"name": known.name, "fingerprint": known.fingerprint, "pixel_size": known.pixel_size,
            "figures": figures, "curves": curves}


def picking_precision(image: Tensor, known: Pictures) -> float | None:
    """Average precision of the plain picker in `image` (*space), at the sizes of the known particles; None without."""
    if known.places is None or not len(known.places.centres):
        return None
    sizes = sorted(set(known.places.radii.tolist()))
    return average_precision(pick(image, sizes), known.places)


def _between_halves(
    halves: tuple[Tensor, Tensor], denoised: tuple[Tensor, Tensor], figures: dict[str, float | None],
    curves: dict[str, list[float]],
) -> None:
    figures["even_odd"] = metrics.correlation(*denoised)
    between = metrics.fourier_shell_correlation(*denoised)
    figures["frc_halves"] = metrics.frc_area(between[1])
    _keep(curves, "frc_halves", between)
    if torch.equal(halves[0], denoised[0]):
        figures["removed_noise"] = None
        return
    figures["removed_noise"] = metrics.removed_noise_correlation(halves, denoised)
    _keep(curves, "removed", metrics.removed_noise_per_shell(halves, denoised))


def _keep(curves: dict[str, list[float]], name: str, curve: Iterable[Tensor]) -> None:
    frequency, values, *_ = curve
    curves["frequency"] = frequency.tolist()
    curves[name] = [float(f"{value:.6g}") for value in values.tolist()]
