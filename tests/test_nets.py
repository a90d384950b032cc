"""Networks: the parameter counts of the source documents, the halo and memory they claim, two and three axes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds_for_tests import views

from deice.errors import RecipeFault
from deice.learner import Learner
from deice.nets import NETS, ResidualCNN, UNet, describe, parameters
from deice.nets.unet import ResidualBlock
from deice.recipe import completed, from_table, parse_component
from deice.tile_sizes import CONVOLUTION_WORKSPACE

OPTIONS = [
    ResidualCNN(depth=3, width=4, norm="batch"),
    UNet(size=4, depth=2, upsampling="linear"),
    UNet(size=4, depth=2, upsampling="transposed", norm="batch"),
    UNet(size=4, depth=2, blocks="residual"),
    UNet(size=4, depth=2, blocks="residual", bias=False),
]


def with_lively_weights(net, axes):
    """A module in which hardly any path is dead."""
    torch.manual_seed(0)
    module = net.build(axes).eval()
    for tensor in module.parameters():
        if tensor.ndim == 1:
            torch.nn.init.uniform_(tensor, 0.2, 0.5)
        else:
            tensor.data.abs_()
    return module


def test_parameters_are_those_of_the_source_documents():
    assert parameters(ResidualCNN().build(2)) == 93_089
    assert parameters(UNet().build(2)) == 1_946_305


@pytest.mark.parametrize("net", [ResidualCNN(depth=3, width=4), UNet(size=4, depth=1), *OPTIONS], ids=str)
@pytest.mark.parametrize("axes", [2, 3])
def test_no_output_pixel_sees_beyond_the_halo_and_some_see_that_far(net, axes):
    if axes == 3 and isinstance(net, UNet):
        net = replace(net, depth=1)  # as telling, and a tenth of the work
    module = with_lively_weights(net, axes)
    size = 2 * (net.halo + 2 * net.stride) // net.stride * net.stride
    farthest = 0
    for offset in range(net.stride):
        picture = torch.randn(1, 1, *[size] * axes, requires_grad=True)
        centre = size // 2 // net.stride * net.stride + offset
        (gradient,) = torch.autograd.grad(module(picture)[(0, 0, *[centre] * axes)], picture)
        seen = gradient[0, 0].nonzero()
        farthest = max(farthest, int((seen - centre).abs().max()))
    assert net.halo - net.stride < farthest <= net.halo


@pytest.mark.parametrize("net", [*(NETS[name]() for name in NETS), *OPTIONS], ids=str)
@pytest.mark.parametrize("axes", [2, 3])
def test_the_shape_is_kept(net, axes):
    picture = torch.randn(2, 1, *[2 * net.stride] * axes)
    assert net.build(axes)(picture).shape == picture.shape


def test_the_residual_cnn_subtracts_what_its_layers_predict():
    module = ResidualCNN(depth=2, width=2).build(2)
    picture = torch.randn(1, 1, 8, 8)
    torch.nn.init.zeros_(module.noise[-1].weight)
    torch.nn.init.constant_(module.noise[-1].bias, 0.25)
    assert torch.allclose(module(picture), picture - 0.25)


def test_a_net_that_is_not_residual_begins_near_the_mean():
    picture = torch.randn(1, 1, 32, 32)
    for net in (ResidualCNN(residual=False), UNet(size=8), UNet(size=8, blocks="residual", depth=5)):
        torch.manual_seed(0)
        assert net.build(2)(picture).std() < 0.3


def test_batch_norm_stands_in_the_middle_layers_and_replaces_their_bias():
    layers = ResidualCNN(depth=4, width=2, norm="batch").build(2).noise
    kinds = [type(layer).__name__ for layer in layers]
    assert kinds == [
        "Conv2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU", "Conv2d"]  # fmt: skip
    assert [layer.bias is not None for layer in layers if isinstance(layer, torch.nn.Conv2d)] == [1, 0, 0, 1]


def test_a_residual_block_adds_what_it_computes_to_its_input():
    block = UNet(size=4, depth=1, widest=4, blocks="residual").build(2).down[1]
    assert isinstance(block, ResidualBlock)
    features = torch.randn(1, 4, 8, 8).relu()
    expected = (features + block.body(features)).relu()
    assert torch.allclose(block(features), expected)
    assert (block(features) - features).norm() < 0.5 * features.norm()  # little at first
    torch.nn.init.zeros_(block.body[-1].weight)
    assert torch.equal(block(features), features)


@pytest.mark.parametrize("blocks", ["plain", "residual"])
def test_without_biases_the_answer_to_a_multiple_is_that_multiple_of_the_answer(blocks):
    torch.manual_seed(0)
    module = UNet(size=4, depth=2, blocks=blocks, bias=False).build(2).eval()
    assert all(tensor.ndim > 1 for tensor in module.parameters())
    picture = torch.randn(1, 1, 32, 32)
    assert torch.equal(module(8 * picture), 8 * module(picture))  # a power of 2: exact in floating point
    assert not module(0 * picture).any()


def test_dropout_hides_values_from_each_convolution_on_the_way_up_and_only_in_training():
    module = UNet(size=4, depth=2, dropout=0.5).build(2)
    drops = [name for name, layer in module.named_modules() if isinstance(layer, torch.nn.Dropout)]
    assert drops == ["up.0.drop0", "up.0.drop2", "up.1.drop0", "up.1.drop2", "drop"]
    picture = torch.randn(1, 1, 16, 16)
    torch.manual_seed(0)
    assert not torch.equal(module.train()(picture), module(picture))
    assert torch.equal(module.eval()(picture), module(picture))
    for name in drops:
        module.get_submodule(name).train()  # as an ensemble of predictions wants it
    assert not torch.equal(module(picture), module(picture))


def test_weights_fit_with_and_without_dropout():
    with_drops, without = UNet(size=4, depth=2, dropout=0.5).build(2).eval(), UNet(size=4, depth=2).build(2)
    without.load_state_dict(with_drops.state_dict())
    picture = torch.randn(1, 1, 16, 16)
    assert torch.equal(with_drops(picture), without(picture))


def test_weights_have_the_names_they_always_had():
    """Models on disk are read by these names."""
    cnn = [f"noise.{place}.{kind}" for place in (0, 2, 4) for kind in ("weight", "bias")]
    assert list(ResidualCNN(depth=3).build(2).state_dict()) == cnn
    blocks = [f"{block}.{place}" for block in ("down.0", "down.1", "up.0") for place in (0, 2)]
    expected = {f"{layer}.{kind}" for layer in [*blocks, "last"] for kind in ("weight", "bias")}
    assert set(UNet(depth=1).build(2).state_dict()) == expected


@pytest.mark.parametrize("flag", [
    "unet:norm=group", "unet:blocks=dense", "unet:upsampling=cubic", "unet:dropout=1.0", "unet:dropout=-0.1",
    "unet:dropout=nan", "unet:bias=false,norm=batch", "unet:bias=false,upsampling=transposed",
    "residual_cnn:norm=instance", "residual_cnn:depth=1", "unet:size=0",
])  # fmt: skip
def test_a_setting_that_cannot_be_is_refused_in_a_line(flag):
    with pytest.raises(RecipeFault, match=r"has .*expected") as fault:
        from_table({"net": parse_component(flag)})
    assert len(str(fault.value).splitlines()) == 1


@pytest.mark.parametrize("net", [
    ResidualCNN(width=16), ResidualCNN(width=16, norm="batch"), UNet(size=16), UNet(size=16, blocks="residual"),
    UNet(size=16, upsampling="linear"), UNet(size=16, upsampling="transposed", norm="batch"),
], ids=str)  # fmt: skip
def test_denoising_takes_no_more_memory_than_the_net_claims(net):
    module, side = net.build(2).eval(), 256
    picture = torch.randn(1, 1, side, side).contiguous(memory_format=torch.channels_last)
    now = most = 0
    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profile:
        module(picture)
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    floats = most / 4 / side**2
    assert net.floats_per_pixel / 2 < floats <= CONVOLUTION_WORKSPACE * net.floats_per_pixel


def test_what_a_net_costs_is_described():
    rows = {row.flag: row for row in describe(2)}
    cnn, unet = rows["residual_cnn"], rows["unet"]
    assert (cnn.parameters, cnn.receptive_field, cnn.floats_per_pixel) == (93_089, 25, 66)
    assert cnn.multiply_adds_per_pixel == 9 * (32 + 10 * 32 * 32 + 32)
    assert cnn.settings == {"depth": 12, "width": 32, "norm": "none", "residual": True}
    assert (unet.parameters, unet.receptive_field) == (1_946_305, 103)
    levels = [(1 + 32) * 32 + (96 + 32) * 32, (32 + 64) * 64 + (192 + 64) * 64,
              (64 + 128) * 128 + (384 + 128) * 128, (128 + 256) * 256]  # fmt: skip
    assert unet.multiply_adds_per_pixel == sum(9 * level // 4**n for n, level in enumerate(levels)) + 32
    for row, deep in zip(describe(2), describe(3)):
        net = from_table({"net": parse_component(row.flag)}).net  # what is shown can be asked for
        assert parameters(net.build(2)) == row.parameters
        assert deep.flag == row.flag
        assert deep.multiply_adds_per_pixel > row.multiply_adds_per_pixel
        assert deep.receptive_field == row.receptive_field


def test_the_page_shows_what_is_described():
    page = (Path(__file__).resolve().parents[1] / "docs" / "nets.md").read_text()
    for row, deep in zip(describe(2), describe(3)):
        figures = (row.parameters, deep.parameters, row.receptive_field, row.multiply_adds_per_pixel,
                   deep.multiply_adds_per_pixel, row.floats_per_pixel)  # fmt: skip
        assert f"| `{row.flag}` | {' | '.join(f'{figure:,}' for figure in figures)} |" in page


def test_the_running_mean_of_the_weights_takes_the_statistics_along():
    """The judged net, whose batch norm uses running statistics, answers as the trained one does on a batch."""
    table = {"net": {"name": "unet", "size": 4, "depth": 1, "norm": "batch"}, "training": {"average": 0.9}}
    recipe = completed(from_table(table), 2)
    learner = Learner(recipe, 2, torch.device("cpu"), None, None)
    noisy = torch.from_numpy(np.stack([views((32, 32), seed=i)[1] for i in range(8)])).float()
    for _ in range(60):
        learner.learn(noisy, 0.5, torch.float32, torch.Generator().manual_seed(0))
    judged, without, pictures = learner.judged_module(), learner.judged_module(), noisy.flatten(0, 1)[:, None]
    for layer in without.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.reset_running_stats()
    with torch.no_grad():
        by_running, by_none, by_batch = judged(pictures), without(pictures), judged.train()(pictures)
    assert (by_running - by_batch).std() < 0.5 * by_batch.std()
    assert (by_running - by_batch).std() < 0.5 * (by_none - by_batch).std()
    counts = [(name, tensor) for name, tensor in learner.average.items() if name.endswith("num_batches_tracked")]
    assert counts
    assert all(torch.equal(tensor, learner.module.state_dict()[name]) for name, tensor in counts)
    assert all(tensor.min() > 0 for name, tensor in learner.average.items() if name.endswith("running_var"))
