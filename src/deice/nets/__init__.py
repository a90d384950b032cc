"""Networks: plain modules behind frozen dataclasses, one dict of names; the only place that names Conv2d or Conv3d.

A net's dataclass is its configuration. It says what the road must know: `stride` (tile origins are multiples of it),
`halo` (how far an output pixel sees) and `floats_per_pixel` (live activations while it denoises); `build(axes)` makes
the module, (b, 1, *space) → (b, 1, *space) with two or three axes.
"""

from typing import Protocol

from torch import nn

from deice.nets.residual_cnn import ResidualCNN
from deice.nets.unet import UNet


class Net(Protocol):
    """What every net's dataclass answers."""

    @property
    def stride(self) -> int: ...
    @property
    def halo(self) -> int: ...
    @property
    def floats_per_pixel(self) -> int: ...
    def build(self, axes: int) -> nn.Module: ...


NETS: dict[str, type[Net]] = {"residual_cnn": ResidualCNN, "unet": UNet}


def parameters(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(p.numel() for p in module.parameters())
