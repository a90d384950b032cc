"""Listening to a network: each layer's output, and the choices that rounding may decide."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional


@dataclass
class Heard:
    """What a module did: each layer's output, and its choices where rounding may decide (see `Pass`)."""

    outputs: dict[str, Tensor] = field(default_factory=dict)
    choices: dict[str, Tensor] = field(default_factory=dict)
    pools: int = 0

    def hear(self, name: str, layer: nn.Module, given: Tensor, output: Tensor) -> None:
        """Take down what `layer` made of `given`."""
        if isinstance(layer, nn.ReLU):
            self.choices[name] = output > 0
        elif isinstance(layer, nn.Dropout) and layer.training and layer.p:
            self.choices[name] = (output != 0) / (1 - layer.p)  # a zero that was kept may count as dropped: it is 0
        elif isinstance(layer, nn.MaxPool2d | nn.MaxPool3d):
            pool = functional.max_pool2d if given.ndim == 4 else functional.max_pool3d
            self.choices[f"{name}.{self.pools}"] = pool(given, 2, return_indices=True)[1]
            self.pools += 1
        elif hasattr(layer, "weight"):
            self.outputs[name] = output.detach().clone()  # what follows may write over it


@contextmanager
def listening(module: nn.Module) -> Generator[Heard]:
    """What the layers of `module` do within the block."""
    heard = Heard()

    def hook(name: str) -> Callable:
        return lambda layer, given, output: heard.hear(name, layer, given[0].detach(), output.detach())

    handles = [layer.register_forward_hook(hook(name)) for name, layer in module.named_modules()]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()
