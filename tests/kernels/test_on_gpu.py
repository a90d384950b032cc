"""The fused kernels on a GPU against plain PyTorch in fp64: values and every gradient, whatever the size."""

import copy
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.nn import functional
from worlds_for_tests import error, views

from deice import denoise, train
from deice.kernels import compiled
from deice.kernels import convolution_layers as layers
from deice.kernels.convolution_stack import (
    ROUNDING,
    SWITCH,
    TOLERANCE,
    can_fuse,
    fused_stack,
    plain_stack,
)
from deice.nets import ResidualCNN

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]
DTYPES = [torch.bfloat16, torch.float16]
SIZES = [(1, 1, 1), (3, 3, 5), (1, 33, 75), (3, 64, 128), (2, 257, 511)]  # pictures, rows, columns
OF_A_LAYER = {torch.bfloat16: 4e-3, torch.float16: 5e-4}  # what rounding does to its output, its inputs rounded alike


@pytest.fixture(params=["its own", "as other GPUs"])
def path(request, monkeypatch):
    """On Hopper also the kernels that other GPUs run."""
    if request.param == "as other GPUs":
        usual = compiled.architecture_of(torch.device("cuda"))
        if not usual.endswith("a"):
            pytest.skip(f"{usual} has one path")
        for module in (compiled, layers):
            monkeypatch.setattr(module, "architecture_of", lambda device: usual[:-1])
    forgotten = (layers._kernel, layers._on_device)
    for cached in forgotten:
        cached.cache_clear()
    yield request.param
    for cached in forgotten:
        cached.cache_clear()


@contextmanager
def poisoned():
    """Memory that nobody has written is NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def noise(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator("cuda").manual_seed(seed)
    return torch.randn(shape, generator=generator, device="cuda").to(dtype)


def channels_last(features):
    return features.contiguous(memory_format=torch.channels_last)


def apart(found, expected):
    """Norm of the difference over the norm; not a number where anything found is none."""
    found, expected = found.detach(), expected.detach()
    return float((found.double() - expected).norm() / expected.norm().clamp_min(1e-30))


def convolved(features, weight, bias=None):
    return functional.conv2d(features.double(), weight.double(), None if bias is None else bias.double(), padding=1)


def transposed(gradient, weight):
    return functional.conv_transpose2d(gradient.double(), weight.double(), padding=1)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_layer_and_its_gradient(size, dtype, path):
    pictures, *space = size
    given = channels_last(noise(pictures, 32, *space, dtype=dtype))
    active = channels_last(noise(pictures, 32, *space, seed=1, dtype=dtype).relu())
    weight, bias = noise(32, 32, 3, 3, seed=2) / 17, noise(32, seed=3)
    rounded = weight.to(dtype)
    with poisoned():
        out = layers.layer(given, layers.pack_layers([weight], dtype)[0], bias, layers.activations_like(given, dtype))
        back = layers.layer_gradient(given, layers.pack_layers([weight], dtype, gradient=True)[0], active,
                                     layers.activations_like(given, dtype))
    assert apart(out, convolved(given, rounded, bias).relu()) < OF_A_LAYER[dtype]
    assert apart(back, transposed(given, rounded) * (active > 0)) < OF_A_LAYER[dtype]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_two_layers_in_one_walk_are_two_layers_bit_by_bit(size, dtype):
    if not layers.can_pair(torch.device("cuda")):
        pytest.skip("no two layers in one walk on this GPU")
    pictures, *space = size
    given = channels_last(noise(pictures, 32, *space, dtype=dtype))
    packed = layers.pack_layers([noise(32, 32, 3, 3, seed=seed) / 12 for seed in (2, 3)], dtype)
    biases = [noise(32, seed=seed) for seed in (4, 5)]
    with poisoned():
        one = layers.layer(given, packed[0], biases[0], layers.activations_like(given, dtype))
        two = layers.layer(one, packed[1], biases[1], layers.activations_like(given, dtype))
        between = layers.activations_like(given, dtype)
        both = layers.two_layers(given, packed, biases, layers.activations_like(given, dtype), between)
        alone = layers.two_layers(given, packed, biases, layers.activations_like(given, dtype))
    assert torch.equal(between, one)
    assert torch.equal(both, two)
    assert torch.equal(alone, two)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_first_layer_and_the_gradients_of_the_last(size, dtype):
    pictures, *space = size
    picture = noise(pictures, 1, *space)
    active = channels_last(noise(pictures, 32, *space, seed=1, dtype=dtype).relu())
    first, last, bias = noise(32, 1, 3, 3, seed=2) / 3, noise(1, 32, 3, 3, seed=3) / 3, noise(32, seed=4)
    with poisoned():
        out = layers.first(picture, first, bias, layers.activations_like(picture, dtype))
        back = layers.last_gradient(picture, last, -1.0, active, layers.activations_like(picture, dtype))
    assert apart(out, convolved(picture, first, bias).relu()) < OF_A_LAYER[dtype]
    assert apart(back, -transposed(picture, last) * (active > 0)) < OF_A_LAYER[dtype]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_last_layer_and_the_gradient_of_the_picture(size, dtype, path):
    pictures, *space = size
    picture = noise(pictures, 1, *space)
    given = channels_last(noise(pictures, 32, *space, seed=1, dtype=dtype))
    first, last, bias = noise(32, 1, 3, 3, seed=2) / 3, noise(1, 32, 3, 3, seed=3) / 17, noise(1, seed=4)
    with poisoned():
        out = layers.last(given, layers.pack_last(last, dtype), bias, picture, -1.0)
        back = layers.last(given, layers.pack_first_gradient(first, dtype), None, None, 1.0)
    assert apart(out, picture.double() - convolved(given, last.to(dtype), bias)) < 1e-5
    assert apart(back, transposed(given, first.to(dtype))) < 1e-5


def random_stack(depth, seed):
    shapes = [(32, 1, 3, 3), *[(32, 32, 3, 3)] * (depth - 2), (1, 32, 3, 3)]
    weights = [noise(*shape, seed=seed + n) * (2 / (9 * shape[1])) ** 0.5 for n, shape in enumerate(shapes)]
    return weights, [0.1 * noise(len(weight), seed=seed + 50 + n) for n, weight in enumerate(weights)]


def answer_and_gradients(stack, picture, weights, biases, residual, towards):
    leaves = [tensor.detach().clone().requires_grad_() for tensor in (picture, *weights, *biases)]
    depth = len(weights)
    answer = stack(leaves[0], leaves[1 : depth + 1], leaves[depth + 1 :], residual)
    return answer.detach(), torch.autograd.grad(answer, leaves, towards.to(answer.dtype))


def errors_of_stack(picture, depth, residual, dtype, seed):
    """(tensors, 2): how far ours and PyTorch's own are from fp64, of the answer alone, the answer, every gradient."""
    weights, biases = random_stack(depth, seed)
    towards = noise(*picture.shape, seed=seed + 99)
    wide = [[tensor.double() for tensor in tensors] for tensors in (weights, biases)]
    expected, wanted = answer_and_gradients(plain_stack, picture.double(), *wide, residual, towards)
    with torch.autocast("cuda", dtype):
        plain, usual = answer_and_gradients(plain_stack, picture, weights, biases, residual, towards)
        with poisoned():
            found, gradients = answer_and_gradients(fused_stack, picture, weights, biases, residual, towards)
            with torch.no_grad():
                answer = fused_stack(picture, weights, biases, residual)
    assert found.dtype == torch.float32
    assert torch.equal(found, answer) or dtype == torch.bfloat16
    assert all(ours.shape == right.shape for ours, right in zip((found, *gradients), (expected, *wanted)))
    kinds = zip((answer, found, *gradients), (plain, plain, *usual), (expected, expected, *wanted))
    return np.array([[apart(ours, right), apart(pytorchs, right)] for ours, pytorchs, right in kinds])


def assert_stack(pictures, depth, residual, dtype):
    """Errors over several nets: in one of them, which ReLU a rounding flips decides how large they are."""
    errors = [errors_of_stack(picture, depth, residual, dtype, 1000 * seed) for seed, picture in enumerate(pictures)]
    ours, pytorchs = np.sqrt(np.mean(np.square(errors), axis=0)).T
    floor = np.full(len(ours), ROUNDING[dtype])
    floor[0] = ROUNDING[torch.float16]
    assert (ours < np.maximum(TOLERANCE * pytorchs, floor)).all(), np.stack([ours, pytorchs])


@pytest.mark.parametrize("size", [(1, 33, 75), (2, 257, 511)], ids=str)
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("depth", [2, 3, 12])
def test_the_whole_stack(size, residual, dtype, depth):
    nets = 16 if size[1] < 100 else 2
    assert_stack([noise(size[0], 1, *size[1:], seed=seed + 7) for seed in range(nets)], depth, residual, dtype)


def test_the_whole_stack_on_other_gpus(path):
    assert_stack([noise(1, 1, 130, 150)], 5, True, torch.bfloat16)


def test_a_picture_that_is_not_contiguous():
    picture = noise(150, 2, 140).permute(1, 2, 0)[:, None, ::2, 5:105]
    assert not picture.is_contiguous()
    assert_stack([picture], 4, True, torch.bfloat16)


def test_two_streams_at_once():
    pictures = [noise(1, 1, 700, 600, seed=n) for n in range(2)]
    stacks = [random_stack(6, seed) for seed in (0, 100)]
    with torch.autocast("cuda", torch.bfloat16):
        expected = [fused_stack(picture, *stack, True) for picture, stack in zip(pictures, stacks)]
        torch.cuda.synchronize()
        streams = [torch.cuda.Stream() for _ in range(2)]
        found = [[], []]
        for _ in range(20):
            for number, stream in enumerate(streams):
                with torch.cuda.stream(stream):
                    found[number].append(fused_stack(pictures[number], *stacks[number], True))
        torch.cuda.synchronize()
    for answers, right in zip(found, expected):
        assert all(torch.equal(answer, right) for answer in answers)


def test_the_same_step_twice_gives_the_same_bits():
    picture, (weights, biases) = noise(2, 1, 300, 200), random_stack(5, 0)
    with torch.autocast("cuda", torch.bfloat16):
        steps = [answer_and_gradients(fused_stack, picture, weights, biases, True, picture) for _ in range(2)]
    assert torch.equal(steps[0][0], steps[1][0])
    assert all(torch.equal(one, other) for one, other in zip(steps[0][1], steps[1][1]))


def test_the_net_uses_them_where_they_apply(monkeypatch, caplog):
    torch.manual_seed(0)
    module = ResidualCNN().build(2).cuda()
    picture = noise(1, 1, 100, 90)
    with torch.autocast("cuda", torch.bfloat16):
        assert can_fuse(picture, 32)
        assert not can_fuse(picture, 16)
        fused = module(picture)
        monkeypatch.setenv(SWITCH, "plain")
        assert not can_fuse(picture, 32)
        plain = module(picture)
    monkeypatch.delenv(SWITCH)
    assert not can_fuse(picture, 32)  # fp32
    assert not torch.equal(fused, plain)
    right = module.double()(picture.double())
    assert apart(fused, right) < TOLERANCE * apart(plain, right)


def test_what_is_too_large_for_fp16_stays_a_number_and_nan_stays_nan():
    weights, biases = random_stack(4, 0)
    picture = noise(1, 1, 40, 90)
    picture[0, 0, 5, 5] = 1e6
    with torch.autocast("cuda", torch.bfloat16), torch.no_grad():
        answer = fused_stack(picture, weights, biases, True)
        assert answer.isfinite().all()
        picture[0, 0, 5, 5] = torch.nan
        answer = fused_stack(picture, weights, biases, True)
    assert answer[0, 0, 5, 5].isnan()
    assert answer[0, 0, 10:].isfinite().all()


def test_a_trained_net_answers_as_in_fp32():
    truth, noisy = views((160, 144), seed=50)
    model = train([views((160, 144), seed=seed)[1] for seed in range(3)], device="cuda", steps=200, precision="bf16",
                  recipe={"net": {"name": "residual_cnn"}, "data": {"window": 64}, "training": {"batch": 8}})
    fused, plain = (np.asarray(denoise(noisy, model, device=device, precision=precision))
                    for device, precision in (("cuda", "bf16"), ("cpu", "fp32")))
    assert error(fused, truth) < 0.9 * error(noisy.mean(0), truth)
    assert np.linalg.norm(fused - plain) < 5e-3 * np.linalg.norm(plain)


def test_a_checkpoint_does_not_know_who_wrote_it(monkeypatch):
    modules = [ResidualCNN(depth=4).build(2).cuda()]
    modules.append(copy.deepcopy(modules[0]))
    picture, target = noise(2, 1, 64, 64), noise(2, 1, 64, 64, seed=1)
    for module, kernels in zip(modules, ("auto", "plain")):
        monkeypatch.setenv(SWITCH, kernels)
        with torch.autocast("cuda", torch.bfloat16):
            functional.mse_loss(module(picture).float(), target).backward()
    states = [module.state_dict() for module in modules]
    assert states[0].keys() == states[1].keys()
    for one, other in zip(*[list(module.parameters()) for module in modules]):
        assert one.grad.dtype == other.grad.dtype == torch.float32
        assert apart(one.grad, other.grad.double()) < 5e-2
