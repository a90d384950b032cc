"""The U-Net (Ronneberger et al. 2015) of the source documents: 1→32→64→128, bottleneck 256, and back."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deice.errors import RecipeFault
from deice.kernels.unet_stack import can_fuse, fused_unet
from deice.nets.layers import (
    CONVOLUTIONS,
    NORMS,
    UP_SAMPLINGS,
    batch_norm,
    convolution,
    expect_one_of,
    max_pool,
    start_for_relu,
    start_near_zero,
    up_sampling,
)

BLOCKS = ("plain", "residual")


@dataclass(frozen=True)
class UNet:
    """`depth` poolings, `size` channels at full resolution, doubled at each level up to `widest`.

    32 channels and three poolings have 1,946,305 parameters on two axes. A block of two 3×3 convolutions with ReLU a
    level, skips concatenated; `residual` adds the input to the answer. `norm`: none or batch, between convolution and
    ReLU. `blocks`: plain, or residual (He et al. 2016: a block adds what it computes to its input). `upsampling`:
    nearest, linear, or transposed (2×2 convolutions, as published). `dropout`: the share of values that training hides
    from each convolution of the blocks on the way up and from the last one. `bias`: False for a net without additive
    constants, whose answer to a·x is a times its answer to x for a > 0, so that one net serves all noise levels
    (Mohan et al. 2020).
    """

    size: int = 32
    depth: int = 3
    widest: int = 256
    residual: bool = False
    norm: str = "none"
    blocks: str = "plain"
    upsampling: str = "nearest"
    dropout: float = 0.0
    bias: bool = True

    def __post_init__(self):
        if min(self.size, self.depth, self.widest) < 1:
            found = f"size {self.size}, depth {self.depth}, widest {self.widest}"
            raise RecipeFault(f"unet has {found}; expected 1 or more of each")
        if not 0 <= self.dropout < 1:
            raise RecipeFault(f"unet has dropout {self.dropout}; expected a share from 0 to below 1")
        if not self.bias and (self.norm, self.upsampling == "transposed") != ("none", False):
            raise RecipeFault(f"unet has bias false with norm {self.norm!r} and upsampling {self.upsampling!r}, which "
                              "add constants; expected norm none, and upsampling nearest or linear")
        expect_one_of("unet", "norm", self.norm, NORMS)
        expect_one_of("unet", "blocks", self.blocks, BLOCKS)
        expect_one_of("unet", "upsampling", self.upsampling, UP_SAMPLINGS)

    @property
    def widths(self) -> list[int]:
        """Channels at each level, the bottleneck last."""
        return [min(self.size * 2**level, max(self.widest, self.size)) for level in range(self.depth + 1)]

    @property
    def stride(self) -> int:
        """The pooling grid: tile origins are multiples of it."""
        return 2**self.depth

    @property
    def halo(self) -> int:
        """Four convolutions a level, two at the bottleneck, each as wide as its grid, and the pooling blocks.

        Linear up-sampling looks at one more pixel of the coarser grid, at every level.
        """
        convolutions = sum(4 * 2**level for level in range(self.depth)) + 2 * 2**self.depth
        between = sum(2 ** (level + 1) for level in range(self.depth)) if self.upsampling == "linear" else 0
        return convolutions + between + 2**self.depth - 1

    @property
    def floats_per_pixel(self) -> int:
        """At full resolution on the way up: the skip, the concatenation, a layer's output, the enlarged level below."""
        enlarged = self.size if self.upsampling == "transposed" else self.widths[1]
        return 4 * self.size + 2 * enlarged

    def build(self, axes: int) -> nn.Module:
        """The module for two or three axes."""
        return UNetModule(self, axes)


class UNetModule(nn.Module):
    """(b, 1, *space) → (b, 1, *space); every axis a multiple of the net's stride."""

    def __init__(self, settings: UNet, axes: int):
        super().__init__()
        widths = settings.widths
        lower, upper = widths[:0:-1], widths[-2::-1]  # the widths on the way up: of the level below, of the level
        raised = upper if settings.upsampling == "transposed" else lower
        self.residual, self.widths = settings.residual, widths
        self.simple = (settings.norm, settings.blocks, settings.upsampling, settings.dropout) == (
            "none", "plain", "nearest", 0.0)
        self.pool = max_pool(axes)
        self.down = nn.ModuleList(_block(settings, axes, a, b) for a, b in zip([1, *widths[:-1]], widths))
        self.enlarge = nn.ModuleList(up_sampling(axes, settings.upsampling, a, b) for a, b in zip(lower, raised))
        self.up = nn.ModuleList(_block(settings, axes, a + b, b, settings.dropout) for a, b in zip(raised, upper))
        start_for_relu(self)
        for block in (*self.down, *self.up):
            _start_as_identity(block)
        self.drop = nn.Dropout(settings.dropout)
        self.last = convolution(axes, widths[0], 1, size=1, bias=settings.bias)
        start_near_zero(self.last)

    def forward(self, picture: Tensor) -> Tensor:
        """Down with skips, up with concatenation."""
        if self._fused(picture):
            layers = self.convolutions
            biases = [c.weight.new_zeros(len(c.weight)) if c.bias is None else c.bias for c in layers]
            return fused_unet(picture, [c.weight for c in layers], biases, self.residual)
        skips, features = [], picture
        for level, block in enumerate(self.down):
            features = block(features if level == 0 else self.pool(features))
            skips.append(features)
        skips.pop()
        for enlarge, block in zip(self.enlarge, self.up):
            features = block(torch.cat([enlarge(features), skips.pop()], dim=1))
        answer = self.last(self.drop(features))
        return answer + picture if self.residual else answer

    @property
    def convolutions(self) -> list[Any]:
        """The layers that have weights, of a net of plain blocks, as they follow each other."""
        inside = [layer for block in (*self.down, *self.up) for layer in block.children()]
        return [*(layer for layer in inside if isinstance(layer, CONVOLUTIONS)), self.last]

    def _fused(self, picture: Tensor) -> bool:
        """Whether the layers run as one: not where someone listens to them or traces them for export."""
        if not self.simple or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return False
        return can_fuse(picture, self.widths) and not any(layer._forward_hooks for layer in self.modules())


class ResidualBlock(nn.Module):
    """ReLU of what the layers of `body` add to their input; a 1×1 convolution where the channels differ."""

    def __init__(self, body: nn.Sequential, shortcut: nn.Module):
        super().__init__()
        self.body, self.shortcut, self.relu = body, shortcut, nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """(b, channels in, *space) → (b, channels out, *space)."""
        return self.relu(self.body(features) + self.shortcut(features))


def _block(settings: UNet, axes: int, channels_in: int, channels_out: int, dropout: float = 0.0) -> nn.Module:
    """Two convolutions, each with ReLU, as a plain block or a residual one.

    The convolutions are called 0 and 2 whatever stands between them, so that weights fit with and without dropout.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, a in (("0", channels_in), ("2", channels_out)):
        if dropout:
            layers[f"drop{name}"] = nn.Dropout(dropout)
        layers[name] = convolution(axes, a, channels_out, bias=settings.bias and settings.norm == "none")
        if settings.norm == "batch":
            layers[f"norm{name}"] = batch_norm(axes, channels_out)
        layers[f"relu{name}"] = nn.ReLU(inplace=True)
    if settings.blocks == "plain":
        return nn.Sequential(layers)
    del layers["relu2"]  # comes after the sum
    same = channels_in == channels_out
    shortcut = nn.Identity() if same else convolution(axes, channels_in, channels_out, size=1, bias=settings.bias)
    return ResidualBlock(nn.Sequential(layers), shortcut)


def _start_as_identity(block: nn.Module) -> None:
    """A residual block begins by adding little (Goyal et al. 2017), or a deep net's answer would begin enormous."""
    if isinstance(block, ResidualBlock):
        weight = next(block.body[-1].parameters())
        weight.data.mul_(0.1)
