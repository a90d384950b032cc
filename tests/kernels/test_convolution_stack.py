"""The residual CNN's stack without a GPU: its plain reference, how weights are packed, who computes what."""

import logging

import pytest
import torch
from torch import nn

from deice.errors import RecipeFault
from deice.kernels import convolution_layers as layers
from deice.kernels.convolution_stack import SWITCH, can_fuse, plain_stack
from deice.nets import ResidualCNN


@pytest.mark.parametrize("residual", [True, False])
def test_the_reference_is_the_net(residual):
    torch.manual_seed(0)
    module = ResidualCNN(depth=5, residual=residual).build(2)
    picture = torch.randn(2, 1, 17, 30)
    convolutions = [layer for layer in module.noise if isinstance(layer, nn.Conv2d)]
    found = plain_stack(picture, [c.weight for c in convolutions], [c.bias for c in convolutions], residual)
    torch.testing.assert_close(found, module(picture), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("gradient", [False, True])
def test_weights_are_packed_for_the_matrix_units(gradient):
    """Output n of a product is channel 8·t + 2·j + e for n = 8·j + 2·t + e; the three ky stand in falling order."""
    weight = torch.arange(9216.0).reshape(32, 32, 3, 3)
    packed = weight.flatten()[layers.layer_table(hopper=True, gradient=gradient)].reshape(3, 2, 2, 3, 32, 8)
    if gradient:
        weight = weight.transpose(0, 1).flip(2, 3)
    places = [(0, 0, 0, 0, 0, 0), (2, 1, 0, 1, 13, 5), (1, 0, 1, 2, 31, 7), (0, 1, 1, 0, 22, 2)]
    for kx, half, eights, ky, n, eighth in places:
        channel = 8 * (n % 8 // 2) + 2 * (n // 8) + n % 2
        assert packed[kx, half, eights, 2 - ky, n, eighth] == weight[channel, 16 * half + 8 * eights + eighth, ky, kx]


@pytest.mark.parametrize("hopper", [True, False])
@pytest.mark.parametrize("gradient", [True, False])
def test_every_weight_is_packed_once(hopper, gradient):
    assert layers.layer_table(hopper, gradient).sort().values.tolist() == list(range(9216))


def test_fragments_are_as_the_matrix_units_hold_them():
    """Lane l holds column l / 4 and of each half the rows 2·(l % 4), the next, and both + 8."""
    weight = torch.randn(1, 32, 3, 3)
    packed = layers.pack_last(weight, torch.float32).reshape(3, 3, 2, 32, 2, 2)
    for lane, second, more in [(0, 0, 0), (3, 1, 0), (2, 0, 1), (1, 1, 1)]:
        for half in (0, 1):
            channel = 16 * half + 2 * lane + 8 * second + more
            torch.testing.assert_close(packed[:, :, half, lane, second, more], weight[0, channel])
    assert not packed[:, :, :, 4:].any()


def test_a_convolution_by_packed_weights_is_the_convolution():
    """The sum over ky, kx and halves of the products that the kernel makes, in its own order of weights."""
    weight, features = torch.randn(32, 32, 3, 3), torch.randn(1, 32, 6, 9)
    packed = weight.flatten()[layers.layer_table(hopper=True, gradient=False)].reshape(3, 2, 2, 3, 32, 8)
    padded = nn.functional.pad(features, (1, 1, 1, 1))[0]
    sums = torch.zeros(32, 6, 9)
    for kx in range(3):
        for ky in range(3):
            seen = padded[:, ky : ky + 6, kx : kx + 9].reshape(2, 2, 8, 6, 9)
            sums += torch.einsum("hken,hkeyx->nyx", packed[kx, :, :, 2 - ky].transpose(-1, -2), seen)
    stored = torch.zeros_like(sums)
    for n in range(32):
        stored[8 * (n % 8 // 2) + 2 * (n // 8) + n % 2] = sums[n]
    torch.testing.assert_close(stored, nn.functional.conv2d(features, weight, padding=1)[0], rtol=1e-4, atol=1e-4)


def test_without_a_gpu_pytorch_computes_and_says_so_once(caplog):
    module = ResidualCNN().build(2)
    with caplog.at_level(logging.INFO, "deice"):
        for _ in range(3):
            module(torch.zeros(1, 1, 8, 8))
    assert not can_fuse(torch.zeros(1, 1, 8, 8), 32)
    assert len([line for line in caplog.messages if "PyTorch's kernels (no GPU)" in line]) <= 1


def test_the_switch_knows_two_words(monkeypatch):
    picture = torch.zeros(1, 1, 8, 8)
    for word in ("", "auto", "plain"):
        monkeypatch.setenv(SWITCH, word)
        assert not can_fuse(picture, 32)
    monkeypatch.setenv(SWITCH, "plian")
    with pytest.raises(RecipeFault, match="DEICE_KERNELS is 'plian' in the environment; expected auto or plain"):
        can_fuse(picture, 32)
