"""deice denoise TOMOGRAM -m SCHEME: trained on that very tomogram, denoised, pictured; padding and thin volumes."""

import numpy as np
import pytest
from worlds_for_tests import structure, views

from deice import read, write
from deice.cli import run
from deice.sources import source_of

STEPS = ["--steps", "4", "--axes", "zyx"]
F2FD = """
[data]
window = [8]
[scheme]
name = "f2fd"
total_samples = 4
n_bernoulli_samples = 2
total_samples_prediction = 1
predict_N_times = 1
[net]
name = "unet"
size = 4
depth = 4
dropout = 0.2
"""


@pytest.mark.parametrize("shape", [(33, 75, 61), (12, 40, 36)])
def test_one_command_denoises_a_thin_odd_tomogram_and_pictures_it(tmp_path, shape, capsys):
    _, noisy = views(shape, count=1)
    write(tmp_path / "tomogram.mrc", noisy[0] * 3 + 100)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[data]\nwindow=[16]\n[net]\nname='unet'\nsize=4\ndepth=1\n")
    command = ["denoise", str(tmp_path / "tomogram.mrc"), "-m", "recorrupted", "-o", str(tmp_path / "out")]
    assert run([*command, *STEPS, "--recipe", str(recipe)]) == 0
    answer = read(tmp_path / "out" / "tomogram.mrc", axes="zyx")
    assert answer.space == shape
    assert np.isfinite(answer.views[0]).all()
    assert (tmp_path / "out" / "tomogram.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out" / "runs" / "tomogram" / "model.safetensors").exists()


def test_f2fd_makes_its_network_shallower_where_the_tomogram_is_too_small(tmp_path, capsys):
    _, noisy = views((12, 33, 20), count=1)
    write(tmp_path / "tiny.mrc", noisy[0])
    (tmp_path / "f2fd.toml").write_text(F2FD)
    command = ["denoise", str(tmp_path / "tiny.mrc"), "-m", "f2fd", "-o", str(tmp_path / "out")]
    assert run([*command, *STEPS, "--recipe", str(tmp_path / "f2fd.toml")]) == 0
    assert "too small for a network of 4 poolings; 3 are used" in capsys.readouterr().err
    assert np.isfinite(read(tmp_path / "out" / "tiny.mrc", axes="zyx").views[0]).all()


def test_padding_is_said_and_left_out_and_stray_values_that_are_not_finite_do_no_harm(caplog):
    _, noisy = views((20, 30, 26), count=1)
    padded = noisy.copy()
    padded[:, :3] = 0
    padded[:, :, :, -5:] = 0
    padded[0, 10, 12, 14] = np.nan
    with caplog.at_level("WARNING"):
        source = source_of("padded", [type("Image", (), {"views": padded})()], "standard")
    assert source.region == ((3, 20), (0, 30), (0, 21))
    assert "training leaves them out" in caplog.text
    assert np.isfinite(source.read((8, 10, 12), (4, 4, 4))).all()
    assert source_of("whole", [type("Image", (), {"views": noisy})()], "standard").region == ((0, 20), (0, 30), (0, 26))


def test_a_picture_is_refused_in_one_line(tmp_path, capsys):
    write(tmp_path / "picture.mrc", np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32))
    assert run(["denoise", str(tmp_path / "picture.mrc"), "-m", "recorrupted", "--steps", "2",
                "-o", str(tmp_path / "out")]) == 2
    assert "learns from volumes" in capsys.readouterr().err
    assert not (tmp_path / "out" / "runs").exists()


def test_a_tomogram_that_was_filtered_is_said(tmp_path, capsys):
    write(tmp_path / "filtered.mrc", structure((24, 40, 32)))
    run(["denoise", str(tmp_path / "filtered.mrc"), "-m", "recorrupted", "-o", str(tmp_path / "out"), *STEPS])
    assert "it was filtered, or its tilt axis is another" in capsys.readouterr().err
