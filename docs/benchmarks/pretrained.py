"""The packaged model of micrographs on real pairs, and on simulated worlds that it never learnt from.

    python docs/benchmarks/pretrained.py [--pairs FOLDER] [--model pretrained] [--topaz PYTHON] [--worlds 2]
    python docs/benchmarks/pretrained.py --volumes 3 [--size 128] [--topaz PYTHON]     see pretrained_volumes.py

Real pairs (FOLDER as for real_pairs.py): the mean of 49 frames is denoised, with nothing else given, and judged by the
frame it never saw: correlation ×1000 as in real_pairs.py. z, over tiles: both pictures are brought to mean 0 and
standard deviation 1 as a whole, so that a score is the mean over its pixels of denoised × frame; the difference of two
methods' products is averaged in tiles of 128², which share no pixel, and z is their mean over its standard error. The
frame's noise is white, so that neighbouring tiles are nearly independent: their correlation stands below the table.

Worlds: the physical simulator of `deice simulate`, other proteins, optics and cameras than were learnt from.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pretrained_volumes import volumes
from real_pairs import SIGMAS, gaussian, load, radial

from deice import denoise, simulate
from deice.bench.suite import Extent
from deice.calibration import fit_gains, mixed, noise_power, shells_of
from deice.checkpoint import Model
from deice.devices import machine
from deice.estimators import choose_estimator
from deice.filters.fitted import best_gaussian, radial_wiener
from deice.metrics import correlation, fourier_shell_correlation, frc_area, psnr
from deice.ops.cosine import cosine_transform, from_cosine_transform
from deice.peers import denoise_by_topaz, find_topaz

TILE, MARGIN = 128, 20  # pixels
TOPAZ = ("unet", "unet-small", "fcnn")
WORLDS = {
    "300 kV, 1.1 Å, K3-like, 50 e/Å²": {"pixel_size": 1.1, "dose": 50.0, "defocus": (0.8, 2.2)},
    "200 kV, 0.9 Å, scintillator, 30 e/Å²": {
        "pixel_size": 0.9, "dose": 30.0, "kv": 200.0, "detector": "integrating", "defocus": (1.0, 2.5)},
    "300 kV, 3 Å, crowded, thick ice": {
        "pixel_size": 3.0, "dose": 40.0, "coverage": 0.35, "ice_thickness": 900.0, "defocus": (1.5, 3.0)},
    "300 kV, 2 Å, sparse, 15 e/Å²": {"pixel_size": 2.0, "dose": 15.0, "coverage": 0.03},
}

Denoiser = Callable[[np.ndarray], np.ndarray]


def wiener_of_itself(picture: np.ndarray) -> np.ndarray:
    """The radial Wiener filter that a picture (y, x) tells by its own spectrum: calibration of a silent network."""
    scale = picture.std()
    spectrum = cosine_transform(torch.from_numpy((picture - picture.mean()) / scale), 2)
    shells, nothing = shells_of(picture.shape), torch.zeros_like(spectrum)
    noise = noise_power(shells.means(spectrum**2), shells)
    gains = fit_gains(spectrum, nothing, nothing, nothing, noise, shells)
    return from_cosine_transform(mixed(spectrum, nothing, gains), 2).numpy() * scale + picture.mean()


def denoisers(model: Model, device: str) -> dict[str, Denoiser]:
    """What needs nothing but the picture."""
    def network(calibration: bool) -> Denoiser:
        return lambda picture: np.asarray(denoise(picture, model, device=device, calibration=calibration))

    return {"its own Wiener filter": wiener_of_itself, "deice, bare network": network(False),
            "**deice, calibrated**": network(True)}


def high_passed(picture: np.ndarray) -> np.ndarray:
    """What varies faster than σ = 60 pixels, away from the edges, of mean 0 and standard deviation 1."""
    fine = (picture - gaussian(picture, 60))[MARGIN:-MARGIN, MARGIN:-MARGIN].astype(np.float64)
    return (fine - fine.mean()) / fine.std()


def tiles(product: np.ndarray) -> np.ndarray:
    """Means of a picture's tiles, (rows, columns); what is left at the far edges is not looked at."""
    rows, columns = (size // TILE for size in product.shape)
    return product[: rows * TILE, : columns * TILE].reshape(rows, TILE, columns, TILE).mean((1, 3))


def z_of(ours: list[np.ndarray], theirs: list[np.ndarray]) -> tuple[float, float]:
    """z of the paired difference over all tiles of all pictures, and the correlation of neighbouring tiles."""
    differences = [one - other for one, other in zip(ours, theirs)]
    flat = np.concatenate([d.ravel() for d in differences])
    pairs = np.concatenate([np.stack([d[:, 1:].ravel(), d[:, :-1].ravel()]) for d in differences], 1)
    return flat.mean() / (flat.std(ddof=1) / len(flat) ** 0.5), float(np.corrcoef(pairs)[0, 1])


def real_pairs(folder: Path, model: Model, topaz: Path | None, device: str) -> None:
    """Print the table of the real pairs, in Markdown."""
    rests, frames = load(folder)
    answers: dict[str, list[np.ndarray]] = {"raw": rests}
    for sigma in SIGMAS:
        answers[f"Gaussian σ = {sigma}"] = [gaussian(rest, sigma) for rest in rests]
    answers["radial filter, fitted on the others"] = [radial(rests, frames, i) for i in range(len(rests))]
    for name in TOPAZ if topaz else ():
        answers[f"Topaz {name}"] = [answer.image for answer in denoise_by_topaz(topaz, name, rests)]
    for name, denoiser in denoisers(model, device).items():
        answers[name] = [denoiser(rest) for rest in rests]
    judged = [high_passed(frame) for frame in frames]
    products = {name: [high_passed(a) * f for a, f in zip(given, judged)] for name, given in answers.items()}
    scores = {name: [1000 * product.mean() for product in given] for name, given in products.items()}
    cut = {name: [tiles(product) for product in given] for name, given in products.items()}
    best = max((name for name in scores if name.startswith("Gaussian")), key=lambda name: np.mean(scores[name]))
    print("| | " + " | ".join(f"pair {i}" for i in range(len(rests))) + f" | mean | z against {best} |")
    print("|:---|" + "---:|" * (len(rests) + 2))
    for name, values in scores.items():
        z = "" if name == best else f"{z_of(cut[name], cut[best])[0]:+.1f}"
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in [*values, np.mean(values)])} | {z} |")
    ours = cut["**deice, calibrated**"]
    tested = {f"Topaz {TOPAZ[0]}", best} & cut.keys()
    print(f"\n{sum(tile.size for tile in ours)} tiles of {TILE}². " + "; ".join(
        f"calibrated against {name}: z = {z:+.1f}, neighbouring tiles correlate by {r:+.2f}"
        for name, (z, r) in ((name, z_of(ours, cut[name])) for name in sorted(tested))) + ".")


def worlds(count: int, size: int, model: Model, topaz: Path | None, device: str) -> None:
    """Print a table for each world, in Markdown: PSNR (dB), correlation and FRC area with the noiseless truth."""
    for number, (title, settings) in enumerate(WORLDS.items()):
        made = simulate("micrographs", n=count, seed=9100 + number, size=size, proteins=900 + number, **settings)
        truths = [torch.from_numpy(one.truth).double() for one in made]
        noisy = [np.asarray(one.average(one.halves())) for one in made]
        known = list(zip(map(torch.from_numpy, noisy), truths))
        snr = np.mean([one.signal_to_noise for one in made])
        answers = {
            "noisy": noisy,
            "best Gaussian (knows the truth)": [best_gaussian(n, t)[0] for n, t in known],
            "radial Wiener (knows the truth)": [radial_wiener(n, t) for n, t in known],
        }
        for name in TOPAZ if topaz else ():
            answers[f"Topaz {name}"] = [answer.image for answer in denoise_by_topaz(topaz, name, noisy)]
        answers |= {name: [denoiser(n) for n in noisy] for name, denoiser in denoisers(model, device).items()}
        print(f"\n{title}: signal/noise {snr:.3f} a pixel, {count} pictures of {size}²\n\n| | PSNR | CC | FRC |\n"
              "|:---|---:|---:|---:|")
        for name, given in answers.items():
            pairs = [(torch.as_tensor(np.asarray(answer)).double(), truth) for answer, truth in zip(given, truths)]
            found = [(psnr(a, t), correlation(a, t), frc_area(fourier_shell_correlation(a, t)[1])) for a, t in pairs]
            print("| {} | {:.2f} | {:.3f} | {:.3f} |".format(name, *np.mean(found, 0)))


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--model", default="pretrained")
    parser.add_argument("--topaz")
    parser.add_argument("--worlds", type=int, default=2, help="pictures of each world")
    parser.add_argument("--volumes", type=int, default=0, help="tomograms, instead of pictures")
    parser.add_argument("--levels", default="0.15,0.05", help="of tomograms: signal/noise variance a voxel")
    parser.add_argument("--whole", action="store_true", help="of tomograms: Topaz's models without patches only")
    parser.add_argument("--size", type=int, help="pixels: 768 of pictures, 128 of tomograms")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    model, topaz = choose_estimator(given.model, {}, 3 if given.volumes else 2), find_topaz(given.topaz)
    assert isinstance(model, Model)
    model = replace(model, pixel_size=None)
    print(machine() + "\n")
    if given.volumes:
        levels = tuple(float(level) for level in given.levels.split(","))
        extent = Extent(train=0, test=given.volumes, size=given.size or 128, levels=levels)
        volumes(given.volumes, extent, model, topaz, given.whole, given.device)
        return
    if given.pairs:
        real_pairs(given.pairs, model, topaz, given.device)
    if given.worlds:
        worlds(given.worlds, given.size or 768, model, topaz, given.device)


if __name__ == "__main__":
    main()
