"""Real EMPIAR-10146 pairs, leave one out: denoise the mean of 49 frames, judge by the one frame it never saw.

    python docs/benchmarks/real_pairs.py FOLDER [--steps 2500] [--device auto] [--folds 0,1,2,3]

FOLDER holds NAME_rest49.mrc, NAME_frame.mrc and pairs.csv (name, shift_y, shift_x: the roll that aligns the frame).
Noise2Noise learns frame from rest on the other pairs (one of them for validation); the judge is the correlation ×1000
of the denoised rest with the frame, after a Gaussian of σ = 60 pixels is subtracted from both and a margin of 20
pixels is cut. Beside it: the raw mean, Gaussians, and a radial filter fitted on the other pairs.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import torch

from deice import denoise, read, train
from deice.devices import machine
from deice.filters import Gaussian
from deice.ops.fourier import frequency_radius, from_half_transform, half_transform

SIGMAS = (1, 2, 3, 4, 6)
SHELLS = 200
RECIPE = {
    "scheme": {"name": "noise2noise"},
    "net": {"name": "unet", "size": 16, "depth": 3},
    "data": {"window": 128},
    "training": {"batch": 16, "lr": 2e-3, "average": 0.99, "validate_every": 125, "validation_batches": 16},
}


def load(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The means of 49 frames and the left-out frames, aligned: lists of (y, x) float32."""
    rests, frames = [], []
    with open(folder / "pairs.csv") as file:
        for row in csv.DictReader(file):
            shift = (int(row["shift_y"]), int(row["shift_x"]))
            rests.append(np.asarray(read(folder / f"{row['name']}_rest49.mrc")).astype(np.float32))
            frame = np.asarray(read(folder / f"{row['name']}_frame.mrc")).astype(np.float32)
            frames.append(np.roll(frame, shift, (0, 1)))
    return rests, frames


def gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    """`image` smoothed by a Gaussian of `sigma` pixels."""
    return Gaussian(sigma).apply(torch.from_numpy(image)).numpy()


def score(denoised: np.ndarray, frame: np.ndarray) -> float:
    """Correlation ×1000 of what varies faster than σ = 60 pixels, away from the edges."""
    one, two = ((x - gaussian(x, 60))[20:-20, 20:-20].ravel().astype(np.float64) for x in (denoised, frame))
    return 1000 * float(np.corrcoef(one, two)[0, 1])


def radial(rests: list[np.ndarray], frames: list[np.ndarray], left_out: int) -> np.ndarray:
    """The left-out rest through the radial filter that predicts frame from rest best on the other pairs."""
    spectra = [[half_transform(torch.from_numpy(x).double(), 2) for x in kind] for kind in (rests, frames)]
    shell = (frequency_radius(rests[0].shape) / 0.5 * SHELLS).long().clamp(max=SHELLS)

    def total(values: torch.Tensor) -> torch.Tensor:
        return torch.zeros(SHELLS + 1, dtype=torch.float64).index_add_(0, shell.flatten(), values.flatten())

    others = [i for i in range(len(rests)) if i != left_out]
    cross = sum(total((spectra[0][i] * spectra[1][i].conj()).real) for i in others)
    power = sum(total(spectra[0][i].abs().square()) for i in others)
    return from_half_transform(spectra[0][left_out] * (cross / power)[shell], rests[0].shape).float().numpy()


def main() -> None:
    """Print the table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folds", default="0,1,2,3")
    given = parser.parse_args()
    rests, frames = load(given.folder)
    folds = [int(fold) for fold in given.folds.split(",")]
    rows: dict[str, list[float]] = {"raw": [score(rests[i], frames[i]) for i in folds]}
    for sigma in SIGMAS:
        rows[f"Gaussian σ = {sigma}"] = [score(gaussian(rests[i], sigma), frames[i]) for i in folds]
    rows["radial filter, fitted on the others"] = [score(radial(rests, frames, i), frames[i]) for i in folds]
    seconds, ours = [], []
    for fold in folds:
        others = [i for i in range(len(rests)) if i != fold]
        began = time.monotonic()
        model = train([rests[i][None] for i in others], recipe=RECIPE, target=[frames[i] for i in others],
                      steps=given.steps, device=given.device)
        seconds.append(time.monotonic() - began)
        ours.append(score(np.asarray(denoise(rests[fold][None], model, device=given.device)), frames[fold]))
    rows["deice, Noise2Noise rest → frame"] = ours
    best = max(np.mean(values) for name, values in rows.items() if name.startswith("Gaussian"))
    print(f"{machine()} · {given.steps} steps · {np.mean(seconds):.0f} s of training a fold\n")
    print("| |" + " | ".join(f"left out {fold}" for fold in folds) + " | mean | of the best Gaussian |")
    print("|:---|" + "---:|" * (len(folds) + 2))
    for name, values in rows.items():
        cells = [f"{value:.2f}" for value in [*values, np.mean(values)]]
        print(f"| {name} | {' | '.join(cells)} | {np.mean(values) / best:.3f} |")


if __name__ == "__main__":
    main()
