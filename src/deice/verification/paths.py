"""The two paths that are compared: a net as training and denoising run it, and its plain reference."""

import copy
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.nn import functional

from deice.checkpoint import Model
from deice.devices import PRECISIONS, autocast, choose_precision, place, put
from deice.losses import mse
from deice.nets.reference import Pass, reference
from deice.recipe import name_of

SIZES = {2: (64, 96), 3: (16, 24, 32)}  # of the pictures compared, about: no two axes alike
SAMPLES = 2

Reference = Callable[[Tensor, Pass], Tensor]
Weights = Mapping[str, Tensor]


def shape_compared(model: Model) -> tuple[int, ...]:
    """(b, 1, *space): small, each axis a multiple of the net's stride."""
    stride = model.net.stride
    return SAMPLES, 1, *(stride * max(1, round(size / stride)) for size in SIZES[model.axes])


def placed_copy(model: Model, device: torch.device) -> nn.Module:
    """The model's network as training and denoising place it, apart from the model."""
    return place(copy.deepcopy(model.module), model.axes, device)


def reference_of(model: Model) -> Reference:
    """The plain reference of the model's net."""
    return reference(name_of(model.net), asdict(model.net))  # ty: ignore[invalid-argument-type]


def plain_copies(weights: Weights, device: torch.device) -> dict[str, Tensor]:
    """`weights` on `device`, in the order of their axes, apart from the model's."""
    return {name: tensor.detach().to(device, copy=True).contiguous() for name, tensor in weights.items()}


def learnt(weights: Weights, module: nn.Module) -> dict[str, Tensor]:
    """Copies of `weights`; those that `module` learns take gradients."""
    names = {name for name, _ in module.named_parameters()}
    return {name: tensor.clone().requires_grad_(name in names) for name, tensor in weights.items()}


def step_of(fast: nn.Module, pictures: Tensor, targets: Tensor, precision: torch.dtype) -> Tensor:
    """Answer, loss and gradients as training computes them; returns the loss."""
    fast.train().zero_grad(set_to_none=True)
    with autocast(pictures.device, precision):
        answer = fast(put(pictures))
    loss = mse(answer.float(), targets)
    loss.backward()
    return loss.detach()


def step_of_reference(net: Reference, walk: Pass, pictures: Tensor, targets: Tensor) -> Tensor:
    """The same by the reference; the gradients are left with those weights of `walk` that are learnt."""
    loss = functional.mse_loss(net(pictures, walk), targets)
    loss.backward()
    return loss.detach()


def lower_precisions(device: torch.device) -> dict[str, torch.dtype]:
    """What runs on this device in place of plain fp32, by name: fp32 with short factors, and what `auto` chooses."""
    chosen = choose_precision("auto", device)
    names = {"tf32": torch.float32} if device.type == "cuda" else {}
    return names | {name: kind for name, kind in PRECISIONS.items() if kind == chosen != torch.float32}


@contextmanager
def no_tf32() -> Generator[None]:
    """GPUs round the factors of fp32 convolutions to 10 bits where they may: not within this block."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
