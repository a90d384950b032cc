"""Networks: the parameter counts of the source documents, the halo they claim, two and three axes."""

import pytest
import torch

from deice.nets import NETS, ResidualCNN, UNet, parameters


def test_parameters_are_those_of_the_source_documents():
    assert parameters(ResidualCNN().build(2)) == 93_089
    assert parameters(UNet().build(2)) == 1_946_305


@pytest.mark.parametrize("net", [ResidualCNN(depth=3, width=4), UNet(size=4, depth=1), UNet(size=4, depth=2)])
@pytest.mark.parametrize("axes", [2, 3])
def test_no_output_pixel_sees_beyond_the_halo_and_some_see_that_far(net, axes):
    torch.manual_seed(0)
    module = net.build(axes)
    size = 2 * (net.halo + 2 * net.stride) // net.stride * net.stride
    farthest = 0
    for offset in range(net.stride):
        picture = torch.randn(1, 1, *[size] * axes, requires_grad=True)
        centre = size // 2 // net.stride * net.stride + offset
        (gradient,) = torch.autograd.grad(module(picture)[(0, 0, *[centre] * axes)], picture)
        seen = gradient[0, 0].nonzero()
        farthest = max(farthest, int((seen - centre).abs().max()))
    assert net.halo - net.stride < farthest <= net.halo


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("axes", [2, 3])
def test_the_shape_is_kept(name, axes):
    net = NETS[name]()
    picture = torch.randn(2, 1, *[2 * net.stride] * axes)
    assert net.build(axes)(picture).shape == picture.shape


def test_the_residual_cnn_subtracts_what_its_layers_predict():
    module = ResidualCNN(depth=2, width=2).build(2)
    picture = torch.randn(1, 1, 8, 8)
    torch.nn.init.zeros_(module.noise[-1].weight)
    torch.nn.init.constant_(module.noise[-1].bias, 0.25)
    assert torch.allclose(module(picture), picture - 0.25)
