"""The default door: which packaged model is used, what is said of unusual pictures, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from worlds_for_tests import views

import deice.pretrained
from deice import denoise, read, write
from deice.checkpoint import Model, load_model, save_model
from deice.errors import RecipeFault
from deice.image import Geometry, Image
from deice.nets import UNet
from deice.pretrained import packaged, unlike_in_noise
from deice.recipe import Recipe
from deice.schemes import Supervised


def save(folder, axes):
    """A small untrained net in the place of the packaged one."""
    torch.manual_seed(axes)
    recipe = Recipe(scheme=Supervised(directed=True), net=UNet(size=4, depth=1, bias=False))
    weights = recipe.network.build(axes).state_dict()
    name = {2: "micrographs", 3: "tomograms"}[axes]
    facts = {"pixel_size": None, "packaged": True, "calibrated": axes == 2}
    save_model(folder / f"{name}.safetensors", weights, recipe, axes, facts)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with both models."""
    folder = tmp_path / "package"
    folder.mkdir()
    for axes in (2, 3):
        save(folder, axes)
    monkeypatch.setattr(deice.pretrained, "FOLDER", folder)
    return folder


def deice_says(capsys, *arguments):
    """(exit code, stderr) of the command line."""
    from deice.cli import main

    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code or 0, capsys.readouterr().err


def picture(tmp_path, name="a.mrc", size=(96, 80), pixel_size=1.5):
    path = tmp_path / "in" / name
    write(path, views(size, count=1)[1][0], Geometry((pixel_size,) * 3) if pixel_size else Geometry())
    return path


def test_nothing_but_files_and_a_folder_is_needed(package, tmp_path, capsys):
    path = picture(tmp_path)
    assert deice_says(capsys, "denoise", path, "-o", tmp_path / "out")[0] == 0
    named = denoise(path, "pretrained", device="cpu")
    assert np.array_equal(np.asarray(read(tmp_path / "out" / "a.mrc")), np.asarray(named))
    assert np.array_equal(np.asarray(denoise(path, device="cpu")), np.asarray(named))
    own = replace(load_model(package / "micrographs.safetensors"), facts={})
    assert not np.allclose(np.asarray(denoise(path, own, device="cpu")), np.asarray(named))


def test_volumes_are_denoised_by_the_model_of_volumes(package, tmp_path, capsys):
    write(tmp_path / "in" / "v.mrc", views((24, 32, 40), count=1)[1][0], Geometry((10.0,) * 3))
    code, said = deice_says(capsys, "denoise", tmp_path / "in" / "v.mrc", "-o", tmp_path / "out", "--axes", "zyx")
    assert code == 0, said
    assert np.asarray(read(tmp_path / "out" / "v.mrc", axes="zyx")).shape == (24, 32, 40)


def test_uncertainty_lies_beside_the_picture_in_its_grey_values(package, tmp_path, capsys):
    path = picture(tmp_path)
    run = ("denoise", path, "-o", tmp_path / "out")
    assert deice_says(capsys, *run)[0] == 0
    assert deice_says(capsys, *run, "--uncertainty")[0] == 0  # the finished picture does not stand for it
    error = np.asarray(read(tmp_path / "out" / "a_uncertainty.mrc"))
    assert error.shape == (96, 80)
    assert (error > 0).all()
    assert error.mean() < np.asarray(read(path)).std()


@pytest.mark.parametrize(("pixel_size", "word"), [(None, "no pixel size"), (40.0, "40 Å per pixel"), (1.5, None)])
def test_a_pixel_size_that_was_not_learnt_is_said(package, pixel_size, word, tmp_path, capsys):
    said = deice_says(capsys, "denoise", picture(tmp_path, pixel_size=pixel_size), "-o", tmp_path / "out")[1]
    assert (word is None) != ("learnt from" in said)
    assert word is None or word in said


def test_what_was_filtered_or_interpolated_before_is_said():
    noise = torch.randn(256, 240, generator=torch.Generator().manual_seed(0))
    assert unlike_in_noise(noise) is None
    spectrum = torch.fft.rfft2(noise)
    spectrum[:, 60:] = 0
    spectrum[64:-64] = 0
    assert "filtered before" in str(unlike_in_noise(torch.fft.irfft2(spectrum, noise.shape)))
    smooth = (noise + noise.roll(1, 0)) / 2
    assert "neighbouring pixels" in str(unlike_in_noise((smooth + smooth.roll(1, 1)) / 2))


def test_who_has_halves_is_told_that_training_on_them_is_better(package, tmp_path, capsys):
    for half in ("EVN", "ODD"):
        picture(tmp_path, f"a_{half}.mrc")
        picture(tmp_path, f"b_{half}.mrc")
    code, said = deice_says(capsys, "denoise", tmp_path / "in", "-o", tmp_path / "out")
    assert code == 0
    assert said.count("--from pretrained") == 1
    assert sorted(path.name for path in (tmp_path / "out").glob("*.mrc")) == ["a.mrc", "b.mrc"]


@pytest.mark.parametrize(("arguments", "word"), [
    (("-m", "gaussian", "--sigma", "2", "--uncertainty"), "pretrained or a run"),
    (("-m", "gaussian", "--sigma", "2", "--calibration"), "pretrained or a run"),
    (("--no-calibration", "--uncertainty"), "--calibration"),
    (("--sigma", "2"), "parameters of a filter"),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_a_line(package, arguments, word, tmp_path, capsys):
    code, said = deice_says(capsys, "denoise", picture(tmp_path), "-o", tmp_path / "out", *arguments)
    assert code == 2
    assert word in said
    assert len(said.strip().splitlines()) == 1
    assert not list((tmp_path / "out").glob("*.mrc"))


def test_a_package_without_the_model_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(deice.pretrained, "FOLDER", tmp_path)
    code, said = deice_says(capsys, "denoise", picture(tmp_path), "-o", tmp_path / "out")
    assert code == 2
    assert "no pretrained model of micrographs" in said
    with pytest.raises(RecipeFault, match="pictures or volumes"):
        packaged(1)


def test_fine_tuning_begins_with_the_packaged_model_and_its_net(package):
    begun = train_from(views((96, 96))[1], steps=1, lr=1e-9)
    start = load_model(package / "micrographs.safetensors")
    assert begun.net == start.net
    assert not begun.calibrated
    for name, tensor in start.module.state_dict().items():
        assert torch.allclose(begun.module.state_dict()[name], tensor, atol=1e-6)


def train_from(halves, **settings) -> Model:
    """A model trained on `halves` from the packaged one."""
    from deice.recipe import from_table
    from deice.training import run

    kept = []
    recipe = from_table({"data": {"window": 32}, "training": {"batch": 2, "weight_decay": 0.0, **settings}})
    list(run(recipe, [Image(halves)], None, start="pretrained", device="cpu", keep=kept))
    return kept[0].model()


@pytest.mark.parametrize(("flags", "lr"), [((), 3e-4), (("--lr", "0.002"), 2e-3)])
def test_fine_tuning_is_gentle_unless_said_otherwise(package, flags, lr, tmp_path, capsys):
    for half in ("EVN", "ODD"):
        picture(tmp_path, f"a_{half}.mrc")
    code, said = deice_says(capsys, "train", tmp_path / "in", "-o", tmp_path / "run", "--from", "pretrained", "--steps",
                            "1", "--batch", "2", "--patch", "16", "--device", "cpu", *flags)
    assert code == 0, said
    done = load_model(tmp_path / "run").recipe
    assert done.training.lr == lr
    assert done.net == UNet(size=4, depth=1, bias=False)


def test_a_model_to_begin_from_that_is_not_there_is_said_in_a_line(tmp_path, capsys):
    for half in ("EVN", "ODD"):
        picture(tmp_path, f"a_{half}.mrc")
    code, said = deice_says(capsys, "train", tmp_path / "in", "-o", tmp_path / "run", "--from", tmp_path / "absent")
    assert code == 2
    assert "no such file" in said
    assert not (tmp_path / "run").exists()
