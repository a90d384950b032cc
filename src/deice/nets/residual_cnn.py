"""The deep residual CNN of the source documents: 3×3 convolutions with ReLU; output = input - predicted noise."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from deice.errors import RecipeFault
from deice.kernels.convolution_stack import can_fuse, fused_stack
from deice.nets.layers import NORMS, batch_norm, convolution, expect_one_of, start_for_relu, start_near_zero


@dataclass(frozen=True)
class ResidualCNN:
    """`depth` layers of `width` channels; 12 × 32 has 93,089 parameters on two axes (Zhang et al. 2017, DnCNN).

    `norm`: none, or batch between convolution and ReLU in all layers but the first and the last. `residual`: the
    layers predict the noise, which is subtracted from the input; else they predict the picture.
    """

    depth: int = 12
    width: int = 32
    norm: str = "none"
    residual: bool = True

    def __post_init__(self):
        if self.depth < 2 or self.width < 1:
            raise RecipeFault(f"residual_cnn has depth {self.depth} and width {self.width}; "
                              "expected 2 layers or more of 1 channel or more")
        expect_one_of("residual_cnn", "norm", self.norm, NORMS)

    @property
    def stride(self) -> int:
        """No pooling: tiles may start anywhere."""
        return 1

    @property
    def halo(self) -> int:
        """Each 3×3 layer sees one pixel further."""
        return self.depth

    @property
    def floats_per_pixel(self) -> int:
        """A layer's input and output, and the picture itself."""
        return 2 * self.width + 2

    def build(self, axes: int) -> nn.Module:
        """The module for two or three axes."""
        return ResidualCNNModule(self, axes)


class ResidualCNNModule(nn.Module):
    """(b, 1, *space) → (b, 1, *space)."""

    def __init__(self, settings: ResidualCNN, axes: int):
        super().__init__()
        self.residual = settings.residual
        self.uniform = axes == 2 and settings.norm == "none"  # convolutions and ReLU alone, on pictures
        widths = [1, *[settings.width] * (settings.depth - 1), 1]
        layers: list[nn.Module] = []
        for number, (channels_in, channels_out) in enumerate(pairwise(widths)):
            normed = settings.norm == "batch" and 0 < number < settings.depth - 1
            layers.append(convolution(axes, channels_in, channels_out, bias=not normed))
            layers += [batch_norm(axes, channels_out)] if normed else []
            layers.append(nn.ReLU(inplace=True))
        self.noise = nn.Sequential(*layers[:-1])  # the last layer has no activation
        start_for_relu(self.noise)
        if not self.residual:
            start_near_zero(self.noise[-1])

    def forward(self, picture: Tensor) -> Tensor:
        """Subtract the predicted noise, or predict the picture."""
        if self._fused(picture):
            return fused_stack(picture, [c.weight for c in self.convolutions], [c.bias for c in self.convolutions],
                               self.residual)
        return picture - self.noise(picture) if self.residual else self.noise(picture)

    @property
    def convolutions(self) -> list[Any]:
        """The layers that have weights, where no batch norm stands between them."""
        return list(self.noise)[::2]

    def _fused(self, picture: Tensor) -> bool:
        """Whether the layers run as one stack: not where someone listens to them or traces them for export."""
        followed = torch.compiler.is_compiling() or torch.jit.is_tracing() or any(c._forward_hooks for c in self.noise)
        return self.uniform and not followed and can_fuse(picture, self.convolutions[0].out_channels)
