"""Schemes of the missing wedge lower the error where tilts measured, and put something true where they did not."""

import logging

import numpy as np
import pytest
import torch

from deice import denoise, train, write
from deice.checkpoint import STATE, load_state
from deice.cli import run
from deice.errors import RecipeFault, UserError
from deice.ops.wedge import ends_of, measured, only, ramps
from deice.recipe import from_table
from deice.training import run as steps_of

SHAPE, TILTS = (32, 40, 44), (-60.0, 50.0)
SMALL = {"net": {"name": "unet", "size": 6, "depth": 1}, "data": {"window": 16, "tilt_range": list(TILTS)},
         "training": {"batch": 4, "lr": 3e-3, "precision": "fp32"}}


def balls(seed: int) -> np.ndarray:
    """Smooth balls of unit variance: unlike random waves, they tell from some frequencies what the others are."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    volume = np.zeros(SHAPE)
    for _ in range(40):
        distance = np.linalg.norm(places - rng.uniform(0, SHAPE), axis=-1)
        volume += 1 / (1 + np.exp(2 * (distance - rng.uniform(3, 5))))
    return ((volume - volume.mean()) / volume.std()).astype(np.float32)


def part(volume: np.ndarray, inside: bool) -> np.ndarray:
    """What tilts of the range measure of `volume`, or what they do not."""
    pair = torch.from_numpy(np.stack([ramp[...] for ramp in ramps(TILTS, SHAPE)]))[None]
    mask = measured(ends_of(pair), SHAPE)
    return only(torch.from_numpy(volume)[None, None], mask if inside else 1 - mask)[0, 0].numpy()


def tomogram(seed: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Truth and two halves with a missing wedge."""
    truth = balls(seed)
    draws = np.random.default_rng(seed + 1000).normal(size=(2, *SHAPE)).astype(np.float32)
    return truth, np.stack([part(truth + noise * draw, inside=True) for draw in draws])


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_missing_wedge_denoises_what_was_measured_and_fills_in_the_rest():
    truth, halves = tomogram(0)
    model = train([halves], recipe=SMALL | {"scheme": {"name": "missing_wedge"}}, steps=60)
    denoised = np.asarray(denoise(halves, model))
    before, after = (correlation(part(v, True), part(truth, True)) for v in (halves.mean(0), denoised))
    assert 1 - after**2 < 0.4 * (1 - before**2)
    assert correlation(part(denoised, False), part(truth, False)) > 0.35


def test_isonet_fills_in_a_lone_tomogram_over_several_iterations():
    truth, halves = tomogram(1, noise=0.7)
    lone = halves[:1]
    model = train([lone], recipe=SMALL | {"scheme": {"name": "isonet", "refresh": 25}}, steps=75)
    denoised = np.asarray(denoise(lone, model))
    before, after = (correlation(part(v, True), part(truth, True)) for v in (lone[0], denoised))
    assert after > before
    assert correlation(part(denoised, False), part(truth, False)) > 0.35


@pytest.mark.parametrize("scheme", ["missing_wedge", "isonet"])
def test_a_tomogram_of_unknown_tilts_says_which_flag(scheme, tmp_path, capsys):
    _, halves = tomogram(2)
    with pytest.raises(RecipeFault, match=r"tilt range is not known.*--tilt-range, as -60,60"):
        train([halves], recipe={"scheme": {"name": scheme}}, steps=1)
    with pytest.raises(UserError, match="a picture; a missing wedge is that of tomograms"):
        train([halves[:, 0]], recipe={"scheme": {"name": scheme}, "data": {"tilt_range": [-60, 60]}}, steps=1)
    for name, half in zip(("a_EVN", "a_ODD"), halves):
        write(tmp_path / "halves" / f"{name}.mrc", half)
    toy = "--axes zyx --steps 2 --patch 16 --net unet:size=2,depth=1"
    arguments = ["train", str(tmp_path / "halves"), "--scheme", scheme, *toy.split(), "-o"]
    assert run([*arguments, str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].endswith("--tilt-range, as -60,60")
    assert run([*arguments, str(tmp_path / "typed"), "--tilt-range", "-60,60"]) == 0
    (tmp_path / "tilts").mkdir()
    (tmp_path / "tilts" / "a.tlt").write_text("-51\n0\n48\n")
    assert run([*arguments, str(tmp_path / "found")]) == 0
    assert "a: tilts from -51 to 48 degrees (a.tlt)" in capsys.readouterr().err


def test_each_tomogram_brings_its_own_range(tmp_path, caplog):
    """Two tomograms of different tilts are learnt from together, whichever region windows come from."""
    for name, angles in (("a", "-60\n60\n"), ("b", "-40\n66\n")):
        (tmp_path / f"{name}.rawtlt").write_text(angles)
        for half, volume in zip(("EVN", "ODD"), tomogram(3)[1]):
            write(tmp_path / f"{name}_{half}.mrc", volume)
    recipe = {"scheme": {"name": "missing_wedge", "refresh": 2}, "net": SMALL["net"],
              "data": {"window": [24, 16, 20], "axes": "zyx"}, "training": {"batch": 2}}  # fmt: skip
    with caplog.at_level(logging.INFO):
        model = train(str(tmp_path), recipe=recipe, steps=4)
    assert {"a: tilts from -60 to 60 degrees (a.rawtlt)", "b: tilts from -40 to 66 degrees (b.rawtlt)"} <= {
        record.message for record in caplog.records}  # fmt: skip
    assert model.recipe.data.window == (16, 16, 16)


@pytest.mark.parametrize(("tilt_range", "said"), [
    (TILTS, None), ([-50.0, 60.0], "%: swap the signs"), ([-20.0, 20.0], "check the range"),
])
def test_a_wedge_that_is_not_empty_is_said(tilt_range, said, caplog):
    halves = np.stack([part(v, True) for v in np.random.default_rng(5).normal(size=(2, *SHAPE)).astype(np.float32)])
    recipe = SMALL | {"scheme": {"name": "missing_wedge"}, "data": {"window": 16, "tilt_range": list(tilt_range)}}
    train([halves], recipe=recipe, steps=1)
    warned = [record.message for record in caplog.records if "leave out" in record.message]
    assert len(warned) == (said is not None)
    assert said is None or said in warned[0]


def test_stopped_in_the_middle_of_an_iteration_and_resumed_is_bit_for_bit_uninterrupted(tmp_path):
    """The network that filled the wedge of the iteration is older than the state: it is kept with it."""
    scheme = {"name": "isonet", "refresh": 7, "noise_level": [0.5], "noise_start_iter": [2]}
    settings = SMALL["training"] | {"steps": 24, "save_seconds": 0.0, "average": 0.9}
    small = {"net": {"name": "unet", "size": 2, "depth": 1}, "data": SMALL["data"] | {"window": 8}}
    recipe = from_table(small | {"scheme": scheme, "training": settings})
    lone = tomogram(4)[1][:1, :16, :16, :32]
    for _ in steps_of(recipe, [lone], tmp_path / "whole", device="cpu"):
        pass
    for step in steps_of(recipe, [lone], tmp_path / "parts", device="cpu"):
        if step.step == 23:  # the last state is that of step 20, the iteration began at 14
            break
    for _ in steps_of(recipe, [lone], tmp_path / "parts", device="cpu", resume=True):
        pass
    whole, parts = (load_state(tmp_path / name / STATE, torch.device("cpu")) for name in ("whole", "parts"))
    assert all(torch.equal(value, parts["module"][name]) for name, value in whole["module"].items())
