"""Methods: what a name means, and that what is fitted is fitted."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds_for_tests import structure

import deice
from deice import metrics
from deice.bench.cases import cases_of
from deice.bench.methods import FITTED, Learnt, Topaz, method_of, split_methods, weights_of
from deice.bench.tegunov import best_tegunov
from deice.errors import PairFault, RecipeFault
from deice.filters import Gaussian
from deice.image import Geometry
from deice.scenes import expand, group

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two pictures: halves, their averages and their truths."""
    folder = tmp_path_factory.mktemp("files")
    geometry = Geometry(voxel_size=(2.0, 2.0, 2.0))
    for seed in range(2):
        truth = structure((64, 72), seed)
        noise = np.random.default_rng(seed + 100).normal(size=(2, 64, 72))
        halves = (truth + 2 * noise).astype(np.float32)
        deice.write(folder / "truth" / f"m{seed}.mrc", truth, geometry)
        deice.write(folder / "full" / f"m{seed}.mrc", halves.mean(0), geometry)
        for word, half in zip(("EVN", "ODD"), halves):
            deice.write(folder / "halves" / f"m{seed}_{word}.mrc", half, geometry)
    return folder


def cases(folder, kind="halves", truth=True):
    return cases_of(group(expand(folder / kind)), folder / "truth" if truth else None)


def test_commas_between_settings_do_not_part_methods():
    assert split_methods("deice, wiener:defocus=0,strength=1,run@full,topaz:unet,cutoff=4") == [
        "deice", "wiener:defocus=0,strength=1", "run@full", "topaz:unet,cutoff=4"]
    assert split_methods("") == []


def test_a_filter_is_the_filter_of_that_name(files):
    case = cases(files)[0]
    _, answer = next(method_of("gaussian:sigma=3", None, truth=False).answers([case], CPU))
    known = case.open()
    assert torch.equal(answer.image, Gaussian(3).apply(known.noisy))
    assert torch.equal(answer.halves[1], Gaussian(3).apply(known.halves[1]))
    assert answer.cost.seconds > 0
    assert answer.cost.bytes > 1e6


@pytest.mark.parametrize(("name", "said"), [
    ("gauss:sigma=3", "did you mean 'gaussian'"), ("gaussian:sgma=3", "sgma"), ("topaz:unet", "--topaz PYTHON"),
    ("topaz:unet-3d-10a", "--topaz PYTHON"),
    ("nowhere.safetensors", "no such file"), ("tegunov", "unknown"),
])
def test_a_wrong_name_is_one_clear_line(name, said):
    with pytest.raises(deice.errors.UserError, match=said):
        method_of(name, None, truth=False)


def test_another_trained_file_of_topaz_under_the_same_name_is_another(tmp_path):
    model = tmp_path / "model.sav"
    model.write_bytes(b"one")
    before = weights_of(f"topaz:{model},cutoff=4")
    model.write_bytes(b"two")
    assert len(before) == 1
    assert weights_of(f"topaz:{model},cutoff=4") != before
    assert weights_of("topaz:unet") == []


def test_what_topaz_is_asked_is_read_from_its_name():
    python = Path(sys.executable)
    assert method_of("topaz:unet-3d-20a,whole=1", python, truth=True) == Topaz(python, "unet-3d-20a", 0.0, True)
    assert method_of("topaz:unet,cutoff=4", python, truth=True) == Topaz(python, "unet", 4.0)
    for wrong in ("topaz:unet-4d", "topaz:unet,whole=yes", "topaz:unet,patch=96"):
        with pytest.raises(RecipeFault, match="expected"):
            method_of(wrong, python, truth=True)


def test_baselines_gain_from_the_truth_in_this_order(files):
    case = cases(files)[0]
    truth = case.open().truth
    score = {}
    for name in FITTED:
        _, answer = next(method_of(name, None, truth=True).answers([case], CPU))
        score[name] = metrics.psnr(answer.image, truth)
    assert score["noisy"] == pytest.approx(score["pointwise"])
    assert score["noisy"] < score["gaussian"] <= score["wiener"] + 1e-9
    assert score["noisy"] < score["tegunov"] <= score["wiener"] + 0.05


def test_the_best_tegunov_is_better_than_its_neighbours(files):
    known = cases(files)[0].open()
    image, best = best_tegunov(known.noisy, known.truth, 2.0)
    score = metrics.psnr(image, known.truth)
    for other in (replace(best, strength=best.strength + 0.34), replace(best, strength=best.strength - 0.34),
                  replace(best, falloff=best.falloff * 3), replace(best, falloff=best.falloff / 3)):
        assert metrics.psnr(other.apply(known.noisy, 2.0), known.truth) <= score + 0.02
    with pytest.raises(RecipeFault, match="pixel-size"):
        best_tegunov(known.noisy, known.truth, None)


def test_a_model_of_halves_answers_as_denoise_does_unless_it_is_given_something_else(files):
    toy = {"net": {"name": "residual_cnn", "depth": 2, "width": 4}, "data": {"window": 32},
           "training": {"steps": 3, "batch": 2, "precision": "fp32"}}
    model = deice.train([str(path) for path in expand(files / "halves")], recipe=toy, device="cpu")
    case = cases(files)[0]
    _, both = next(Learnt(model).answers([case], CPU))
    known, full = next(Learnt(model, "@full").answers([case], CPU))
    _, halves = next(Learnt(model, "@halves").answers([case], CPU))
    assert torch.allclose(halves.image, torch.stack(both.halves).mean(0))
    assert torch.equal(full.halves[0], both.halves[0])
    stacked = np.stack([half.numpy() for half in known.halves])
    assert np.allclose(both.image.numpy(), deice.denoise(stacked, model, device="cpu").views[0], atol=1e-5)
    alone = deice.denoise(known.noisy.numpy(), model, device="cpu")
    assert np.allclose(full.image.numpy(), alone.views[0], atol=1e-5)
    assert not torch.allclose(full.image, halves.image)


def test_cases_know_their_truth_by_name(files):
    for kind in ("halves", "full"):
        found = cases(files, kind)
        assert [case.truth.name for case in found] == ["m0.mrc", "m1.mrc"]
        assert torch.allclose(found[0].open().noisy, cases(files, "full")[0].open().noisy, atol=1e-6)


def test_a_missing_truth_and_nothing_to_judge_by_are_faults(files, tmp_path):
    with pytest.raises(PairFault, match="neither truth nor halves"):
        cases(files, "full", truth=False)
    with pytest.raises(PairFault, match="m0"):
        cases_of(group(expand(files / "halves")), tmp_path)
    deice.write(tmp_path / "m0.mrc", np.ones((8, 8), np.float32))
    deice.write(tmp_path / "m1.mrc", np.ones((8, 8), np.float32))
    with pytest.raises(PairFault, match="sizes"):
        cases_of(group(expand(files / "halves")), tmp_path)[0].open()
