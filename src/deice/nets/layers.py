"""The layers that depend on the number of axes, by their number of axes; how their weights begin."""

from torch import nn
from torch.nn.init import kaiming_normal_, normal_, zeros_

from deice.errors import RecipeFault

NORMS = ("none", "batch")
UP_SAMPLINGS = ("nearest", "linear", "transposed")
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def convolution(axes: int, channels_in: int, channels_out: int, size: int = 3, bias: bool = True) -> nn.Module:
    """A convolution of `size` along each of two or three axes, zero-padded to keep the shape."""
    layer = {2: nn.Conv2d, 3: nn.Conv3d}[axes]
    return layer(channels_in, channels_out, size, padding=size // 2, bias=bias)


def batch_norm(axes: int, channels: int) -> nn.Module:
    """Each channel at the mean and variance of the batch (Ioffe & Szegedy 2015); of all batches when it denoises.

    The only normalisation offered: those that measure the picture in hand (group, layer, instance) would measure each
    tile anew, and a tiled picture would not be the whole one.
    """
    return {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[axes](channels)


def max_pool(axes: int) -> nn.Module:
    """The maximum of each 2×2 (×2) block."""
    return {2: nn.MaxPool2d, 3: nn.MaxPool3d}[axes](2)


def up_sampling(axes: int, how: str, channels_in: int, channels_out: int) -> nn.Module:
    """Twice as many pixels along each axis: nearest and linear keep the channels, transposed learns new ones."""
    if how == "transposed":
        return {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[axes](channels_in, channels_out, 2, stride=2)
    return nn.Upsample(scale_factor=2, mode="nearest" if how == "nearest" else {2: "bilinear", 3: "trilinear"}[axes])


def start_for_relu(network: nn.Module) -> None:
    """Weights as ReLU networks should start (He et al. 2015), biases at zero."""
    for layer in network.modules():
        if isinstance(layer, CONVOLUTIONS):
            kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                zeros_(layer.bias)


def start_near_zero(last: nn.Module) -> None:
    """Begin with almost nothing, which after normalisation is the mean, the answer that knows nothing.

    At a signal/noise of 0.01 a random start's own noise would take most of a short run to unlearn.
    """
    for layer in last.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            normal_(layer.weight, std=0.1 * layer.in_channels**-0.5)
            if layer.bias is not None:
                zeros_(layer.bias)


def expect_one_of(net: str, setting: str, given: str, known: tuple[str, ...]) -> None:
    """RecipeFault where a net's setting is none of those known."""
    if given not in known:
        raise RecipeFault(f"{net} has {setting} {given!r}; expected one of {', '.join(known)}")
