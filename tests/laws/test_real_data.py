"""Real files, where they are: micrographs and tomograms through the command line, and the pairs of EMPIAR-10146."""

import importlib.util
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from deice import denoise, read, train
from deice.checkpoint import load_model
from deice.cli import run

BENCHMARK = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "real_pairs.py"


@pytest.mark.parametrize("name", ["apoferritin_24dec03a_ds8", "ucsf_1142_dw", "leginon_07jan05b_ccd"])
def test_micrographs_by_noise2void(data, tmp_path, capsys, name):
    path = data / "micrographs" / f"{name}.mrc"
    recipe = tmp_path / "small.toml"
    recipe.write_text("[net]\nname='unet'\nsize=8\ndepth=2\n[data]\nwindow=[64]\n[training]\nbatch=8\nsteps=40\n")
    command = ["denoise", str(path), "-m", "noise2void", "-o", str(tmp_path), "--recipe", str(recipe)]
    assert run(command) == 0
    said = capsys.readouterr().err
    assert "correlated" in said  # binned, weighted or of a CCD: none of them has white noise
    with mrcfile.open(path, permissive=True) as raw, mrcfile.open(tmp_path / f"{name}.mrc") as denoised:
        assert denoised.data.shape == raw.data.shape
        assert np.isfinite(denoised.data).all()
        assert float(denoised.voxel_size.x) == pytest.approx(float(raw.voxel_size.x))
        assert abs(denoised.data.mean() - raw.data.mean(dtype=np.float64)) < 0.5 * raw.data.std(dtype=np.float64)
    model = load_model(tmp_path / "runs" / name)
    # no seams: in tiles it is the same picture as in one piece
    tiled, whole = (np.asarray(denoise(path, model, tile=tile, precision="fp32")) for tile in (128, 1024))
    assert np.abs(tiled - whole).max() < 1e-4 * whole.std() + 1e-6 * np.abs(whole).max()


@pytest.mark.parametrize("name", ["microtubule_13pf", "microtubule_14pf"])
def test_tomograms_by_noise2void(data, tmp_path, capsys, name):
    recipe = tmp_path / "small.toml"
    recipe.write_text("[net]\nname='unet'\nsize=4\ndepth=1\n[data]\nwindow=[24]\n[training]\nbatch=2\nsteps=20\n")
    path = data / "tomograms" / f"{name}.tif"
    assert run(["denoise", str(path), "-m", "noise2void", "-o", str(tmp_path), "--recipe", str(recipe)]) == 0
    assert "correlated" in capsys.readouterr().err
    raw = read(path)
    with mrcfile.open(tmp_path / f"{name}.mrc") as denoised:
        assert denoised.data.shape == raw.space
        assert float(denoised.voxel_size.z) == pytest.approx(10.52, abs=0.01)
        assert denoised.is_volume()
        assert np.isfinite(denoised.data).all()
        assert denoised.data.std() > 0


@pytest.mark.slow
def test_real_pairs_keep_what_a_gaussian_keeps(data):
    """One pair left out and a short run; docs/benchmarks/real_pairs.md has all four and the whole run."""
    spec = importlib.util.spec_from_file_location("real_pairs", BENCHMARK)
    pairs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pairs)
    rests, frames = pairs.load(data / "pairs")
    best = max(pairs.score(pairs.gaussian(rests[3], sigma), frames[3]) for sigma in pairs.SIGMAS)
    recipe = {**pairs.RECIPE, "training": {**pairs.RECIPE["training"], "validate_every": 50, "validation_batches": 4}}
    model = train([rests[i][None] for i in range(3)], recipe=recipe, target=frames[:3], steps=250, device="cpu")
    ours = pairs.score(np.asarray(denoise(rests[3][None], model, device="cpu")), frames[3])
    print(f"best Gaussian {best:.2f}, Noise2Noise {ours:.2f}")
    assert ours > 0.9 * best
    assert ours > 1.5 * pairs.score(rests[3], frames[3])
