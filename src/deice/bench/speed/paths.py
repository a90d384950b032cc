"""The ways to run one operation: default PyTorch, its faster settings, and ours through the public road.

An operation is the inference of a net, or one step of its training (answer, mean square error, gradients, AdamW). Every
path is given the same fp32 pictures and gives fp32 answers.
"""

import os
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from deice.bench.speed.plain import plain_module
from deice.devices import autocast, choose_precision, memory_format, place, put
from deice.learner import Learner
from deice.nets import Net
from deice.recipe import Recipe, completed
from deice.schemes import Supervised
from deice.settings import Data, Training

Weights = dict[str, Tensor]
CACHE_HOME = "XDG_CACHE_HOME"  # where our own kernels are kept
OURS, OURS_AS_TRAINED = "ours", "ours, as deice train runs it"
DEFAULT, CHANNELS_LAST = "PyTorch as it is", "bf16, channels last"
COMPILED, AUTOTUNED = "bf16, channels last, torch.compile", "bf16, channels last, max-autotune"


@dataclass(frozen=True)
class Operation:
    """`net` on pictures (b, *space); `checked`: the odd, smaller shape on which it is compared with the reference.

    limits: the largest relative error of bf16 against float64: of the answers, of all gradients, of a single tensor's.
    compiler: which of PyTorch's is compared with.
    """

    net: Net
    shape: tuple[int, ...]
    training: bool
    checked: tuple[int, ...]
    limits: tuple[float, float, float]
    compiler: str

    @property
    def axes(self) -> int:
        """Of the space."""
        return len(self.shape) - 1

    def weights(self, seed: int) -> Weights:
        """Random weights by `seed` that give answers as large as the pictures, as those of trained nets are."""
        torch.manual_seed(seed)
        weights = self.net.build(self.axes).state_dict()
        for name, tensor in weights.items():
            if name.endswith("bias"):
                tensor.normal_(std=0.1)
        if "last.weight" in weights:
            weights["last.weight"] *= 10  # a U-Net begins with almost nothing
        return weights


class Running:
    """One path, ready to run: `answer(picture)` → fp32 (b, 1, *space); `step(picture, target)` learns from it.

    `module`: whose gradients a step leaves.
    """

    def __init__(self, module: nn.Module, answer: Callable[[Tensor], Tensor],
                 step: Callable[[Tensor, Tensor], object]):
        self.module, self.answer, self.step = module, answer, step


def ours(operation: Operation, weights: Weights, device: torch.device, as_trained: bool = False) -> Running:
    """Inference as `deice denoise` runs a tile, a step as `deice train` takes it.

    as_trained: with cut gradients and the running mean of the weights, which no baseline here has.
    """
    precision = choose_precision("auto", device)
    learner = Learner(recipe_of(operation, as_trained), operation.axes, device, None, None)
    learner.module.load_state_dict(weights)
    generator = torch.Generator(device)

    @torch.no_grad()
    def answer(picture: Tensor) -> Tensor:
        with autocast(device, precision):
            return learner.module.eval()(put(picture)).float()

    def step(picture: Tensor, target: Tensor) -> object:
        return learner.learn(torch.cat([picture, target], dim=1), 0.5, precision, generator)

    return Running(learner.module, answer, step)


def recipe_of(operation: Operation, as_trained: bool) -> Recipe:
    """The recipe of a step; `as_trained`: with all that a training does usually."""
    usual = Training(batch=operation.shape[0], minutes=2.0)
    bare = usual if as_trained else replace(usual, clip=0.0, average=0.0)
    return completed(Recipe(Data(window=operation.shape[1:]), Supervised(directed=True), operation.net, bare),
                     operation.axes)


def default_pytorch(operation: Operation, weights: Weights, device: torch.device) -> Running:
    """fp32 with convolutions in TF32, as PyTorch does by itself on a GPU."""
    module = plain_module(operation.net, operation.axes, weights).to(device)
    return _plain(module, module, operation, torch.float32, device)


def channels_last(operation: Operation, weights: Weights, device: torch.device) -> Running:
    """bf16 in channels last: autocast in training, bf16 weights in inference."""
    module = place(plain_module(operation.net, operation.axes, weights), operation.axes, device)
    if not operation.training:
        module = module.bfloat16()
    return _plain(module, module, operation, torch.bfloat16, device)


def compiled(operation: Operation, weights: Weights, device: torch.device, mode: str | None = None) -> Running:
    """The same through torch.compile."""
    from torch._inductor import config

    config.autotune_num_choices_displayed = 0  # it would fill the screen
    running = channels_last(operation, weights, device)
    called = torch.compile(running.module, mode=mode, dynamic=False)
    return _plain(running.module, called, operation, torch.bfloat16, device)


def max_autotune(operation: Operation, weights: Weights, device: torch.device) -> Running:
    """The same through torch.compile at its most thorough, CUDA graphs included."""
    return compiled(operation, weights, device, "max-autotune")


BASELINES: dict[str, Callable[[Operation, Weights, torch.device], Running]] = {
    DEFAULT: default_pytorch, CHANNELS_LAST: channels_last, COMPILED: compiled, AUTOTUNED: max_autotune}


def _plain(
    module: nn.Module, called: Callable, operation: Operation, precision: torch.dtype, device: torch.device
) -> Running:
    layout = torch.contiguous_format if precision == torch.float32 else memory_format(operation.axes)
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-3)

    @torch.no_grad()
    def answer(picture: Tensor) -> Tensor:
        own = torch.float32 if operation.training else precision  # of the weights
        with autocast(device, precision if operation.training else torch.float32):
            return called(picture.to(own).contiguous(memory_format=layout)).float()

    def step(picture: Tensor, target: Tensor) -> object:
        optimiser.zero_grad(set_to_none=True)
        with autocast(device, precision):
            answered = called(picture.contiguous(memory_format=layout))
        loss = mse_loss(answered.float(), target)
        loss.backward()
        optimiser.step()
        return loss.detach()

    return Running(module, answer, step)


@contextmanager
def as_run(name: str) -> Generator[None]:
    """The settings under which the path `name` runs: PyTorch's faster ones may try cuDNN's algorithms first.

    Nothing compiled is taken from an earlier run, of PyTorch or of ours, so that start-up is what it is.
    """
    kept = os.environ.get(CACHE_HOME), torch.backends.cudnn.benchmark, torch.compiler.config.force_disable_caches
    torch.compiler.reset()
    torch.backends.cudnn.benchmark = name in (CHANNELS_LAST, COMPILED, AUTOTUNED)
    torch.compiler.config.force_disable_caches = True
    try:
        with warnings.catch_warnings(), TemporaryDirectory(prefix="deice-speed-") as empty:
            warnings.simplefilter("ignore")  # what the compiler says of its own choices
            os.environ[CACHE_HOME] = empty
            yield
    finally:
        os.environ.pop(CACHE_HOME)
        if kept[0] is not None:
            os.environ[CACHE_HOME] = kept[0]
        _, torch.backends.cudnn.benchmark, torch.compiler.config.force_disable_caches = kept
