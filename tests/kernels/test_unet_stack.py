"""The fused U-Net's way through its layers and back, with passes in plain PyTorch; what it does not know is refused."""

import plain_passes_for_tests as plain
import pytest
import torch

from deice.kernels import unet_convolutions, unet_stack
from deice.nets import UNet


def nets_tensors(net: UNet, axes: int) -> tuple[list, list]:
    module = net.build(axes).double()
    parameters = dict(module.named_parameters())
    names = [name for name in parameters if name.endswith("weight")]
    generator = torch.Generator().manual_seed(0)
    for parameter in parameters.values():
        parameter.data += 0.1 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return [parameters[name] for name in names], [parameters[name.replace("weight", "bias")] for name in names]


@pytest.fixture
def in_fp64(monkeypatch):
    """The fused U-Net with plain passes and PyTorch's convolutions, in fp64 on the processor."""
    monkeypatch.setattr(unet_stack, "passes", plain)
    monkeypatch.setattr(unet_convolutions, "passes", plain)
    monkeypatch.setattr(unet_convolutions, "is_first", lambda weight: False)
    monkeypatch.setattr(unet_convolutions, "is_narrow", lambda weight: False)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    return lambda *arguments: unet_stack._UNet.apply(*arguments)


@pytest.mark.parametrize(("axes", "depth", "residual"), [(2, 1, False), (2, 3, True), (3, 2, False)])
def test_the_way_back_finds_the_gradients_of_autograd(in_fp64, axes, depth, residual):
    weights, biases = nets_tensors(UNet(size=8, depth=depth, widest=16, residual=residual), axes)
    picture = torch.randn(2, 1, *[16, 8, 24][:axes], dtype=torch.float64, requires_grad=True)
    target = torch.randn_like(picture)
    found = []
    for answer in (unet_stack.plain_unet(picture, weights, biases, residual),
                   in_fp64(picture, residual, torch.float64, *weights, *biases)):
        loss = (answer - target).square().mean()
        found.append([answer, *torch.autograd.grad(loss, [picture, *weights, *biases])])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("axes", [2, 3])
def test_the_plain_one_is_the_net(axes):
    net = UNet(size=8, depth=2, residual=True)
    module = net.build(axes)
    parameters = dict(module.named_parameters())
    weights = [value for name, value in parameters.items() if name.endswith("weight")]
    biases = [value for name, value in parameters.items() if name.endswith("bias")]
    picture = torch.randn(1, 1, *[8] * axes)
    torch.testing.assert_close(unet_stack.plain_unet(picture, weights, biases, True), module(picture))
