"""What a net costs and how far it sees: the figures to choose one by."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from deice.nets import Net


@dataclass(frozen=True)
class NetFacts:
    """One net on two or three axes.

    `flag`: what chooses it, as --net takes it. `settings`: all of them. `receptive_field`: pixels along each axis that
    an output pixel can depend on. `multiply_adds_per_pixel`: of its convolutions, to denoise; a training step takes
    about three times as many. `floats_per_pixel`: live activations while it denoises.
    """

    name: str
    flag: str
    settings: dict[str, Any]
    parameters: int
    receptive_field: int
    multiply_adds_per_pixel: int
    floats_per_pixel: int


def parameters(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(p.numel() for p in module.parameters())


def facts(name: str, net: "Net", axes: int) -> NetFacts:
    """The facts of `net`, called `name` in recipes, on `axes` axes. Counted without storage: nothing is computed."""
    from torch.utils.flop_counter import FlopCounterMode  # takes long to import

    settings = {field.name: getattr(net, field.name) for field in fields(net)}  # ty: ignore[invalid-argument-type]
    changed = {key: value for key, value in settings.items() if value != getattr(type(net)(), key)}
    flag = name + (":" + ",".join(f"{key}={_as_flag(value)}" for key, value in changed.items()) if changed else "")
    side = 2 * net.stride
    with torch.device("meta"):
        module, picture = net.build(axes).eval(), torch.empty(1, 1, *[side] * axes)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(picture)
    multiply_adds = round(counter.get_total_flops() / 2 / side**axes)  # its unit is half a multiply-add
    return NetFacts(name, flag, settings, parameters(module), 2 * net.halo + 1, multiply_adds, net.floats_per_pixel)


def _as_flag(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
