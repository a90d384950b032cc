"""Headerless weight dumps: two float32 files a layer, as CUDA Fortran programs write them, to nets and back.

The names are those of the source documents' programs: conv01_weights.bin, conv01_bias.bin, … for the residual CNN
(conv1_… in the older ones), enc1_conv1_… to dec1_conv2_…, bottleneck1_…, bottleneck2_… and final_… for the U-Net.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deice.checkpoint import Model, describe_net, from_metadata, metadata_of
from deice.errors import FileFault, RecipeFault, UserError
from deice.nets import Net, ResidualCNN, UNet
from deice.recipe import Recipe

ORDERS = ("c", "fortran")
DESCRIPTION = "deice.json"
WEIGHTS, BIAS = "_weights.bin", "_bias.bin"
LARGEST = 1e4  # no weight of a trained net comes near it; numbers read with the wrong bytes exceed it at once
RECORD_MARKERS = 8  # bytes that Fortran adds to a file that is not opened with access='stream'


@dataclass(frozen=True)
class Layout:
    """How the numbers of a weight (out, in, *kernel), kernel = (y, x) or (z, y, x), lie in its file.

    `order`: c, the last index fastest, which is also what a Fortran array (x, y, in, out) is, and any array that
    was handed to cuDNN as it is; fortran, the first index fastest: a Fortran array (out, in, y, x).
    `mirrored`: kernels turned by 180°, as cuDNN's convolution mode (0) has them; PyTorch and its cross-correlation
    mode (1) do not.
    """

    order: str
    mirrored: bool = False

    def __post_init__(self):
        if self.order not in ORDERS:
            raise RecipeFault(f"order is {self.order!r}; expected {' or '.join(ORDERS)}")

    def pack(self, weight: Tensor) -> np.ndarray:
        """(out, in, *kernel) → the numbers of its file, little-endian float32."""
        return self._turned(weight.detach().cpu().numpy()).ravel(order=self._numpy).astype("<f4")

    def unpack(self, numbers: np.ndarray, shape: Sequence[int]) -> Tensor:
        """The numbers of a file → (out, in, *kernel)."""
        return torch.from_numpy(self._turned(numbers.reshape(shape, order=self._numpy)).astype(np.float32, order="C"))

    @property
    def _numpy(self) -> Any:
        return {"c": "C", "fortran": "F"}[self.order]

    def _turned(self, weight: np.ndarray) -> np.ndarray:
        return np.flip(weight, axis=tuple(range(2, weight.ndim))) if self.mirrored else weight


def holds_dumps(folder: Path) -> bool:
    """Whether `folder` holds weight dumps."""
    return folder.is_dir() and any(folder.glob(f"*{WEIGHTS}"))


def described(folder: Path) -> tuple[Recipe, int, dict[str, Any], Layout] | None:
    """What deice wrote beside dumps of its own: recipe, axes, facts, layout; None beside those of other programs."""
    path = folder / DESCRIPTION
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text())
        return (*from_metadata(said), Layout(said["order"], said["mirrored"]))
    except (ValueError, KeyError, TypeError) as error:
        raise FileFault(path, f"not a description of weight dumps ({error!r}); expected what deice export wrote, "
                        "or no such file") from error


def read_dumps(folder: Path, recipe: Recipe, axes: int, layout: Layout, facts: dict[str, Any]) -> Model:
    """The net of a completed recipe with the weights of `folder`.

    Raises FileFault for a file that is missing, too many, of the wrong size or not finite.
    """
    module = recipe.network.build(axes)
    layers = _layers(recipe.network, module.state_dict(), axes)
    if (folder / f"conv1{WEIGHTS}").exists():
        layers = {name.replace("conv0", "conv") if name.startswith("conv0") else name: key
                  for name, key in layers.items()}
    unknown = {path.name for path in folder.glob(f"*{WEIGHTS}")} - {name + WEIGHTS for name in layers}
    if unknown:
        raise FileFault(folder, f"holds {', '.join(sorted(unknown))}; expected {_listed(layers)} of "
                        f"{describe_net(recipe.network)}: give the net that was trained, --net NAME:depth=…")
    weights: dict[str, Tensor] = {}
    for name, key in layers.items():
        for suffix, kind in ((WEIGHTS, "weight"), (BIAS, "bias")):
            shape = tuple(module.state_dict()[f"{key}.{kind}"].shape)
            weights[f"{key}.{kind}"] = layout.unpack(_numbers(folder / (name + suffix), shape), shape)
    module.load_state_dict(weights)
    return Model(module.eval(), axes, facts.get("pixel_size"), recipe, facts)


def write_dumps(folder: Path, model: Model, layout: Layout) -> list[str]:
    """Write the net's weights into a new or empty folder, which appears whole; the files' names.

    Raises RecipeFault for a net with more than plain convolutions, UserError where `folder` holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is not an empty folder; choose another -o")
    state = model.module.state_dict()
    layers = _layers(model.net, state, model.axes)
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for name, key in layers.items():
            layout.pack(state[f"{key}.weight"]).tofile(temporary / (name + WEIGHTS))
            layout.pack(state[f"{key}.bias"]).tofile(temporary / (name + BIAS))
        said = metadata_of(model.recipe, model.axes, model.facts)
        text = json.dumps({**said, "order": layout.order, "mirrored": layout.mirrored}, indent=2)
        (temporary / DESCRIPTION).write_text(text + "\n")
        temporary.rename(folder)
    except OSError as error:
        raise FileFault(folder, f"cannot be written ({error.strerror}); expected a place one may write to") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [name + suffix for name in layers for suffix in (WEIGHTS, BIAS)]


def _names(net: Net) -> list[str]:
    """The names of a net's convolutions, from the input to the output."""
    if isinstance(net, ResidualCNN):
        return [f"conv{number:02d}" for number in range(1, net.depth + 1)]
    if isinstance(net, UNet):
        down = [f"enc{level}_conv{part}" for level in range(1, net.depth + 1) for part in (1, 2)]
        up = [f"dec{level}_conv{part}" for level in range(net.depth, 0, -1) for part in (1, 2)]
        return [*down, "bottleneck1", "bottleneck2", *up, "final"]
    raise RecipeFault(f"{describe_net(net)} has no names for weight dumps; expected residual_cnn or unet")


def _layers(net: Net, state: dict[str, Tensor], axes: int) -> dict[str, str]:
    """The name of each layer's files → where its weights stand in the module; only for plain convolutions."""
    names = _names(net)
    keys = [key.removesuffix(".weight") for key, value in state.items() if value.ndim == axes + 2]
    plain = {f"{key}.{kind}" for key in keys for kind in ("weight", "bias")}
    if plain != set(state) or len(keys) != len(names):
        raise RecipeFault(f"{describe_net(net)} has more than {len(names)} plain convolutions with a bias each, which "
                          "is all that weight dumps hold; keep it as .safetensors or .onnx")
    return dict(zip(names, keys))


def _numbers(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The finite float32 numbers of a file that must hold as many as `shape`."""
    axes = "×".join(str(size) for size in shape)
    expected = f"{4 * prod(shape)} bytes ({axes} float32, {'out × in × kernel' if len(shape) > 1 else 'one a channel'})"
    if not path.is_file():
        raise FileFault(path, f"no such file; expected {expected}")
    size = path.stat().st_size
    if size != 4 * prod(shape):
        marked = size == 4 * prod(shape) + RECORD_MARKERS
        advice = "these are record markers: write with access='stream'" if marked else "check --net and its settings"
        raise FileFault(path, f"{size} bytes; expected {expected}; {advice}")
    numbers = np.fromfile(path, "<f4")
    wrong = ~np.isfinite(numbers) | (np.abs(numbers) > LARGEST)
    if wrong.any():
        raise FileFault(path, f"{int(wrong.sum())} of {wrong.size} numbers are not finite or beyond {LARGEST:g}, such "
                        f"as {numbers[wrong][0]:g}; expected little-endian float32 weights")
    return numbers


def _listed(layers: dict[str, str]) -> str:
    names = list(layers)
    return f"{len(names)} layers, {names[0]} to {names[-1]},"
