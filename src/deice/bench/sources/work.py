"""The work of one row: train, denoise the test pictures, judge; the answer is what is kept on disk."""

import logging
import math
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deice import metrics
from deice.bench.sources.data import Pictures
from deice.bench.sources.rows import ROUNDS, Row
from deice.checkpoint import MODEL, Model, load_model
from deice.devices import machine
from deice.errors import UserError
from deice.filters.fitted import best_gaussian, radial_wiener
from deice.inference import denoise
from deice.judgement import figures_of
from deice.losses import fourier
from deice.recipe import Recipe, from_table, to_table
from deice.tables import Row as Means
from deice.training import run

log = logging.getLogger(__name__)

JUDGES = 4  # pictures judged at a time
TIMED_ON = 8  # pictures that a time is taken on: as many as a step needs, and soon open
LAST = 5  # validations whose spread says how stable a training was
Halves = tuple[Tensor, Tensor]
Figures = dict[str, float | None]


def work(row: Row, pictures: Pictures, out: Path, device: torch.device) -> dict[str, Any]:
    """{"row", "identity", "machine", "device", "seconds", "training": {…}, "methods": {name: means and errors}}.

    `out`: the folder of all rows' runs. A run that was begun before is begun anew.
    """
    started = time.perf_counter()
    names = pictures.test_names()
    training: dict[str, Any] = {}
    if row.timed:
        training, methods = times(row, pictures, device), {}
    elif not row.recipe:
        judge = _halves_by_filters if row.pictures == "movies" else _pairs_by_filters
        with ThreadPoolExecutor(JUDGES) as pool:
            methods = means(pool.map(lambda name: judge(row, pictures, name), names))
    else:
        model, training = learn(row.full_recipe(pictures.scale), row, pictures, out / row.name, device)
        with ThreadPoolExecutor(JUDGES) as pool:
            judged = [pool.submit(*_answer(row, pictures, model, name, device)) for name in names]
            methods = means({row.name: figures.result()} for figures in judged)
    return {"row": row.name, "identity": identity(row, pictures), "machine": machine(), "device": device.type,
            "alone": row.alone, "seconds": time.perf_counter() - started, "training": training, "methods": methods}


def identity(row: Row, pictures: Pictures) -> dict[str, Any]:
    """All that a row's figures depend on besides the pictures: equal, and it need not be computed again."""
    recipe = to_table(row.full_recipe(pictures.scale)) if row.recipe else {}
    return {"pictures": row.pictures, "recipe": recipe}


def learn(
    recipe: Recipe, row: Row, pictures: Pictures, folder: Path, device: torch.device
) -> tuple[Model, dict[str, Any]]:
    """The best model of a training, and what is to be said of it.

    spread: 10·log10 of the highest over the lowest of the last validations, in dB.  diverged: why it ended early.
    """
    shutil.rmtree(folder, ignore_errors=True)
    inputs, target = pictures.training(row.pictures)
    validations: list[float] = []
    steps, started, diverged = 0, time.perf_counter(), None
    try:
        for step in run(recipe, inputs, folder, target=target, device=str(device)):
            steps = step.step
            if step.validation is not None and math.isfinite(step.validation):
                validations.append(step.validation)
    except UserError as error:  # the loss was not finite
        if not (folder / MODEL).exists():
            raise
        diverged = str(error)
    last = validations[-LAST:]
    model = load_model(folder)
    said = {"seconds": time.perf_counter() - started, "steps": steps, "validations": validations,
            "spread": 10 * math.log10(max(last) / min(last)), "diverged": diverged,
            "parameters": sum(weights.numel() for weights in model.module.parameters())}
    return model, said


def times(row: Row, pictures: Pictures, device: torch.device) -> dict[str, Any]:
    """{"milliseconds": {loss: of a step, the mean of the rounds}}: the recipe's loss and the row's, in turn.

    The first half of the steps warms up; at the first and the last look at the loss the GPU has finished all before.
    """
    recipe = row.full_recipe(pictures.scale)
    found: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for loss in (recipe.training.loss, row.timed):
            found.setdefault(loss, []).append(_milliseconds(recipe, loss, pictures, device))
    return {"milliseconds": {loss: sum(several) / len(several) for loss, several in found.items()},
            "window": list(recipe.data.window), "batch": recipe.training.batch}


def _milliseconds(recipe: Recipe, loss: str, pictures: Pictures, device: torch.device) -> float:
    inputs, target = pictures.training("clean")
    table = to_table(recipe)
    table["training"] |= {"loss": loss, "validate_every": 1 << 30}
    looks: list[tuple[int, float]] = []
    steps, begun = 0, time.perf_counter()
    for step in run(from_table(table), inputs[:TIMED_ON], None, target=target, device=str(device)):
        steps = step.step
        if step.loss is not None and step.validation is None:
            looks.append((step.step, time.perf_counter()))
    if len(looks) < 2:  # too short a run to leave its beginning out
        return 1e3 * (time.perf_counter() - begun) / steps
    (first, at), (last, until) = looks[0], looks[-1]
    return 1e3 * (until - at) / (last - first)


def means(several: Iterable[dict[str, Figures]]) -> dict[str, dict[str, Any]]:
    """{method: means over the pictures, and their standard errors}."""
    rows: dict[str, Means] = {}
    for by_method in several:
        for method, figures in by_method.items():
            rows.setdefault(method, Means()).add(figures, {})
    return {method: row.summary(None) for method, row in rows.items()}


def _answer(row: Row, pictures: Pictures, model: Model, name: str, device: torch.device) -> tuple[Any, ...]:
    """The figures to take of a test scene, as a function and its arguments: the answer, and what it is judged by."""

    def answer(picture: Tensor) -> Tensor:
        return torch.from_numpy(denoise(picture.numpy(), model, device=str(device)).views[0])

    if row.pictures in ("movies", "packed"):
        halves, truth = pictures.movie(name)
        return of_halves, (answer(halves[0]), answer(halves[1])), halves, truth
    noisy, target = pictures.pair(row.pictures, name)
    return of_pair, answer(noisy), noisy, target


def _pairs_by_filters(row: Row, pictures: Pictures, name: str) -> dict[str, Figures]:
    noisy, target = pictures.pair(row.pictures, name)
    smooth, sigma = best_gaussian(noisy, target)
    answers = {"noisy": noisy, "pointwise": metrics.align(noisy, target), "gaussian": metrics.align(smooth, target),
               "wiener": radial_wiener(noisy, target, sigma)}
    return {method: of_pair(answer, noisy, target) for method, answer in answers.items()}


def _halves_by_filters(row: Row, pictures: Pictures, name: str) -> dict[str, Figures]:
    """As of pairs, each half by itself; and a flat picture, which shows what the other half alone can say."""
    halves, truth = pictures.movie(name)
    filters: dict[str, Callable[[Tensor], Tensor]] = {
        "noisy": lambda half: half,
        "flat": lambda half: torch.full_like(half, float(half.mean())),
        "pointwise": lambda half: metrics.align(half, truth),
        "gaussian": lambda half: metrics.align(best_gaussian(half, truth)[0], truth),
        "wiener": lambda half: radial_wiener(half, truth),
    }
    return {method: of_halves((apply(halves[0]), apply(halves[1])), halves, truth)
            for method, apply in filters.items()}


def of_pair(answer: Tensor, noisy: Tensor, target: Tensor) -> Figures:
    """Figures of an answer against a target in [0, 1], all (y, x).

    psnr, ssim: as it stands, peak 1, as the source documents take them.  gain: of PSNR over the noisy input, in dB.
    mse: of pixels.  fourier: mean squared difference of log(1 + |F|²), F the transform without a factor, as theirs.
    """
    found, _ = figures_of(answer, target)
    scale = math.sqrt(target.numel())  # of the loss's unitary transform
    before, after = (peak_ratio(picture, target, 1.0) for picture in (noisy, answer))
    spectrum = fourier(scale * answer[None, None].double(), scale * target[None, None].double())
    return found | {"psnr": after, "gain": after - before, "ssim": metrics.ssim(answer, target),
                    "mse": metrics.rmse(answer, target) ** 2, "fourier": float(spectrum)}


def of_halves(answers: Halves, halves: Halves, truth: Tensor) -> Figures:
    """Figures of two denoised halves, each the answer to one half, all (y, x).

    even_odd_before, even_odd: their correlation.  removed_noise: correlation of what was removed (null: nothing was).
    Against the other, noisy half, as both stand: psnr_other, ssim_other, gain_other, ssim_gain_other, range that of
    the other half.  Against the truth, after least-squares scale and offset: psnr, ssim, gain, cc.
    """
    untouched = torch.equal(answers[0].float(), halves[0])
    figures: Figures = {
        "even_odd_before": metrics.correlation(*halves), "even_odd": metrics.correlation(*answers),
        "removed_noise": None if untouched else metrics.removed_noise_correlation(halves, answers),
    }
    each = [_of_half(answer, half, other, truth)
            for answer, half, other in zip(answers, halves, halves[::-1], strict=True)]
    return figures | {key: sum(one[key] for one in each) / 2 for key in each[0]}


def _of_half(answer: Tensor, half: Tensor, other: Tensor, truth: Tensor) -> dict[str, float]:
    span = metrics.data_range(other)
    psnr = {name: (metrics.psnr(picture, truth), peak_ratio(picture, other, span))
            for name, picture in (("before", half), ("after", answer))}
    similar = {name: metrics.ssim(picture, other) for name, picture in (("before", half), ("after", answer))}
    return {
        "psnr": psnr["after"][0], "gain": psnr["after"][0] - psnr["before"][0],
        "cc": metrics.correlation(answer, truth),
        "ssim": metrics.ssim(metrics.align(answer, truth), truth),
        "psnr_other": psnr["after"][1], "gain_other": psnr["after"][1] - psnr["before"][1],
        "ssim_other": similar["after"], "ssim_gain_other": similar["after"] - similar["before"],
    }


def peak_ratio(picture: Tensor, target: Tensor, peak: float) -> float:
    """10·log10(peak² / mean square error) of two pictures (*space) as they stand, in dB; an exact copy: of rounding."""
    error = metrics.rmse(picture, target)
    return 20 * math.log10(peak / max(error, peak * torch.finfo(torch.float64).eps))

