"""The U-Net (Ronneberger et al. 2015) of the source documents: 1→32→64→128, bottleneck 256, and back."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from deice.errors import RecipeFault
from deice.nets.layers import convolution, max_pool, start_for_relu, start_near_zero


@dataclass(frozen=True)
class UNet:
    """`depth` poolings, `size` channels at full resolution, doubled at each level up to `widest`.

    32 channels and three poolings have 1,946,305 parameters on two axes. Nearest-neighbour up-sampling, two 3×3
    convolutions with ReLU a level, skips concatenated; `residual` adds the input to the answer.
    """

    size: int = 32
    depth: int = 3
    widest: int = 256
    residual: bool = False

    def __post_init__(self):
        if min(self.size, self.depth, self.widest) < 1:
            found = f"size {self.size}, depth {self.depth}, widest {self.widest}"
            raise RecipeFault(f"unet has {found}; expected 1 or more of each")

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
        """Four convolutions a level, two at the bottleneck, each as wide as its grid, and the pooling blocks."""
        return sum(4 * 2**level for level in range(self.depth)) + 2 * 2**self.depth + 2**self.depth - 1

    @property
    def floats_per_pixel(self) -> int:
        """At full resolution on the way up: the skip, the concatenation, a layer's output, the level below."""
        return 4 * self.size + self.widths[min(1, self.depth)] * 2

    def build(self, axes: int) -> nn.Module:
        """The module for two or three axes."""
        return UNetModule(self, axes)


class UNetModule(nn.Module):
    """(b, 1, *space) → (b, 1, *space); every axis a multiple of the net's stride."""

    def __init__(self, settings: UNet, axes: int):
        super().__init__()
        widths = settings.widths
        self.residual = settings.residual
        self.pool = max_pool(axes)
        self.down = nn.ModuleList(_block(axes, a, b) for a, b in zip([1, *widths[:-1]], widths))
        self.up = nn.ModuleList(_block(axes, a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1]))
        start_for_relu(self)
        self.last = convolution(axes, widths[0], 1, size=1)
        start_near_zero(self.last)

    def forward(self, picture: Tensor) -> Tensor:
        """Down with skips, up with concatenation."""
        skips, features = [], picture
        for level, block in enumerate(self.down):
            features = block(features if level == 0 else self.pool(features))
            skips.append(features)
        skips.pop()
        for block in self.up:
            skip = skips.pop()
            features = block(torch.cat([interpolate(features, size=skip.shape[2:], mode="nearest"), skip], dim=1))
        answer = self.last(features)
        return answer + picture if self.residual else answer


def _block(axes: int, channels_in: int, channels_out: int) -> nn.Sequential:
    """Two convolutions, each with ReLU."""
    return nn.Sequential(
        convolution(axes, channels_in, channels_out), nn.ReLU(inplace=True),
        convolution(axes, channels_out, channels_out), nn.ReLU(inplace=True),
    )
