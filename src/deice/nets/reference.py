"""Each net once more, in a few lines of torch.nn.functional, to check the fast ones by: `deice verify`.

Written from the published descriptions (residual CNN: Zhang et al. 2017; U-Net: Ronneberger et al. 2015; batch norm:
Ioffe & Szegedy 2015; residual blocks: He et al. 2016), it shares nothing with the nets of this package but the names
of the weights and of the layers. It computes in whatever type, memory format and place its arguments have.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

EPSILON, MOMENTUM = 1e-5, 0.1  # of batch norm, as published implementations have them


@dataclass
class Pass:
    """One walk through a net.

    `weights`: by the names of a state dict; in training, the running statistics among them move. `seen` takes each
    layer's output. `choices`: decisions to follow, by layer: what dropout keeps (enlarged), which values ReLU lets
    through, where a maximum was. Rounding decides those for values at a kink, and one decided otherwise changes
    gradients visibly; `strayed` is how far from its kink a value was for which the reference would choose otherwise,
    relative to the largest value of its layer.
    """

    weights: Mapping[str, Tensor]
    training: bool = False
    choices: Mapping[str, Tensor] = field(default_factory=dict)
    seen: dict[str, Tensor] = field(default_factory=dict)
    strayed: float = 0.0

    def convolve(self, features: Tensor, name: str) -> Tensor:
        """Zeros around the picture, then every output the weighted sum of what lies around it."""
        weight = self.weights[f"{name}.weight"]
        convolution = {4: functional.conv2d, 5: functional.conv3d}[weight.ndim]
        width = weight.shape[-1] // 2
        padded = functional.pad(features, [width] * 2 * (weight.ndim - 2))
        self.seen[name] = convolution(padded, weight, self.weights.get(f"{name}.bias"))
        return self.seen[name]

    def normalise(self, features: Tensor, name: str) -> Tensor:
        """Each channel by the mean and variance of the batch, when denoising by those of all batches before."""
        others = [axis for axis in range(features.ndim) if axis != 1]
        mean, variance = self.weights[f"{name}.running_mean"], self.weights[f"{name}.running_var"]
        if self.training:
            count = features.numel() // features.shape[1]
            now = features.mean(others), features.var(others, correction=0)
            with torch.no_grad():
                mean.lerp_(now[0].detach(), MOMENTUM)
                variance.lerp_(now[1].detach() * count / (count - 1), MOMENTUM)
            mean, variance = now
        scale, shift = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        channel = [-1 if axis == 1 else 1 for axis in range(features.ndim)]
        normal = (features - mean.reshape(channel)) / (variance.reshape(channel) + EPSILON).sqrt()
        self.seen[name] = normal * scale.reshape(channel) + shift.reshape(channel)
        return self.seen[name]

    def drop(self, features: Tensor, name: str) -> Tensor:
        """Some values to zero, the others enlarged."""
        return features * self.choices[name] if name in self.choices else features

    def rectify(self, features: Tensor, name: str) -> Tensor:
        """What is above zero."""
        if name not in self.choices:
            return functional.relu(features)
        answer = features * self.choices[name]
        self._stray(functional.relu(features), answer)
        return answer

    def pool(self, features: Tensor, name: str) -> Tensor:
        """The maximum of each 2×2 (×2) block."""
        pooled = {4: functional.max_pool2d, 5: functional.max_pool3d}[features.ndim](features, 2)
        if name not in self.choices:
            return pooled
        answer = features.flatten(2).gather(2, self.choices[name].flatten(2)).reshape(pooled.shape)
        self._stray(pooled, answer)
        return answer

    def _stray(self, own: Tensor, followed: Tensor) -> None:
        largest = own.detach().abs().max().clamp_min(1e-30)
        self.strayed = max(self.strayed, float((own - followed).detach().abs().max() / largest))


def reference(name: str, settings: Mapping[str, Any]) -> Callable[[Tensor, Pass], Tensor]:
    """The net called `name` with `settings`: (picture (b, 1, *space), one pass) → (b, 1, *space)."""
    return lambda picture, walk: _REFERENCES[name](picture, walk, settings)


def _residual_cnn(picture: Tensor, walk: Pass, settings: Mapping[str, Any]) -> Tensor:
    """Convolution, ReLU, then (convolution, norm, ReLU) again and again, then a convolution: the noise."""
    features, place, last = picture, 0, settings["depth"] - 1
    for layer in range(settings["depth"]):
        features, place = walk.convolve(features, f"noise.{place}"), place + 1
        if settings["norm"] == "batch" and 0 < layer < last:
            features, place = walk.normalise(features, f"noise.{place}"), place + 1
        if layer < last:
            features, place = walk.rectify(features, f"noise.{place}"), place + 1
    return picture - features if settings["residual"] else features


def _unet(picture: Tensor, walk: Pass, settings: Mapping[str, Any]) -> Tensor:
    """Down: a block, then the maximum of 2×2 (×2) pixels. Up: enlarged, beside what the level had, a block."""
    depth = settings["depth"]
    levels = [_block(picture, walk, "down.0", settings)]
    for level in range(1, depth + 1):
        levels.append(_block(walk.pool(levels[-1], f"pool.{level - 1}"), walk, f"down.{level}", settings))
    features = levels.pop()
    for step in range(depth):
        enlarged = _enlarge(features, walk, f"enlarge.{step}", settings["upsampling"])
        features = _block(torch.cat([enlarged, levels.pop()], 1), walk, f"up.{step}", settings)
    answer = walk.convolve(walk.drop(features, "drop"), "last")
    return answer + picture if settings["residual"] else answer


def _block(features: Tensor, walk: Pass, name: str, settings: Mapping[str, Any]) -> Tensor:
    """Two convolutions, each after dropout where there is some, with norm and ReLU; the sum comes before the last."""
    residual = settings["blocks"] == "residual"
    inside = f"{name}.body" if residual else name
    answer = features
    for number in ("0", "2"):
        answer = walk.convolve(walk.drop(answer, f"{inside}.drop{number}"), f"{inside}.{number}")
        if settings["norm"] == "batch":
            answer = walk.normalise(answer, f"{inside}.norm{number}")
        if number == "0":
            answer = walk.rectify(answer, f"{inside}.relu0")
    if not residual:
        return walk.rectify(answer, f"{name}.relu2")
    same = features.shape[1] == answer.shape[1]
    return walk.rectify(answer + (features if same else walk.convolve(features, f"{name}.shortcut")), f"{name}.relu")


def _enlarge(features: Tensor, walk: Pass, name: str, how: str) -> Tensor:
    """Twice as many pixels along each axis."""
    if how == "transposed":
        weight, bias = walk.weights[f"{name}.weight"], walk.weights[f"{name}.bias"]
        raise_by = {4: functional.conv_transpose2d, 5: functional.conv_transpose3d}[features.ndim]
        walk.seen[name] = raise_by(features, weight, bias, stride=2)
        return walk.seen[name]
    for axis in range(2, features.ndim):
        features = (_repeat if how == "nearest" else _interpolate)(features, axis)
    return features


def _repeat(features: Tensor, axis: int) -> Tensor:
    """Every pixel twice."""
    return features.repeat_interleave(2, axis)


def _interpolate(features: Tensor, axis: int) -> Tensor:
    """New pixels a quarter of the old distance beside each old one: 3/4 of it and 1/4 of its neighbour."""
    size = features.shape[axis]
    before = torch.cat([features.narrow(axis, 0, 1), features.narrow(axis, 0, size - 1)], axis)
    after = torch.cat([features.narrow(axis, 1, size - 1), features.narrow(axis, size - 1, 1)], axis)
    pairs = torch.stack([0.75 * features + 0.25 * before, 0.75 * features + 0.25 * after], axis + 1)
    return pairs.flatten(axis, axis + 1)


_REFERENCES = {"residual_cnn": _residual_cnn, "unet": _unet}
