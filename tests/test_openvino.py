"""Networks in OpenVINO: the answers of PyTorch, only where they are, and only where it pays."""

import numpy as np
import pytest
import torch
from worlds_for_tests import views

from deice import denoise
from deice.checkpoint import Model
from deice.conditions import Conditions
from deice.nets import ResidualCNN, UNet
from deice.openvino_net import OpenVinoNet, by_openvino
from deice.recipe import Recipe

pytest.importorskip("openvino", reason="the extra openvino is not installed")
CPU = torch.device("cpu")
NETS = [ResidualCNN(depth=3, width=4), UNet(size=4, depth=2, upsampling="linear", norm="batch"),
        UNet(size=4, depth=2, upsampling="transposed", blocks="residual")]  # fmt: skip


@pytest.fixture(autouse=True)
def at_any_size(monkeypatch):
    """Small pictures, too, go through OpenVINO."""
    monkeypatch.setattr("deice.openvino_net.WORTH_IT", 0)


def model_of(net, axes=2):
    torch.manual_seed(5)
    module = net.build(axes)
    for tensor in module.parameters():
        if tensor.shape[0] == 1:
            torch.nn.init.normal_(tensor, std=0.3)
    return Model(module.eval(), axes, None, Recipe(net=net), {})


@pytest.mark.parametrize("net", NETS, ids=str)
@pytest.mark.parametrize("shape", [(97, 130), (20, 31, 27)])
def test_the_answers_are_pytorchs(net, shape, monkeypatch, caplog):
    model, noisy = model_of(net, len(shape)), views(shape, seed=3)[1]
    with caplog.at_level("INFO", "deice"):
        answers = [np.asarray(denoise(noisy, model, precision="fp32", tile=tile, device="cpu")) for tile in (400, 24)]
    assert "runs in OpenVINO, f32" in caplog.text
    monkeypatch.setenv("DEICE_KERNELS", "plain")
    plain = np.asarray(denoise(noisy, model, precision="fp32", device="cpu"))
    for answer in answers:
        assert np.abs(answer - plain).max() < 1e-4 * plain.std()


def test_bf16_is_as_near_as_pytorchs(monkeypatch):
    model, noisy = model_of(UNet(size=8, depth=2)), views((160, 140), seed=3)[1]
    fast = np.asarray(denoise(noisy, model, precision="bf16", device="cpu"))
    monkeypatch.setenv("DEICE_KERNELS", "plain")
    exact, usual = (np.asarray(denoise(noisy, model, precision=p, device="cpu")) for p in ("fp32", "bf16"))
    assert (fast - exact).std() < 2 * (usual - exact).std() + 1e-5


def test_small_jobs_are_not_worth_it(monkeypatch):
    monkeypatch.setattr("deice.openvino_net.WORTH_IT", 10_000)
    model = model_of(NETS[0])
    assert by_openvino(model, Conditions(CPU), 9_999) is model
    assert isinstance(by_openvino(model, Conditions(CPU), 10_000).module, OpenVinoNet)


def test_a_network_that_it_cannot_take_stays_in_pytorch_and_that_is_said(caplog):
    class Odd(torch.nn.Module):
        def forward(self, picture):
            return picture * float(picture.sum())

    model = model_of(NETS[0])
    odd = Model(Odd(), 2, None, model.recipe, {})
    assert by_openvino(odd, Conditions(CPU), 1) is odd
    assert "PyTorch is used" in caplog.text


def test_an_answer_that_is_wrong_is_not_used(monkeypatch, caplog):
    right = OpenVinoNet.forward
    monkeypatch.setattr(OpenVinoNet, "forward", lambda self, pictures: 1.5 * right(self, pictures))
    model = model_of(NETS[0])
    assert by_openvino(model, Conditions(CPU), 1) is model
    assert "is allowed; PyTorch is used" in caplog.text
