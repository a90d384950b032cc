"""Topaz in a Python of its own: the adapter against a stand-in everywhere, and against Topaz itself where it is."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from worlds_for_tests import structure

from deice.errors import RecipeFault, UserError
from deice.peers import TOPAZ_PYTHON, denoise_by_topaz, find_topaz, train_topaz

STAND_IN = """
import numpy as np
class Denoise:
    dims, patches = 2, (1024, 500)
    def __init__(self, name, use_cuda=False, dims=2):
        assert dims == self.dims
        self.factor = {"unet": 0.5, "unet-small": 0.25, "unet-3d-10a": 0.5}.get(name, 0.125)
        if name == "affine":
            raise ValueError("Unable to load model: affine")
    def denoise(self, picture, patch_size, padding):
        assert (patch_size, padding) == self.patches or patch_size == -1
        assert picture.ndim == self.dims
        mean = picture.mean()
        return (picture - mean) * (self.factor if patch_size > 0 else 1) + mean
class Denoise3D(Denoise):
    dims, patches = 3, (96, 48)
"""
COMMAND = """
import argparse, pathlib
def add_arguments():
    parser = argparse.ArgumentParser()
    for word in ("dir-a", "dir-b", "save-prefix", "device", "arch", "num-epochs", "save-interval", "crop", "holdout",
                 "num-workers"):
        parser.add_argument("--" + word)
    return parser
def main(options):
    names = [sorted(path.name for path in pathlib.Path(folder).iterdir()) for folder in (options.dir_a, options.dir_b)]
    assert names[0] == names[1]
    pathlib.Path(f"{options.save_prefix}_epoch{options.num_epochs}.sav").write_text(
        f"{len(names[0])} {options.crop} {options.arch} {options.device} {float(options.holdout):.2f}")
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A package that answers as Topaz does, in this Python."""
    (tmp_path / "topaz" / "commands").mkdir(parents=True)
    (tmp_path / "topaz" / "__init__.py").write_text("")
    (tmp_path / "topaz" / "denoise.py").write_text(STAND_IN)
    (tmp_path / "topaz" / "commands" / "__init__.py").write_text("")
    (tmp_path / "topaz" / "commands" / "denoise.py").write_text(COMMAND)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Path(sys.executable)


@pytest.fixture(scope="session")
def topaz() -> Path:
    """The user's Topaz."""
    if not os.environ.get(TOPAZ_PYTHON):
        pytest.skip(f"no Topaz: {TOPAZ_PYTHON} is not set (docs/topaz.md says how to install it beside)")
    found = find_topaz()
    assert found is not None
    return found


def pictures(count=2, shape=(96, 112)):
    rng = np.random.default_rng(0)
    return [(100 + structure(shape, n) + 2 * rng.normal(size=shape)).astype(np.float32) for n in range(count)]


def test_each_picture_comes_back_in_order_and_at_its_cost(stand_in):
    given = pictures(3)
    answers = list(denoise_by_topaz(stand_in, "unet", given))
    for picture, answer in zip(given, answers, strict=True):
        assert np.allclose(answer.image, (picture - picture.mean()) / 2 + picture.mean(), atol=1e-4)
        assert answer.seconds >= 0
        assert answer.bytes > 1e6


def test_volumes_are_asked_of_the_other_class_in_its_own_patches(stand_in):
    volume = np.random.default_rng(0).normal(3, 1, (12, 16, 20)).astype(np.float32)
    ten, twenty = (next(denoise_by_topaz(stand_in, f"unet-3d-{n}a", [volume])).image for n in (10, 20))
    assert np.allclose(ten, (volume - volume.mean()) / 2 + volume.mean(), atol=1e-5)
    assert twenty.std() == pytest.approx(volume.std() / 8, rel=1e-4)
    whole = next(denoise_by_topaz(stand_in, "unet-3d-10a", [volume], whole=True)).image
    assert np.allclose(whole, volume, atol=1e-5)


def test_the_model_that_is_asked_for_answers(stand_in):
    unet, small = (next(denoise_by_topaz(stand_in, name, pictures(1))).image for name in ("unet", "unet-small"))
    assert unet.std() == pytest.approx(2 * small.std(), rel=1e-3)


def test_outliers_are_cut_to_the_mean_only_where_asked(stand_in):
    picture = pictures(1)[0]
    picture[10, 10] = 1000
    plain = next(denoise_by_topaz(stand_in, "unet", [picture])).image
    cut = next(denoise_by_topaz(stand_in, "unet", [picture], cutoff=4)).image
    assert plain[10, 10] > 500
    assert cut[10, 10] == pytest.approx(picture.mean(), abs=0.1)
    assert picture[10, 10] == 1000


def test_training_hands_over_pairs_under_one_name_and_keeps_the_last_epoch(stand_in, tmp_path):
    pairs = [(one, one + 1) for one in pictures(3)]
    model = train_topaz(stand_in, pairs, tmp_path / "out", epochs=12)
    assert model.read_text() == "3 96 unet -1 0.34"


def test_what_topaz_says_when_it_fails_is_one_line(stand_in):
    with pytest.raises(UserError, match="Unable to load model: affine"):
        list(denoise_by_topaz(stand_in, "affine", pictures(1)))


def test_a_python_without_topaz_is_a_clear_fault(monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(UserError, match=r"No module named 'topaz'.*docs/topaz.md"):
        list(denoise_by_topaz(Path(sys.executable), "unet", pictures(1)))


@pytest.mark.parametrize(("model", "given", "fault"), [
    ("unot", [np.zeros((32, 32))], RecipeFault), ("unet", [np.zeros((8, 32, 32))], UserError),
    ("unet-3d-20a", [np.zeros((32, 32))], UserError), (__file__, [np.zeros((8, 8)), np.zeros((8, 8, 8))], UserError)])
def test_what_topaz_cannot_do_is_refused(stand_in, model, given, fault):
    with pytest.raises(fault, match=r"expected|Topaz"):
        list(denoise_by_topaz(stand_in, model, given))


def test_topaz_is_found_where_the_user_says(monkeypatch):
    monkeypatch.delenv(TOPAZ_PYTHON, raising=False)
    assert find_topaz() is None
    assert find_topaz(sys.executable) == Path(sys.executable)
    monkeypatch.setenv(TOPAZ_PYTHON, sys.executable)
    assert find_topaz() == Path(sys.executable)
    with pytest.raises(RecipeFault, match="no program"):
        find_topaz("no/such/python")


def test_the_pretrained_models_differ_and_keep_the_scale(topaz):
    """In Topaz 0.3.20 the command's --model is ignored for micrographs; the class that is called here heeds it."""
    picture = pictures(1, (128, 160))[0]
    answers = {name: next(denoise_by_topaz(topaz, name, [picture])).image for name in ("unet", "unet-small", "fcnn")}
    for name, answer in answers.items():
        assert abs(answer.mean() - picture.mean()) < picture.std(), name
        assert answer.std() < picture.std(), name
        for other in set(answers) - {name}:
            assert np.abs(answer - answers[other]).max() > 0.01 * picture.std()


def test_the_pretrained_models_of_volumes_differ_and_smooth(topaz):
    volume = np.random.default_rng(0).normal(5, 2, (32, 32, 40)).astype(np.float32)
    ten, twenty = (next(denoise_by_topaz(topaz, f"unet-3d-{n}a", [volume], whole=True)).image for n in (10, 20))
    for answer in (ten, twenty):
        assert answer.shape == volume.shape
        assert abs(answer.mean() - volume.mean()) < volume.std()
        assert answer.std() < 0.5 * volume.std()
    assert np.abs(ten - twenty).max() > 0.01 * volume.std()


def test_topaz_trains_on_halves_and_its_model_answers(topaz, tmp_path):
    pairs = [(one, one + np.random.default_rng(1).normal(size=one.shape).astype(np.float32)) for one in pictures(3)]
    model = train_topaz(topaz, pairs, tmp_path, model="unet-small", epochs=1)
    trained = next(denoise_by_topaz(topaz, str(model), [pairs[0][0]])).image
    shipped = next(denoise_by_topaz(topaz, "unet-small", [pairs[0][0]])).image
    assert trained.shape == pairs[0][0].shape
    assert np.abs(trained - shipped).max() > 0
