"""Training: kill and resume give the bits of an uninterrupted run; faults stop it with the good state kept."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from worlds_for_tests import views

from deice import read, train, write
from deice.checkpoint import load_model, load_state
from deice.errors import FileFault, RecipeFault, UserError
from deice.recipe import from_table
from deice.training import run

RECIPE = {"net": {"name": "unet", "size": 4, "depth": 1}, "data": {"window": 16}, "training": {"batch": 4}}


def pairs(count=3, shape=(48, 40)):
    return [views(shape, seed=i)[1] for i in range(count)]


def table(**training):
    base = {"precision": "fp32", "validate_every": 10, "save_seconds": 0.0}
    return {**RECIPE, "training": {**RECIPE["training"], **base, **training}}


def write_halves(folder, count=3, shape=(64, 56)):
    folder.mkdir()
    for number, noisy in enumerate(pairs(count, shape)):
        for name, half in zip(("EVN", "ODD"), noisy):
            write(folder / f"m{number}_{name}.mrc", half)


@pytest.mark.parametrize("extra", [{}, {"average": 0.9, "optimiser": "adam"}])
def test_stopped_and_resumed_is_bit_for_bit_uninterrupted(tmp_path, extra):
    recipe = from_table(table(steps=40, **extra))
    for _ in run(recipe, pairs(), tmp_path / "whole", device="cpu"):
        pass
    for step in run(recipe, pairs(), tmp_path / "parts", device="cpu"):
        if step.step == 23:  # past the state of step 20: what was done since is lost
            break
    for _ in run(recipe, pairs(), tmp_path / "parts", device="cpu", resume=True):
        pass
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    states = [load_state(tmp_path / name / "state.pt", torch.device("cpu")) for name in ("whole", "parts")]
    for name, value in states[0]["module"].items():
        assert torch.equal(value, states[1]["module"][name])
    lines = [[{k: v for k, v in json.loads(line).items() if k not in ("seconds", "windows_per_second")}
              for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()] for name in ("whole", "parts")]
    assert lines[0] == lines[1]


def test_kill_nine_and_resume_by_the_command_line(tmp_path):
    write_halves(tmp_path / "halves")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[net]\nname='unet'\nsize=4\ndepth=1\n[data]\nwindow=[16]\n[training]\nsteps=150\nbatch=4\n"
                      "save_seconds=0.0\nvalidate_every=20\nprecision='fp32'\n")
    command = [sys.executable, "-m", "deice", "train", str(tmp_path / "halves"), "--recipe", str(recipe), "-o"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment, capture_output=True)
    killed = subprocess.Popen([*command, str(tmp_path / "killed")], env=environment, stderr=subprocess.DEVNULL)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (metrics.exists() and len(metrics.read_text().splitlines()) >= 4):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert load_state(tmp_path / "killed" / "state.pt", torch.device("cpu"))["step"] < 150
    again = [sys.executable, "-m", "deice", "train", "-o", str(tmp_path / "killed"), "--resume"]
    subprocess.run(again, check=True, env=environment, capture_output=True)
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_run_is_never_overwritten(tmp_path):
    train(pairs(), tmp_path / "run", table(), steps=3)
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="--resume"):
        train(pairs(), tmp_path / "run", table(), steps=3)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_best(tmp_path):
    inputs, validations = pairs(), {}

    def go_on_until_the_data_break():
        for step in run(from_table(table(steps=400)), inputs, tmp_path / "run", device="cpu"):
            validations.update({step.step: step.validation} if step.validation is not None else {})
            if step.step == 25:
                for pair in inputs:
                    pair *= 1e25  # whose square is not finite

    with pytest.raises(UserError, match="loss is"):
        go_on_until_the_data_break()
    assert set(validations) == {10, 20}
    best = min(validations, key=lambda step: validations[step])
    model = load_model(tmp_path / "run")
    assert model.facts["step"] == best
    assert all(torch.isfinite(value).all() for value in model.module.state_dict().values())
    state = load_state(tmp_path / "run" / "state.pt", torch.device("cpu"))
    assert state["step"] == 20
    assert (state["best"], state["best_step"]) == (validations[best], best)
    assert all(torch.isfinite(value).all() for part in ("module", "average") for value in state[part].values())


def test_each_term_of_a_loss_is_logged_by_itself_in_training_and_validation(tmp_path):
    train(pairs(), tmp_path / "run", table(), steps=20, loss="mse+0.5*gradient")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for total, terms in (("loss", "terms"), ("validation", "validation_terms")):
        for line in lines:
            assert line[total] == pytest.approx(line[terms]["mse"] + 0.5 * line[terms]["gradient"])
    assert 'loss = "mse+0.5*gradient"' in (tmp_path / "run" / "recipe.toml").read_text()
    assert load_model(tmp_path / "run").facts["validation"] == min(line["validation"] for line in lines)


def test_a_single_loss_has_no_terms_beside_it_and_the_usual_one_stands_in_the_recipe(tmp_path):
    train(pairs(), tmp_path / "run", table(), steps=10)
    assert "terms" not in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert 'loss = "mse"' in (tmp_path / "run" / "recipe.toml").read_text()


@pytest.mark.parametrize(("scheme", "loss", "warned"), [
    ("noise2noise", "mse+0.1*fourier", ["fourier"]), ("noise2noise", "l1+ssim", ["l1", "ssim"]),
    ("noise2noise", "mse+l2+gradient+multiscale", []), ("noise2void", "l1", ["l1"]), ("supervised", "l1+fourier", [])])
def test_a_loss_that_noisy_targets_mislead_is_warned_of(scheme, loss, warned, caplog):
    train(pairs(2), recipe={**table(), "scheme": {"name": scheme}}, steps=1, loss=loss)
    said = [record.getMessage() for record in caplog.records if "biased" in record.getMessage()]
    assert [line.split()[1] for line in said] == warned


def test_a_loss_that_cannot_honour_blind_spots_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(RecipeFault, match="loss ssim judges whole windows"):
        train(pairs(), tmp_path / "run", {**table(), "scheme": {"name": "noise2void"}}, steps=1, loss="mse+0.1*ssim")
    assert not (tmp_path / "run").exists()


def test_the_best_model_is_kept_not_the_last(tmp_path):
    steps = list(run(from_table(table(steps=60, lr=0.03)), pairs(), tmp_path / "run", device="cpu"))
    validations = {step.step: step.validation for step in steps if step.validation is not None}
    assert load_model(tmp_path / "run").facts["step"] == min(validations, key=lambda step: validations[step])


def test_a_run_begins_from_a_model(tmp_path):
    first = train(pairs(), tmp_path / "first", table(), steps=20)
    recipe = from_table(table(steps=1, lr=1e-12, weight_decay=0.0))
    for _ in run(recipe, pairs(), tmp_path / "second", device="cpu", start=tmp_path / "first"):
        pass
    second = load_model(tmp_path / "second")
    for one, two in zip(first.module.state_dict().values(), second.module.state_dict().values()):
        assert torch.allclose(one, two, atol=1e-6)
    wider = from_table({**table(steps=1), "net": {"name": "unet", "size": 8, "depth": 1}})
    with pytest.raises(RecipeFault, match="this run trains"):
        next(iter(run(wider, pairs(), None, device="cpu", start=tmp_path / "first")))


def test_packed_pairs_train_and_validate_on_their_test_files(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 3)):
        clean = rng.normal(size=(count, 1, 32, 32)).astype(np.float32)
        (clean + 1).tofile(tmp_path / f"{part}_input.bin")
        clean.tofile(tmp_path / f"{part}_target.bin")
    recipe = {**table(), "data": {"window": [32]}, "scheme": {"name": "supervised"}}
    model = train([tmp_path], recipe=recipe, steps=150, lr=3e-3)
    assert model.facts["validation"] < 0.3  # the target is the input less one


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"seed": -1, "steps": 1}, "0 or more"), ({"batch": -3, "steps": 1}, "0 or more"),
     ({"lr": float("nan"), "steps": 1}, "lr is nan"),
     ({"steps": 5, "epochs": 1.0}, "more than once"), ({"steps": 0}, "more than 0"), ({"optimiser": "sgdd"}, "adamw"),
     ({"steps": 5, "loss": "mse+0.1*furier"}, "did you mean 'fourier'"),
     ({"steps": 5, "precision": "fp8"}, "auto, fp32, bf16, fp16")],
)
def test_impossible_settings_are_the_users_fault(settings, message):
    with pytest.raises(RecipeFault, match=message):
        train(pairs(), recipe=RECIPE, **settings)


def test_a_lone_view_cannot_be_trained_by_noise2noise():
    with pytest.raises(UserError, match="noise2void"):
        train([pairs(1)[0][:1]], recipe=RECIPE, steps=1)


def test_damaged_states_and_models_are_named(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"no state")
    with pytest.raises(FileFault, match="not a training state"):
        load_state(tmp_path / "state.pt", torch.device("cpu"))
    (tmp_path / "model.safetensors").write_bytes(b"no model")
    with pytest.raises(FileFault, match="not a readable safetensors"):
        load_model(tmp_path)
    with pytest.raises(FileFault, match="no such file"):
        load_model(tmp_path / "absent")


def test_saved_and_loaded_gives_the_same_bits(tmp_path):
    model = train(pairs(), tmp_path / "run", table(), steps=5)
    loaded = load_model(tmp_path / "run")
    assert loaded.recipe == model.recipe
    picture = torch.randn(1, 1, 16, 16)
    assert torch.equal(model.module(picture), loaded.module(picture))


def test_the_pixel_size_travels_with_the_model(tmp_path):
    from deice import Geometry

    for number, noisy in enumerate(pairs(2)):
        for name, half in zip(("EVN", "ODD"), noisy):
            write(tmp_path / f"m{number}_{name}.mrc", half, Geometry((1.5, 1.5, 1.5)))
    assert train([tmp_path], tmp_path / "run", table(), steps=2).pixel_size == pytest.approx(1.5)
    assert read(tmp_path / "m0_EVN.mrc").pixel_size == pytest.approx(1.5)
