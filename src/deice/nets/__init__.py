"""Networks: plain modules behind frozen dataclasses, one dict of names; the only place that names Conv2d or Conv3d.

A net's dataclass is its configuration. It says what the road must know: `stride` (tile origins are multiples of it),
`halo` (how far an output pixel sees) and `floats_per_pixel` (live activations while it denoises); `build(axes)` makes
the module, (b, 1, *space) → (b, 1, *space) with two or three axes.
"""

from typing import Protocol

from torch import nn

from deice.nets.facts import NetFacts, facts, parameters
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

# one row each: the nets as they are by default, then what their settings change
SHOWN: tuple[tuple[str, Net], ...] = (
    ("residual_cnn", ResidualCNN()),
    ("residual_cnn", ResidualCNN(depth=20, width=64, norm="batch")),
    ("unet", UNet()),
    ("unet", UNet(depth=4)),
    ("unet", UNet(size=16, depth=4)),
    ("unet", UNet(size=16, depth=2)),
    ("unet", UNet(norm="batch")),
    ("unet", UNet(blocks="residual")),
    ("unet", UNet(upsampling="linear")),
    ("unet", UNet(upsampling="transposed")),
)


def describe(axes: int = 2) -> list[NetFacts]:
    """The nets and some of their settings on `axes` axes, with parameters, receptive field and cost per pixel."""
    return [facts(name, net, axes) for name, net in SHOWN]


__all__ = ["NETS", "Net", "NetFacts", "ResidualCNN", "UNet", "describe", "facts", "parameters"]
