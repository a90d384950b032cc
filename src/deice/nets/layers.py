"""The layers that depend on the number of axes, by their number of axes."""

from torch import nn
from torch.nn.init import kaiming_normal_, normal_, zeros_


def convolution(axes: int, channels_in: int, channels_out: int, size: int = 3) -> nn.Module:
    """A convolution of `size` along each of two or three axes, zero-padded to keep the shape."""
    layer = {2: nn.Conv2d, 3: nn.Conv3d}[axes]
    return layer(channels_in, channels_out, size, padding=size // 2)


def start_for_relu(network: nn.Module) -> None:
    """Weights as ReLU networks should start (He et al. 2015), biases at zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                zeros_(layer.bias)


def max_pool(axes: int) -> nn.Module:
    """The maximum of each 2×2 (×2) block."""
    return {2: nn.MaxPool2d, 3: nn.MaxPool3d}[axes](2)


def start_near_zero(last: nn.Module) -> None:
    """Begin with almost nothing, which after normalisation is the mean, the answer that knows nothing.

    At a signal/noise of 0.01 a random start's own noise would take most of a short run to unlearn.
    """
    for layer in last.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            normal_(layer.weight, std=0.1 * layer.in_channels**-0.5)
            if layer.bias is not None:
                zeros_(layer.bias)
