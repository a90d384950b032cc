"""The nets as anyone would write them in PyTorch: the baselines. Weights by the same names as ours, no code of ours."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from deice.nets import Net, ResidualCNN, UNet

CONVOLUTION, POOL = {2: nn.Conv2d, 3: nn.Conv3d}, {2: nn.MaxPool2d, 3: nn.MaxPool3d}


class PlainCNN(nn.Module):
    """(b, 1, *space) minus what a stack of 3×3 convolutions and ReLU makes of it."""

    def __init__(self, net: ResidualCNN, axes: int):
        super().__init__()
        layers: list[nn.Module] = [CONVOLUTION[axes](1, net.width, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(net.depth - 2):
            layers += [CONVOLUTION[axes](net.width, net.width, 3, padding=1), nn.ReLU(inplace=True)]
        self.noise = nn.Sequential(*layers, CONVOLUTION[axes](net.width, 1, 3, padding=1))

    def forward(self, picture: Tensor) -> Tensor:
        return picture - self.noise(picture)


class PlainUNet(nn.Module):
    """Pooling, nearest up-sampling, skips concatenated; two convolutions with ReLU at each level."""

    def __init__(self, net: UNet, axes: int):
        super().__init__()
        widths = net.widths
        lower, upper = widths[:0:-1], widths[-2::-1]
        self.pool, self.enlarge = POOL[axes](2), nn.Upsample(scale_factor=2, mode="nearest")
        self.down = nn.ModuleList(_block(axes, a, b) for a, b in zip([1, *widths[:-1]], widths))
        self.up = nn.ModuleList(_block(axes, a + b, b) for a, b in zip(lower, upper))
        self.last = CONVOLUTION[axes](widths[0], 1, 1)

    def forward(self, picture: Tensor) -> Tensor:
        skips, features = [], picture
        for level, block in enumerate(self.down):
            features = block(features if level == 0 else self.pool(features))
            skips.append(features)
        skips.pop()
        for block in self.up:
            features = block(torch.cat([self.enlarge(features), skips.pop()], dim=1))
        return self.last(features)


def _block(axes: int, channels_in: int, channels_out: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, a in (("0", channels_in), ("2", channels_out)):
        layers[name] = CONVOLUTION[axes](a, channels_out, 3, padding=1)
        layers[f"relu{name}"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


def plain_module(net: Net, axes: int, weights: dict[str, Tensor]) -> nn.Module:
    """The plain module of `net`, as it is by default but for its size, with `weights` ({}: as PyTorch draws them)."""
    module = PlainCNN(net, axes) if isinstance(net, ResidualCNN) else PlainUNet(net, axes)  # ty: ignore
    if weights:
        module.load_state_dict(weights)
    return module
