"""The deep residual CNN of the source documents: 3×3 convolutions with ReLU; output = input - predicted noise."""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from deice.errors import RecipeFault
from deice.nets.layers import convolution, start_for_relu


@dataclass(frozen=True)
class ResidualCNN:
    """`depth` layers of `width` channels; 12 × 32 has 93,089 parameters on two axes (Zhang et al. 2017, DnCNN)."""

    depth: int = 12
    width: int = 32

    def __post_init__(self):
        if self.depth < 2 or self.width < 1:
            raise RecipeFault(f"residual_cnn has depth {self.depth} and width {self.width}; "
                              "expected 2 layers or more of 1 channel or more")

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
        widths = [1, *[settings.width] * (settings.depth - 1), 1]
        layers: list[nn.Module] = []
        for channels_in, channels_out in pairwise(widths):
            layers += [convolution(axes, channels_in, channels_out), nn.ReLU(inplace=True)]
        self.noise = nn.Sequential(*layers[:-1])  # the last layer has no activation
        start_for_relu(self.noise)

    def forward(self, picture: Tensor) -> Tensor:
        """Subtract the predicted noise."""
        return picture - self.noise(picture)
