"""The fused U-Net on a GPU: each pass against the plain one, the whole against the plain net in fp64."""

from concurrent.futures import ThreadPoolExecutor
from statistics import fmean

import plain_passes_for_tests as plain
import pytest
import torch
from torch import Tensor

from deice.devices import place
from deice.kernels import unet_layers as passes
from deice.kernels.unet_stack import TOLERANCE, _apart_on_a_small_picture, fused_unet, plain_unet
from deice.nets import UNet
from deice.recipe import from_table

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]

ROUNDING = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
SPACES = [(2, 2), (6, 10), (34, 130), (2, 4, 6), (12, 10, 18)]


def features(channels: int, space: tuple[int, ...], dtype: torch.dtype, seed: int, batch: int = 2) -> Tensor:
    generator = torch.Generator("cuda").manual_seed(seed)
    drawn = torch.randn(batch, *space, channels, device="cuda", generator=generator)
    return drawn.to(dtype).movedim(-1, 1)


def halved(space: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size // 2 for size in space)


def poison() -> None:
    """Fill what the allocator hands out next with NaN."""
    junk = [torch.full((size,), float("nan"), device="cuda") for size in (256, 1 << 12, 1 << 18, 1 << 22)]
    del junk


def same(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Equal but for one rounding to `dtype`, or of sums in fp32."""
    assert found.shape == expected.shape
    tolerance = 1e-5 if found.dtype == torch.float32 else ROUNDING[dtype]
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels", [8, 32, 256])
@pytest.mark.parametrize("space", SPACES)
def test_every_pass_is_the_plain_one(dtype, channels, space):
    z, bias = features(channels, space, dtype, 0), torch.randn(channels, device="cuda")
    z64, bias64 = z.double(), bias.double()
    poison()
    same(passes.bias_relu(z.clone(), bias), plain.bias_relu(z64, bias64), dtype)
    wide = [features(channels + 8, space, dtype, 1) for _ in range(2)]
    expected = wide[1].double()
    for number in (0, 1):
        given = (bias, bias64) if number else (None, None)
        pooled = passes.place_and_pool(z, given[0], wide[0][:, 8:])
        same(pooled, plain.place_and_pool(z64, given[1], expected[:, 8:]), dtype)
        same(wide[0], expected, dtype)
    coarse = features(channels, halved(space), dtype, 2)
    passes.enlarge(coarse, wide[0][:, :channels])
    plain.enlarge(coarse.double(), expected[:, :channels])
    same(wide[0], expected, dtype)
    weight, added = torch.randn(channels, device="cuda"), torch.randn(2, 1, *space, device="cuda")
    poison()
    for more in (None, added):
        same(passes.project(z, weight, bias[:1], more),
             plain.project(z64, weight.double(), bias64[:1], None if more is None else more.double()), dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels", [8, 32, 256])
@pytest.mark.parametrize("space", SPACES)
def test_every_pass_back_is_the_plain_one(dtype, channels, space):
    gradient, active = features(channels, space, dtype, 0), features(channels, space, dtype, 1)
    wide, coarse = features(channels + 8, space, dtype, 2), features(channels, halved(space), dtype, 3)
    placed = features(channels + 8, space, dtype, 4).relu().round()  # with many ties
    flat, weight = torch.randn(2, 1, *space, device="cuda"), torch.randn(channels, device="cuda")
    poison()
    rooms = [passes.room_for_sums(gradient, 5 * channels), plain.room_for_sums(gradient.double(), 5 * channels)]
    answers = []
    for module, room, kind in ((passes, rooms[0], dtype), (plain, rooms[1], torch.float64)):
        sums, masked = room.split(channels, 1), gradient.to(kind, copy=True)
        module.relu_gradient(masked, active.to(kind), sums[0])
        exact = torch.float32 if module is passes else torch.float64
        wide_here, placed_here, coarse_here = wide.to(kind), placed.to(kind), coarse.to(kind)
        answers.append([
            masked, module.enlarge_gradient(wide_here[:, :channels], coarse_here, sums[1]),
            module.place_and_pool_gradient(wide_here[:, 8:], placed_here[:, 8:], coarse_here, sums[2]),
            module.project_gradient(flat.to(exact), weight.to(exact), active.to(kind), sums[3], sums[4]),
            module.add_blocks(room, gradient)])
    for one, other in zip(*answers, strict=True):
        same(one, other, dtype)


def apart(one: Tensor, other: Tensor) -> float:
    one, other = one.detach().double(), other.detach().double()
    return float((one - other).norm() / other.norm().clamp_min(1e-30))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("net", "axes", "shape"), [
    (UNet(size=32, depth=3), 2, (2, 1, 64, 136)), (UNet(size=16, depth=2, residual=True), 2, (3, 1, 20, 12)),
    (UNet(size=32, depth=2), 3, (1, 1, 16, 24, 20)), (UNet(size=8, depth=1), 3, (2, 1, 6, 4, 10))])
def test_the_net_and_its_gradients_are_the_plain_ones(net, axes, shape, dtype):
    torch.manual_seed(0)
    module = place(net.build(axes), axes, torch.device("cuda"))
    for parameter in module.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    layers = module.convolutions
    picture, target = torch.randn(shape, device="cuda"), torch.randn(shape, device="cuda")

    def judged(kind: torch.dtype, unet) -> list[Tensor]:
        weights = [c.weight.detach().to(kind).requires_grad_() for c in layers]
        biases = [c.bias.detach().to(kind).requires_grad_() for c in layers]
        seen = picture.to(kind).requires_grad_()
        with torch.autocast("cuda", dtype, enabled=kind == torch.float32):
            answer = unet(seen, weights, biases, net.residual)
        return [answer, *torch.autograd.grad((answer - target).square().mean(), [seen, *weights, *biases])]

    poison()
    found, expected = judged(torch.float32, fused_unet), judged(torch.float64, plain_unet)
    usual = judged(torch.float32, plain_unet)
    assert apart(found[0], expected[0]) < 1.5 * apart(usual[0], expected[0])
    assert fmean(map(apart, found, expected)) < 3 * fmean(map(apart, usual, expected))  # most by ReLUs that flip
    with torch.no_grad(), torch.autocast("cuda", dtype):
        assert torch.equal(module(picture), found[0])


def test_a_thread_that_never_called_cuda():
    """As those of PyTorch's backward pass may be: memory is at hand, nothing makes the GPU's context the thread's."""
    gradient, active = features(32, (4, 4), torch.float16, 0), features(32, (4, 4), torch.float16, 1)
    sums, expected = passes.room_for_sums(gradient, 32), gradient * (active > 0)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(passes.relu_gradient, gradient, active, sums).result()
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("axes", [2, 3])
def test_nan_stays_nan(axes):
    torch.manual_seed(0)
    module = place(UNet(size=32, depth=1).build(axes), axes, torch.device("cuda"))
    module.last.weight.data.fill_(1.0)
    picture = torch.randn(1, 1, *[32] * axes, device="cuda")
    picture[0, 0, 3, 4] = torch.nan
    layers = module.convolutions
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        answer = fused_unet(picture, [c.weight for c in layers], [c.bias for c in layers], False)
    assert answer[0, 0, 3, 4].isnan().all()
    assert answer[0, 0, 20:, 20:].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("axes", [2, 3])
def test_where_no_relu_flips_the_net_is_the_plain_one(dtype, axes):
    assert _apart_on_a_small_picture(torch.device("cuda"), dtype, axes) < TOLERANCE[dtype]


@pytest.mark.parametrize("net", ["unet", "residual_cnn"])
def test_a_fused_net_learns_and_its_weights_have_the_plain_names(net):
    recipe = from_table({"net": {"name": net, **({"depth": 2} if net == "unet" else {"depth": 4})}})
    module = place(recipe.network.build(2), 2, torch.device("cuda"))
    assert module.state_dict().keys() == recipe.network.build(2).state_dict().keys()
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)
    picture, losses = torch.randn(2, 1, 64, 64, device="cuda"), []
    for _ in range(20):
        optimiser.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            loss = (module(picture).float() - picture.roll(1, -1)).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.95 * losses[0]
