"""Tables of quality over many images, one image at a time: against a truth, and between halves.

Every table against a truth carries what a denoiser must beat: the noisy input, its best pointwise-linear rescale,
the Gaussian of the best σ and the radial Wiener filter, the last two fitted with the truth in hand. PSNR and SSIM
are taken after least-squares scale and offset, so `noisy` and `pointwise` differ in RMSE alone: a gain in PSNR that
a rescale explains is none.
"""

import logging
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

from torch import Tensor

from deice import metrics
from deice.errors import PairFault, RecipeFault
from deice.filters.fitted import best_gaussian, radial_wiener
from deice.subjects import Picture, Subject, load, subjects
from deice.tables import Curve, Row, as_csv, markdown

log = logging.getLogger(__name__)

__all__ = ["as_csv", "compare", "figures_of", "markdown", "measure"]

MEASURED = "measured"  # the row of the images given to `measure`


def compare(
    truths: Iterable[Any],
    noisy: Iterable[Any],
    methods: dict[str, Iterable[Any]],
    pixel_size: float | None = None,
    axes: str | None = None,
) -> dict[str, Any]:
    """{"methods": {name: {"psnr", "ssim", "rmse", "cc", "edges", "frc", "frc_0.5", "frc_0.143", "n", "se"}}}.

    Image by image: arrays or tensors (*space), Images or paths, from lists or generators of one length (else
    PairFault); rows `noisy`, `pointwise`, `gaussian` (with its σ in pixels) and `wiener` are added.
    psnr: dB, range max − min of the truth. frc: mean of the FRC or FSC from the first shell to Nyquist; its crossings
    are of the mean curve, in Å, null without a pixel size or a crossing. ssim: null for axes below 11 pixels.
    """
    rows: dict[str, Row] = {}
    sizes = []
    absent = object()
    for truth, noise, *answers in zip_longest(truths, noisy, *methods.values(), fillvalue=absent):
        if any(item is absent for item in (truth, noise, *answers)):
            raise PairFault(f"truths, noisy images and {', '.join(methods) or 'methods'} differ in number; "
                            "expected one of each per image")  # fmt: skip
        reference = load(truth, axes)
        sizes.append(pixel_size or reference.pixel_size)
        pictures = {name: load(answer, axes).pixels for name, answer in zip(methods, answers, strict=True)}
        for name, figures, curve in _rows(reference.pixels, load(noise, axes).pixels, pictures):
            rows.setdefault(name, Row()).add(figures, {"frc": curve})
    if not rows:
        raise PairFault("no images to compare; expected at least one")
    return {"methods": {name: row.summary(_one_pixel_size(sizes)) for name, row in rows.items()}}


def measure(
    images: Any,
    truth: Any = None,
    halves: Any = None,
    denoised_halves: Any = None,
    noisy: Any = None,
    pixel_size: float | None = None,
    axes: str | None = None,
) -> dict[str, Any]:
    """Figures of quality of one or several images: arrays (*space), Images, files, globs or folders.

    truth, noisy: as many images, or a folder with the same file names. halves, denoised_halves: an (even, odd) pair
    for each image, or a folder of pairs named after them; denoised_halves are net(even), net(odd). Without `noisy` it
    is the mean of the halves. pixel_size: Å, where the headers do not say. axes: "zyx" where a header is silent.

    → {"n", "methods": `compare`'s table with the row `measured` (with a truth),
       "halves": {"even_odd_before", "even_odd_after", "removed_noise_correlation", "frc_before_0.143", …, "n", "se"},
       "images": [{"name", "shape", "pixel_size", "truth": figures, "halves": figures,
                   "curves": {"frequency" (cycles per pixel), "power", "frc", "frc_before", "removed_noise", …}}]}
    Raises PairFault for images that do not belong together, UserError for pixels that are not finite.
    """
    if pixel_size is not None and not pixel_size > 0:
        raise RecipeFault(f"a pixel size of {pixel_size:g} Å; expected a number above 0")
    rows: dict[str, Row] = {}
    between = Row()
    entries, sizes = [], []
    for subject in subjects(images, truth, halves, denoised_halves, noisy):
        picture = load(subject.image, axes)
        size = pixel_size or picture.pixel_size
        entry = _entry(subject, picture, size)
        if subject.truth is not None:
            entry["truth"] = _against_truth(subject, picture, rows, entry["curves"], axes)
        if subject.halves is not None:
            figures, curves = _between_halves(subject, entry["curves"], axes)
            between.add(figures, curves)
            entry["halves"] = figures
        entries.append(entry)
        sizes.append(size)
    common = _one_pixel_size(sizes)
    table = {"methods": {name: row.summary(common) for name, row in rows.items()}} if rows else {}
    halved = {"halves": between.summary(common)} if between.figures else {}
    if rows and "noisy" not in rows:
        log.warning("no noisy input is known: the table lacks noisy, pointwise, gaussian and wiener; give --noisy "
                    "or --halves")  # fmt: skip
    return {"n": len(entries), **table, **halved, "images": entries}


def _entry(subject: Subject, picture: Picture, pixel_size: float | None) -> dict[str, Any]:
    frequency, power = metrics.radial_power_spectrum(picture.pixels)
    shape = list(picture.pixels.shape)
    curves = {"frequency": _numbers(frequency), "power": _numbers(power)}
    return {"name": subject.name, "shape": shape, "pixel_size": pixel_size, "curves": curves}


def _against_truth(
    subject: Subject, picture: Picture, rows: dict[str, Row], drawn: dict[str, list[float]], axes: str | None
) -> dict[str, float | None]:
    """The figures of one image against its truth; baselines go to `rows` alone, curves to `drawn`."""
    truth = load(subject.truth, axes).pixels
    noisy = _noisy(subject, axes)
    drawn["power_truth"] = _numbers(metrics.radial_power_spectrum(truth)[1])
    if noisy is not None:
        drawn["power_noisy"] = _numbers(metrics.radial_power_spectrum(noisy)[1])
    mine: dict[str, float | None] = {}
    for name, figures, curve in _rows(truth, noisy, {MEASURED: picture.pixels}):
        rows.setdefault(name, Row()).add(figures, {"frc": curve})
        drawn["frc" if name == MEASURED else f"frc_{name}"] = _numbers(curve[1])
        mine = figures if name == MEASURED else mine
    return mine


def _between_halves(
    subject: Subject, drawn: dict[str, list[float]], axes: str | None
) -> tuple[dict[str, float | None], dict[str, Curve]]:
    """Figures and shell correlations between the halves, before and (with denoised halves) after."""
    before = _pixels(subject.halves, axes)
    figures: dict[str, float | None] = {"even_odd_before": metrics.correlation(*before)}
    curves = {"frc_before": metrics.fourier_shell_correlation(*before)[:2]}
    if subject.denoised_halves is not None:
        after = _pixels(subject.denoised_halves, axes)
        figures["even_odd_after"] = metrics.correlation(*after)
        figures["removed_noise_correlation"] = metrics.removed_noise_correlation(before, after)
        curves["frc_after"] = metrics.fourier_shell_correlation(*after)[:2]
        drawn["removed_noise"] = _numbers(metrics.removed_noise_per_shell(before, after)[1])
    for name, curve in curves.items():
        drawn[name] = _numbers(curve[1])
        figures[name] = metrics.frc_area(curve[1])
    return figures, curves


def _rows(
    truth: Tensor, noisy: Tensor | None, answers: dict[str, Tensor]
) -> Iterator[tuple[str, dict[str, float | None], Curve]]:
    """(name, figures, FRC) of the baselines and of each answer, for one image."""
    if noisy is not None:
        figures, curve = figures_of(noisy, truth)
        yield "noisy", figures, curve
        # every other figure is blind to scale and offset
        yield "pointwise", {**figures, "rmse": metrics.rmse(metrics.align(noisy, truth), truth)}, curve
        smooth, sigma = best_gaussian(noisy, truth)
        figures, curve = figures_of(smooth, truth)
        yield "gaussian", {**figures, "sigma_pixels": sigma}, curve
        yield "wiener", *figures_of(radial_wiener(noisy, truth, sigma), truth)
    for name, answer in answers.items():
        yield name, *figures_of(answer, truth)


def figures_of(image: Tensor, truth: Tensor) -> tuple[dict[str, float | None], Curve]:
    """The figures of one image (*space) against its truth, and its FRC or FSC: the columns of `compare`."""
    frequency, curve, _ = metrics.fourier_shell_correlation(image, truth)
    fits_window = min(truth.shape) > 2 * metrics.WINDOW_RADIUS
    return {
        "psnr": metrics.psnr(image, truth),
        "ssim": metrics.ssim(metrics.align(image, truth), truth) if fits_window else None,
        "rmse": metrics.rmse(image, truth),
        "cc": metrics.correlation(image, truth),
        "edges": metrics.edge_preservation(image, truth) if min(truth.shape) > 2 else None,
        "frc": metrics.frc_area(curve),
    }, (frequency, curve)


def _noisy(subject: Subject, axes: str | None) -> Tensor | None:
    if subject.noisy is not None:
        return load(subject.noisy, axes).pixels
    if subject.halves is None:
        return None
    even, odd = _pixels(subject.halves, axes)
    return (even + odd) / 2


def _pixels(pair: tuple[Any, Any] | None, axes: str | None) -> tuple[Tensor, Tensor]:
    even, odd = (load(half, axes).pixels for half in pair or ())
    return even, odd


def _one_pixel_size(sizes: list[float | None]) -> float | None:
    known = [size for size in sizes if size is not None]
    if known and max(known) > min(known) * (1 + 1e-3):
        raise RecipeFault(f"pixel sizes from {min(known):g} to {max(known):g} Å in one table; expected one: "
                          "measure them apart")  # fmt: skip
    return known[0] if known else None


def _numbers(curve: Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in curve.tolist()]
