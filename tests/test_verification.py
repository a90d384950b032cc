"""Every net and option equals its plain reference; one weight, layer or gradient that differs is seen."""

import ast
import json
from pathlib import Path

import pytest
import torch

import deice.nets.reference
import deice.verification
from deice.checkpoint import Model, save_model
from deice.cli import run
from deice.errors import UserError
from deice.nets import ResidualCNN, UNet
from deice.recipe import Recipe
from deice.verification import paths, verify
from deice.verification.timing import time_steps

NETS = [
    ResidualCNN(depth=4, width=6),
    ResidualCNN(depth=4, width=6, norm="batch", residual=False),
    UNet(size=4, depth=2),
    UNet(size=4, depth=2, norm="batch", residual=True),
    UNet(size=4, depth=2, dropout=0.4, upsampling="transposed"),
    UNet(size=4, depth=2, blocks="residual", upsampling="linear"),
    UNet(size=4, depth=1, widest=4, blocks="residual", norm="batch", dropout=0.3, upsampling="transposed"),
    UNet(size=4, depth=2, bias=False),
]


def model(net, axes=2):
    """A net with weights, biases and running statistics as training could leave them."""
    torch.manual_seed(1)
    module = net.build(axes)
    for tensor in module.parameters():
        if tensor.ndim == 1:
            tensor.data.add_(torch.randn(tensor.shape) / 4)
        elif tensor.shape[0] == 1:
            torch.nn.init.normal_(tensor)
    for name, tensor in module.named_buffers():
        if tensor.ndim:
            torch.nn.init.uniform_(tensor, 0.5, 2.0) if name.endswith("var") else torch.nn.init.normal_(tensor)
    return Model(module.eval(), axes, None, Recipe(net=net), {})


def faulty(monkeypatch, change):
    """Let `change` spoil every network that is verified."""
    sound = deice.verification.placed_copy

    def spoilt(model, device):
        module = sound(model, device)
        change(module)
        return module

    monkeypatch.setattr(deice.verification, "placed_copy", spoilt)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("net", NETS, ids=str)
def test_every_net_equals_its_reference(net, axes):
    found = verify(model(net, axes), "cpu")
    assert found.faults == []
    assert found.answers.in_float64 < 1e-11
    assert found.answers.difference <= found.answers.limit
    assert found.step.gradient < 1e-4
    modules = net.build(axes).named_modules()
    assert {layer.name for layer in found.layers} == {name for name, part in modules if hasattr(part, "weight")}


def test_the_reference_shares_no_code_with_the_nets():
    tree = ast.parse(Path(deice.nets.reference.__file__).read_text())
    packages = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert {name.split(".")[0] for name in packages | names} == {"torch", "collections", "dataclasses", "typing"}
    assert "torch.nn" in packages
    assert not any(isinstance(node, ast.Attribute) and node.attr == "Module" for node in ast.walk(tree))


@pytest.mark.parametrize("net", [NETS[1], NETS[6]], ids=str)
def test_one_weight_that_differs_is_seen_in_any_layer(net, monkeypatch):
    monkeypatch.setattr(paths, "SIZES", {2: (16, 24)})
    sound = model(net)
    learnt = [name for name, _ in sound.module.named_parameters()]
    for name in [*learnt, *(name for name, tensor in sound.module.named_buffers() if tensor.ndim)]:
        weights = {key: tensor.clone() for key, tensor in sound.module.state_dict().items()}
        weights[name].view(-1)[0] += 1e-2
        assert verify(sound, "cpu", weights).faults, name


def swap(name, layer):
    return lambda module: module.set_submodule(name, layer)


@pytest.mark.parametrize("change", [
    swap("down.0.relu0", torch.nn.LeakyReLU(0.01)),
    swap("pool", torch.nn.AvgPool2d(2)),
    swap("enlarge.0", torch.nn.Upsample(scale_factor=2, mode="bilinear")),
    lambda module: module.last.weight.data.fill_(float("nan")),
])  # fmt: skip
def test_another_layer_in_the_fast_path_is_seen(change, monkeypatch):
    faulty(monkeypatch, change)
    found = verify(model(UNet(size=4, depth=2)), "cpu")
    assert any("answers" in fault for fault in found.faults)
    json.dumps(found.answers.__dict__, allow_nan=False)


def test_a_gradient_that_differs_is_seen_and_named(monkeypatch):
    faulty(monkeypatch, lambda module: module.noise[2].weight.register_hook(lambda gradient: 1.01 * gradient))
    found = verify(model(NETS[0]), "cpu")
    (fault,) = found.faults
    assert "gradients differ by 0.01 " in fault
    assert [layer.name for layer in found.layers if layer.gradient > 1e-3] == ["noise.2"]


def test_running_statistics_that_differ_are_seen(monkeypatch):
    faulty(monkeypatch, lambda module: setattr(module.noise[3], "momentum", 0.2))
    (fault,) = verify(model(NETS[1]), "cpu").faults
    assert "running statistics" in fault


def test_a_model_whose_weights_are_no_numbers_is_the_users():
    broken = model(NETS[0])
    broken.module.noise[0].weight.data[0] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        verify(broken, "cpu")


def test_the_model_is_left_as_it_was():
    sound = model(NETS[6])
    before = {name: tensor.clone() for name, tensor in sound.module.state_dict().items()}
    verify(sound, "cpu")
    time_steps(sound, "cpu")
    after = sound.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not sound.module.training
    assert all(parameter.grad is None for parameter in sound.module.parameters())


def test_a_step_of_both_is_timed():
    timing, *_ = time_steps(model(NETS[2]), "cpu")
    assert timing.precision == "fp32"
    assert timing.shape == (2, 1, 64, 96)
    assert min(timing.fast_ms, timing.reference_ms) > 0
    assert timing.ratio == pytest.approx(timing.fast_ms / timing.reference_ms)


@pytest.fixture
def saved(tmp_path) -> Path:
    """A model on disk."""
    made = model(UNet(size=4, depth=1))
    path = tmp_path / "model.safetensors"
    save_model(path, made.module.state_dict(), made.recipe, 2, {"pixel_size": None, "step": 1, "validation": 1.0})
    return path


def test_the_command_shows_each_layer_and_says_verified(saved, tmp_path, capsys):
    assert run(["verify", str(saved), "--device", "cpu", "--json", str(tmp_path / "v.json")]) == 0
    said = capsys.readouterr().out
    for words in ("down.0.0", "4x1x3x3", "largest difference in float64", "ratio", "verified"):
        assert words in said
    written = json.loads((tmp_path / "v.json").read_text())
    assert written["faults"] == []
    assert written["timings"][0]["precision"] == "fp32"
    assert {layer["name"] for layer in written["layers"]} >= {"down.0.0", "up.0.2", "last"}
    assert run(["verify", str(saved.parent), "--device", "cpu", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"]["difference"] < 1e-4


def test_the_command_fails_in_one_line_where_a_weight_differs(saved, capsys, monkeypatch):
    faulty(monkeypatch, lambda module: module.down[0][0].weight.data.view(-1)[:1].add_(1e-2))
    assert run(["verify", str(saved), "--device", "cpu"]) == 1
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert "answers differ by" in line
    assert "verified" not in out


def test_what_is_no_model_is_the_users_fault(tmp_path, capsys):
    (tmp_path / "a.mrc").write_bytes(b"x" * 100)
    for given in ("absent", str(tmp_path / "a.mrc"), str(tmp_path)):
        assert run(["verify", given]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
