"""Models and training states on disk: one file each, complete or absent.

A model (.safetensors) holds weights and, as text, everything that denoising needs: net, scheme, normaliser, axes,
pixel size, window, recipe, version. A state (.pt) holds what training needs to go on bit for bit.
"""

import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from deice.errors import FileFault
from deice.nets import Net
from deice.recipe import Recipe, from_table, to_table
from deice.schemes import Scheme
from deice.version import __version__

MODEL, STATE = "model.safetensors", "state.pt"


@dataclass(frozen=True)
class Model:
    """A trained denoiser: `module` on `axes` trailing axes, with the recipe that made it."""

    module: nn.Module
    axes: int
    pixel_size: float | None
    recipe: Recipe
    facts: Mapping[str, Any]

    @property
    def net(self) -> Net:
        """The net's configuration: stride, halo, memory."""
        return self.recipe.network

    @property
    def scheme(self) -> Scheme:
        """The scheme that says how the estimate is made."""
        return self.recipe.scheme

    @property
    def draws(self) -> bool:
        """Whether the estimate is random: made in windows such as were learnt from, dropout on."""
        return getattr(self.scheme, "random_estimate", False)

    @property
    def segments(self) -> bool:
        """Whether the estimate is a probability and not a picture in the input's grey values."""
        return getattr(self.scheme, "gives_probability", False)

    @property
    def packaged(self) -> bool:
        """Whether it is one that comes with this package."""
        return bool(self.facts.get("packaged"))

    @property
    def calibrated(self) -> bool:
        """Whether its answers are meant to be calibrated on the very picture: it learnt from simulations alone."""
        return bool(self.facts.get("calibrated"))

    @property
    def halo(self) -> int:
        """How far around a tile's core the network must see: what a random estimate depends on is its window."""
        return 0 if self.draws else self.net.halo


def save_model(path: Path, weights: Mapping[str, Tensor], recipe: Recipe, axes: int, facts: Mapping[str, Any]) -> None:
    """Write the model under a temporary name, then rename it. `facts`: pixel_size, step, validation, …"""
    dense = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in weights.items()}
    with appearing(path) as temporary:
        save_file(dense, temporary, metadata_of(recipe, axes, facts))


def metadata_of(recipe: Recipe, axes: int, facts: Mapping[str, Any]) -> dict[str, str]:
    """What a model's file says of it, as text, in every format."""
    described = {"recipe": json.dumps(to_table(recipe)), "facts": json.dumps(facts)}
    return {"deice": __version__, "axes": str(axes), **described}


def from_metadata(metadata: Mapping[str, str]) -> tuple[Recipe, int, dict[str, Any]]:
    """Recipe, axes and facts from what `metadata_of` wrote."""
    return from_table(json.loads(metadata["recipe"])), int(metadata["axes"]), json.loads(metadata["facts"])


def load_model(path: Path | str, device: torch.device | str = "cpu") -> Model:
    """The model in a .safetensors file, or in the folder of a run."""
    path = Path(path)
    path = path / MODEL if path.is_dir() else path
    if not path.is_file():
        raise FileFault(path, "no such file; expected a run's folder or a .safetensors model")
    if path.suffix == ".onnx":
        raise FileFault(path, "an ONNX model, which only denoises; expected the run's folder or .safetensors model")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise FileFault(path, f"not a readable safetensors file ({error})") from error
    if "deice" not in metadata:
        raise FileFault(path, "safetensors without deice's metadata; expected a model written by deice train")
    recipe, axes, facts = from_metadata(metadata)
    module = recipe.network.build(axes)
    module.load_state_dict(weights)
    return Model(module.eval().to(device), axes, facts.get("pixel_size"), recipe, facts)


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a training state under a temporary name, then rename it."""
    with appearing(path) as temporary:
        torch.save(dict(state), temporary)


def load_state(path: Path, device: torch.device) -> dict[str, Any]:
    """A training state; a file that is none, or a truncated one, is a FileFault."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise FileFault(path, "no such file: nothing to resume; start without --resume") from error
    except Exception as error:
        raise FileFault(path, f"not a training state of deice ({type(error).__name__})") from error


def describe_net(net: Net) -> str:
    """A net in words: its name and its fields."""
    described = to_table(Recipe(net=net))["net"]
    return f"{described.pop('name')}({', '.join(f'{key}={value}' for key, value in described.items())})"


@contextmanager
def appearing(path: Path) -> Generator[Path]:
    """A temporary name to write under; the file then appears as `path`, whole, or after an error not at all."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # safetensors writes for the owner alone
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
