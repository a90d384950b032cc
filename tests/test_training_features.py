"""What a recipe can ask of training: accumulated batches, schedules, loss scaling, kept models, grey scales, curves."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from worlds_for_tests import views

from deice import train
from deice.checkpoint import load_model, load_state
from deice.errors import RecipeFault, UserError
from deice.learner import Learner
from deice.recipe import completed, from_table
from deice.schedules import one_cycle
from deice.tensorboard import shown_in_tensorboard
from deice.training import run

RECIPE = {"net": {"name": "unet", "size": 4, "depth": 1}, "data": {"window": 16}, "training": {"batch": 4}}
CPU = torch.device("cpu")


def pairs(count=3, shape=(48, 40)):
    return [views(shape, seed=i)[1] for i in range(count)]


def table(**training):
    base = {"precision": "fp32", "validate_every": 10, "save_seconds": 0.0}
    return {**RECIPE, "training": {**RECIPE["training"], **base, **training}}


def learner(scheme="noise2noise", **training):
    recipe = completed(from_table({**table(steps=10, **training), "scheme": {"name": scheme}}), 2)
    return Learner(recipe, 2, CPU, None, None)


def generator():
    return torch.Generator().manual_seed(0)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("scheme", ["noise2noise", "noise2void"])
@pytest.mark.parametrize("loss", ["mse", "l1+0.1*l2"])
def test_accumulated_batches_equal_one_that_is_as_many_times_larger(scheme, loss):
    whole = learner(scheme, batch=12, loss=loss)
    parts = learner(scheme, batch=4, accumulate=3, loss=loss)
    batch = torch.randn(12, 2, 16, 16, generator=generator())
    for _ in range(3):
        judged = [one.learn(batch, 0.5, torch.float32, generator()) for one in (whole, parts)]
        assert float(judged[0].total) == pytest.approx(float(judged[1].total), rel=1e-5)
        gradients = [[p.grad for p in one.module.parameters()] for one in (whole, parts)]
        for one, two in zip(*gradients):
            assert torch.allclose(one, two, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


def test_accumulated_batches_pass_through_the_network_one_at_a_time():
    parts, sizes = learner(batch=4, accumulate=3), []
    parts.module.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    parts.learn(torch.randn(12, 2, 16, 16), 0.5, torch.float32, generator())
    assert sizes == [4, 4, 4]


def test_a_run_with_accumulation_cuts_the_windows_of_the_larger_batch():
    models = [train(pairs(), recipe=table(average=0.0, lr=1e-3, **kind), steps=3)
              for kind in ({"batch": 8}, {"batch": 4, "accumulate": 2}, {"batch": 4})]
    weights = [torch.cat([p.flatten() for p in model.module.parameters()]) for model in models]
    assert torch.allclose(weights[0], weights[1], atol=1e-5)
    assert not torch.allclose(weights[0], weights[2], atol=1e-4)


def test_a_step_that_loss_scaling_skips_moves_neither_weights_nor_their_running_mean():
    one = learner(precision="fp16", clip=1.0)
    batch = torch.randn(4, 2, 16, 16, generator=generator())
    one.learn(batch, 0.5, torch.float32, generator())
    before = {name: value.clone() for name, value in one.module.state_dict().items()}
    mean, scale = {name: value.clone() for name, value in one.average.items()}, one.scaler.get_scale()
    one.learn(1e18 * batch, 0.5, torch.float32, generator())  # a finite loss whose gradients overflow when scaled
    assert one.scaler.get_scale() == scale / 2
    assert (one.step, one.taken) == (2, 1)
    assert all(torch.equal(before[name], value) for name, value in one.module.state_dict().items())
    assert all(torch.equal(mean[name], value) for name, value in one.average.items())
    again = learner(precision="fp16", clip=1.0)
    again.load(one.state())
    for each in (one, again):
        each.learn(batch, 0.5, torch.float32, generator())
    assert one.taken == again.taken == 2
    assert one.scaler.get_scale() == again.scaler.get_scale()
    for name, value in one.weights().items():
        assert torch.isfinite(value).all()
        assert not torch.equal(value, mean[name])
        assert torch.equal(value, again.weights()[name])


def test_loss_scaling_does_not_change_what_is_learnt():
    one, scaled = learner(), learner(precision="fp16")
    batch = torch.randn(4, 2, 16, 16, generator=generator())
    for each in (one, scaled):
        for _ in range(3):
            each.learn(batch, 0.5, torch.float32, generator())
    for name, value in one.module.state_dict().items():
        assert torch.allclose(value, scaled.module.state_dict()[name], atol=1e-6)


def test_the_schedule_asked_for_is_the_schedule_had(tmp_path):
    rates = {}
    for schedule in ("cosine", "constant", "one_cycle"):
        train(pairs(2), tmp_path / schedule, table(schedule=schedule, lr=1e-3), steps=40)
        rates[schedule] = [line["lr"] for line in lines(tmp_path / schedule) if "lr" in line]
    done = [9 / 40, 19 / 40, 29 / 40, 39 / 40]  # of the run, when the last step before the line began
    fall = [0.01 + 0.99 * (1 + math.cos(math.pi * (d - 0.02) / 0.98)) / 2 for d in done]
    assert rates["cosine"] == pytest.approx([1e-3 * share for share in fall])
    assert rates["constant"] == [1e-3] * 4
    assert rates["one_cycle"] == [1e-3 * one_cycle(d, 0.3, 0.01) for d in done]
    state = load_state(tmp_path / "one_cycle" / "state.pt", CPU)
    assert 0.94 < state["optimiser"]["param_groups"][0]["betas"][0] < 0.95
    assert 'warmup = 0.3\n' in (tmp_path / "one_cycle" / "recipe.toml").read_text()


def test_a_plateau_halves_the_rate_after_validations_that_are_no_better():
    one = learner(schedule="plateau", plateau=2, lr=1e-3, final_lr=0.2)
    batch, seen = torch.randn(4, 2, 16, 16), []
    for validation in (5.0, 4.0, 4.5, 3.0, 3.5, 3.2, 3.1, 3.3, 4.0, 4.0):
        one.keep_if_best(validation)
        one.learn(batch, 0.5, torch.float32, generator())
        seen.append(round(1e3 * one.lr, 3))
    assert seen == [1, 1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.2]


def test_a_plateau_survives_a_resume_bit_for_bit(tmp_path):
    recipe = from_table(table(steps=60, schedule="plateau", plateau=1, lr=0.03, validate_every=5))
    for folder, stop in (("whole", None), ("parts", 37)):
        for step in run(recipe, pairs(), tmp_path / folder, device="cpu"):
            if step.step == stop:
                break
    for _ in run(recipe, pairs(), tmp_path / "parts", device="cpu", resume=True):
        pass
    states = [load_state(tmp_path / name / "state.pt", CPU) for name in ("whole", "parts")]
    assert states[0]["halvings"] == states[1]["halvings"] > 0
    assert all(torch.equal(value, states[1]["module"][name]) for name, value in states[0]["module"].items())
    rates = [[line["lr"] for line in lines(tmp_path / name) if "lr" in line] for name in ("whole", "parts")]
    assert rates[0] == rates[1]
    assert len(set(rates[0])) > 2


def test_the_last_models_are_kept_beside_the_best_also_after_a_resume(tmp_path):
    recipe = from_table(table(steps=50, keep=2, lr=0.01))
    for step in run(recipe, pairs(), tmp_path / "run", device="cpu"):
        if step.step == 33:
            break
    (tmp_path / "run" / "models" / "step_000040.safetensors").write_bytes(b"of a run that was killed after its state")
    for _ in run(recipe, pairs(), tmp_path / "run", device="cpu", resume=True):
        pass
    for _ in run(recipe, pairs(), tmp_path / "whole", device="cpu"):
        pass
    kept = sorted(path.name for path in (tmp_path / "run" / "models").iterdir())
    assert kept == ["step_000040.safetensors", "step_000050.safetensors"]
    validations = {line["step"]: line["validation"] for line in lines(tmp_path / "run") if "validation" in line}
    for name, step in zip(kept, (40, 50)):
        model = load_model(tmp_path / "run" / "models" / name)
        assert (model.facts["step"], model.facts["validation"]) == (step, validations[step])
        uninterrupted = load_file(tmp_path / "whole" / "models" / name)
        assert all(torch.equal(value, uninterrupted[key]) for key, value in model.module.state_dict().items())


def test_no_models_are_kept_where_none_are_asked_for(tmp_path):
    train(pairs(2), tmp_path / "run", table(), steps=10)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "metrics.jsonl", "model.safetensors", "recipe.toml", "state.pt"]  # fmt: skip


def test_contrast_and_brightness_change_what_is_learnt_from():
    plain, bright = (train(pairs(2), recipe=table(**kind), steps=5).facts["validation"]
                     for kind in ({}, {"contrast": 0.3, "brightness": 0.5}))
    assert np.isfinite(bright)
    assert plain != bright


def test_rates_are_not_made_negative():
    rates = [np.random.default_rng(i).random((1, 48, 40)).astype(np.float32) for i in range(2)]
    recipe = {**table(), "scheme": {"name": "supervised", "noise": "poisson"}}
    recipe["data"] = {**recipe["data"], "normaliser": "percentile"}
    with pytest.raises(RecipeFault, match=r"brightness 0\.1.*rates negative"):
        train(rates, recipe=recipe, steps=1, brightness=0.1)
    train(rates, recipe=recipe, steps=1, contrast=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"schedule": "cosinus"}, "expected one of cosine, plateau, one_cycle, constant"),
     ({"accumulate": 0}, "1 or more"), ({"keep": -1}, "keep is -1; expected 0 or more"),
     ({"contrast": 1.0}, "0 to below 1"), ({"plateau": 0}, "1 or more"), ({"brightness": -0.1}, "0 or more"),
     ({"coarse": -1}, "0 or more"), ({"coarse_share": 0.0}, "above 0"),
     ({"warmup": 1.0}, "0 to below 1")],
)
def test_impossible_settings_are_the_users_fault(settings, message):
    with pytest.raises(RecipeFault, match=message):
        from_table(table(**settings))


def test_the_curves_for_tensorboard_are_those_of_the_metrics(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = from_table(table(steps=20, loss="mse+0.1*gradient"))
    folder = tmp_path / "run" / "tensorboard"
    for _ in shown_in_tensorboard(run(recipe, pairs(2), tmp_path / "run", device="cpu"), folder):
        pass
    events = EventAccumulator(str(folder)).Reload()
    assert set(events.Tags()["scalars"]) == {
        "loss/training", "loss/validation", "learning rate", "windows per second", "training/mse", "training/gradient",
        "validation/mse", "validation/gradient"}  # fmt: skip
    expected = [(line["step"], line["validation"]) for line in lines(tmp_path / "run") if "validation" in line]
    assert [(e.step, pytest.approx(e.value)) for e in events.Scalars("loss/validation")] == expected


def test_without_tensorboard_nothing_is_begun(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    steps = run(from_table(table(steps=1)), pairs(2), tmp_path / "run", device="cpu")
    with pytest.raises(UserError, match=r"pip install 'deice\[tensorboard\]'"):
        next(shown_in_tensorboard(steps, tmp_path / "run" / "tensorboard"))
    assert not (tmp_path / "run").exists()
