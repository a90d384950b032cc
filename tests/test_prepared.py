"""Prepared views: made anew in time, alike in memory and in a scratch file, the same bits after a resume."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from worlds_for_tests import error, structure, views

import deice.prepared
from deice import denoise, train
from deice.errors import MemoryFault, UserError
from deice.image import Image
from deice.prepared import Prepared, prepared_batches
from deice.recipe import from_table
from deice.schemes import F2Fd
from deice.sources import source_of
from deice.stream import RandomOrder
from deice.training import run

CPU = torch.device("cpu")
SMALL = {
    "scheme": {"name": "f2fd", "total_samples": 4, "n_bernoulli_samples": 2, "total_samples_prediction": 2,
               "predict_N_times": 4, "refresh": 7},
    "net": {"name": "unet", "size": 4, "depth": 1, "dropout": 0.2},
    "data": {"window": 8}, "training": {"batch": 2, "precision": "fp32", "schedule": "constant"},
}


@dataclass(frozen=True)
class Counting:
    """Prepares two views: the scene times one more than the epoch, and what the net says of it."""

    refresh: ClassVar[int] = 3
    kept_for_estimate: ClassVar[int] = 0

    def kept_while_training(self, views: int) -> int:
        return 2

    def prepare(self, views, epoch, generator, net) -> Iterator[torch.Tensor]:
        yield views[0] * (epoch + 1)
        yield net(views[None])[0, 0] if net else views[0]


def volume(shape=(9, 14, 11)):
    return np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)


def prepared(tmp_path, scheme=None, shape=(9, 14, 11)):
    source = source_of("one", [Image(volume(shape))], "none")
    return source, Prepared(scheme or Counting(), [source], 2, CPU, tmp_path, seed=3)


def test_views_are_made_anew_every_refresh_and_windows_are_cut_from_them(tmp_path):
    source, ready = prepared(tmp_path)
    order = RandomOrder([source], (4, 4, 4), 2, 0)
    nets = []

    def net_of(epoch):
        nets.append(epoch)
        return (lambda pictures: pictures * 0 - epoch) if epoch else None

    batches = prepared_batches(ready, order, 0, net_of)
    for number in range(8):
        batch = next(batches)
        expected = np.stack([source.read(place.origin, (4, 4, 4))[0] for place in order.batch(number)])
        assert np.allclose(batch[:, 0], expected * (number // 3 + 1))
        assert np.allclose(batch[:, 1], expected if number < 3 else -(number // 3))
    assert nets == [0, 1, 2]
    batches.close()


def test_a_scratch_file_gives_the_same_windows_and_is_announced(tmp_path, monkeypatch, caplog):
    source, ready = prepared(tmp_path)
    order = RandomOrder([source], (4, 4, 4), 2, 0)
    whole = [batch for batch, _ in zip(prepared_batches(ready, order, 2, lambda epoch: None), range(4))]
    monkeypatch.setitem(deice.prepared.RESIDENT, "cpu", 0)
    with caplog.at_level("INFO"):
        _, mapped = prepared(tmp_path)
    assert "scratch file" in caplog.text
    again = prepared_batches(mapped, order, 2, lambda epoch: None)
    assert all(torch.equal(one, two) for one, two in zip(whole, again))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_and_a_full_memory_are_found_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(deice.prepared.RESIDENT, "cpu", 0)
    monkeypatch.setattr(deice.prepared.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10})())
    with pytest.raises(UserError, match="prepared views, but"):
        prepared(tmp_path)
    monkeypatch.setattr(deice.prepared, "memory_left", lambda device, limit: 1000)
    with pytest.raises(MemoryFault, match="takes volumes whole"):
        prepared(tmp_path)


def test_f2fd_stopped_and_resumed_is_bit_for_bit_uninterrupted(tmp_path):
    _, noisy = views((16, 36, 20), count=1)
    recipe = from_table({**SMALL, "training": {**SMALL["training"], "steps": 20, "save_seconds": 0.0,
                                               "validate_every": 10}})
    for _ in run(recipe, [noisy], tmp_path / "whole", device="cpu"):
        pass
    for step in run(recipe, [noisy], tmp_path / "parts", device="cpu"):
        if step.step == 13:  # past the state of step 10, in the middle of an epoch of 7
            break
    for _ in run(recipe, [noisy], tmp_path / "parts", device="cpu", resume=True):
        pass
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_random_estimate_is_the_same_twice_and_leaves_the_random_numbers_of_others_alone():
    _, noisy = views((16, 28, 20), count=1)
    model = train([noisy], recipe=SMALL, steps=2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = np.asarray(denoise(noisy[0], model))
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(one, np.asarray(denoise(noisy[0], model)))
    assert not any(layer.training for layer in model.module.modules())


def test_f2fd_lowers_the_error():
    truth, noisy = views((24, 40, 32), count=1, noise=1.5, seed=3)
    recipe = {**SMALL, "net": {"name": "unet", "size": 8, "depth": 1, "dropout": 0.3}, "data": {"window": 16},
              "training": {**SMALL["training"], "lr": 3e-3}}
    recipe["scheme"] = {**SMALL["scheme"], "refresh": 20}
    model = train([noisy], recipe=recipe, steps=80)
    answer = np.asarray(denoise(noisy[0], model))
    scale = (answer * truth).sum() / np.square(answer).sum()  # its amplitudes fade
    raw = (noisy[0] * truth).sum() / np.square(noisy[0]).sum()
    assert error(scale * answer, truth) < 0.8 * error(raw * noisy[0], truth)


def seams(answer, window=8):
    """How much larger steps between neighbours along y are where windows begin or end: cores that overlap by half."""
    steps = np.abs(np.diff(answer, axis=1)).mean((0, 2))
    ends = np.zeros(len(steps), bool)
    ends[window // 2 - 1 :: window // 2] = True
    return steps[ends].mean() / steps[~ends].mean()


def test_windows_that_draw_differently_fade_into_each_other(monkeypatch):
    """Were each window's draw another grey level, no plane would show where it ends."""
    smooth = structure((16, 64, 24))
    scheme = {**SMALL["scheme"], "p": 0.0, "Vmask_pct": 0.0}
    model = train([smooth[None]], recipe={**SMALL, "scheme": scheme}, steps=1)
    monkeypatch.setattr(F2Fd, "estimate", lambda self, net, views: views.mean(1, keepdim=True) + 2 * torch.randn(()))
    assert seams(np.asarray(denoise(smooth, model))) < 1.5
    monkeypatch.setattr("deice.estimating.BLEND", 0)
    assert seams(np.asarray(denoise(smooth, model))) > 2
