"""A folder laid out as that of deice demo, small, with everything the report can show."""

import json

import numpy as np
import pytest

from deice.image import Geometry, Image
from deice.io import write


def put(path, pixels, pixel_size=1.5):
    write(path, Image(pixels[None].astype(np.float32), Geometry().with_pixel_size(pixel_size)))


def scene(folder, name, space, seed, noise=3.0):
    """Blobs under independent noise in two halves; "denoised" by a low-pass."""
    random = np.random.default_rng(seed)

    def smooth(pixels, width):
        axes = np.meshgrid(*(np.fft.fftfreq(n) for n in pixels.shape), indexing="ij")
        gain = np.exp(-2 * (np.pi * width) ** 2 * sum(f**2 for f in axes))
        return np.fft.ifftn(np.fft.fftn(pixels) * gain).real

    truth = smooth((random.random(space) > 0.998) * 1.0, 2.5)
    truth = 5 + (truth - truth.mean()) / truth.std()
    halves = [truth + noise * random.standard_normal(space) for _ in range(2)]
    put(folder / "truth" / f"{name}.mrc", truth)
    put(folder / "halves" / f"{name}.mrc", sum(halves) / 2)
    put(folder / "denoised" / f"{name}.mrc", smooth(sum(halves) / 2, 1.2))
    for half, tail in zip(halves, ("EVN", "ODD")):
        put(folder / "halves" / f"{name}_{tail}.mrc", half)
        put(folder / "denoised_halves" / f"{name}_{tail}.mrc", smooth(half, 1.2))


def run_folder(folder, steps=400):
    """metrics.jsonl and recipe.toml as deice train writes them."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    lines = []
    for step in range(10, steps + 1, 10):
        loss = 0.97 + 0.4 * np.exp(-step / 40) + 0.01 * random.standard_normal()
        line = {"step": step, "fraction": step / steps, "seconds": step / 8, "loss": loss}
        lines.append(line | {"lr": 1e-3 * (1 - step / (steps + 1)), "windows_per_second": 120 + random.random()})
        if step % 50 == 0:
            lines.append({"step": step, "validation": loss + 0.005, "best": True, "seconds": step / 8})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "recipe.toml").write_text('[scheme]\nname = "noise2noise"\n\n[training]\nminutes = 3\nlr = 0.001\n')


TABLE = {
    "noisy": {"psnr": 12.1, "ssim": 0.12, "cc": 0.2, "frc": 0.21, "n": 4, "se": {"psnr": 0.1, "ssim": 0.01}},
    "gaussian": {"psnr": 22.15, "ssim": 0.61, "cc": 0.7, "frc": 0.21, "n": 4, "se": {"psnr": 0.1, "ssim": 0.01}},
    "wiener": {"psnr": 22.4, "ssim": 0.62, "cc": 0.71, "frc": 0.21, "n": 4, "se": {"psnr": 0.1, "ssim": 0.01}},
    "pointwise": {"psnr": 14.0, "ssim": 0.2, "cc": 0.2, "frc": 0.21, "n": 4, "se": {"psnr": 0.1, "ssim": 0.01}},
    "deice": {"psnr": 23.45, "ssim": 0.625, "cc": 0.76, "frc": 0.376, "n": 4, "se": {"psnr": 0.1, "ssim": 0.01}},
}


@pytest.fixture(scope="session")
def make_scene():
    """(folder, name, space, seed) → one scene's files."""
    return scene


@pytest.fixture(scope="session")
def make_run():
    """(folder) → a run's files."""
    return run_folder


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """Two micrographs, a run, a table."""
    folder = tmp_path_factory.mktemp("demo")
    for seed in range(2):
        scene(folder, f"micrograph_{seed}", (150, 181), seed)
    run_folder(folder / "run")
    (folder / "table.json").write_text(json.dumps({"methods": TABLE}))
    return folder
