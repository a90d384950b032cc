"""The learner: a network with its optimiser, running mean and best weights; one step at a time."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from deice.checkpoint import Model, load_model
from deice.devices import autocast, place, put
from deice.errors import RecipeFault
from deice.losses import Judged, mean_of
from deice.ops.tiles import through_tiles
from deice.ranks import ALONE, Ranks
from deice.recipe import Recipe
from deice.schedules import SCHEDULES, momentum
from deice.schemes import Scheme, Task

OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class Learner:
    """What changes while a run goes on; `state` and `load` carry all of it over a kill."""

    def __init__(self, recipe: Recipe, axes: int, device: torch.device, start: Path | str | None,
                 pixel_size: float | None, ranks: Ranks = ALONE):
        torch.manual_seed(recipe.training.seed)
        self.recipe, self.axes, self.pixel_size, self.ranks = recipe, axes, pixel_size, ranks
        self.module = recipe.network.build(axes)
        if start is not None:
            self._begin_from(load_model(start), start)
        self.module = place(self.module, axes, device)
        ranks.copy_of_first(self.module.state_dict().values())
        self.parameters = list(self.module.parameters())
        self.current = self.module.state_dict()  # the module's own memory, whatever it learns
        self.average = {k: v.clone() for k, v in self.current.items()} if recipe.training.average else {}
        self.criterion = recipe.criterion
        self.optimiser = self._optimiser()
        self.optimiser.register_step_post_hook(lambda *_: self._follow())  # not after a step that fp16 had to skip
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.training.precision == "fp16")
        self.step = self.taken = self.since_best = self.best_step = 0
        self.waited = self.halvings = 0  # of a plateau
        self.seconds = self.saved_at = 0.0
        self.best = math.inf
        self.best_weights: dict[str, Tensor] = {}
        self.prepared_epoch = 0
        self.prepared_weights: dict[str, Tensor] = {}  # as they were when that epoch began

    def _begin_from(self, model: Model, path: Path | str) -> None:
        if (model.axes, model.net) != (self.axes, self.recipe.network):
            raise RecipeFault(f"{path}: {model.net} on {model.axes} axes; "
                              f"this run trains {self.recipe.network} on {self.axes}")
        self.module.load_state_dict(model.module.state_dict())

    def _optimiser(self) -> torch.optim.Optimizer:
        settings = self.recipe.training
        if settings.optimiser not in OPTIMISERS:
            raise RecipeFault(f"optimiser is {settings.optimiser!r}; expected one of {', '.join(OPTIMISERS)}")
        decay = settings.weight_decay if settings.optimiser == "adamw" else 0.0
        # one pass over all weights; under fp16's scaler it would be asked for steps that are skipped, too
        fused = settings.precision != "fp16"
        return OPTIMISERS[settings.optimiser](self.parameters, lr=settings.lr, weight_decay=decay, fused=fused)

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return self.optimiser.param_groups[0]["lr"]

    def _set_rate(self, fraction: float) -> None:
        """The learning rate where `fraction` of the run is done, and under one cycle the momentum."""
        settings = self.recipe.training
        warmup = settings.warmup or 0.0
        share = SCHEDULES[settings.schedule](fraction, warmup, settings.final_lr)
        if settings.schedule == "plateau":
            share *= max(0.5**self.halvings, settings.final_lr)
        for group in self.optimiser.param_groups:
            group["lr"] = settings.lr * share
            if settings.schedule == "one_cycle":
                group["betas"] = (momentum(fraction, warmup), group["betas"][1])

    def learn(self, views: Tensor, fraction: float, precision: torch.dtype, generator: torch.Generator) -> Judged:
        """One step on `views` (b, v, *window), this rank's part of the batch; returns its loss without waiting for it.

        The gradients are averaged over the ranks once a step, after all its parts, in one message of the network's
        size: nothing hooks into the backward pass, so a compiled or fused network is trained as it is. Running
        statistics of batch norm are averaged with them.
        """
        self._set_rate(fraction)
        if not self.module.training:
            self.module.train()
        self.optimiser.zero_grad(set_to_none=True)
        task = asked(self.recipe.scheme, views, generator, self.ranks)
        parts = task.parts(self.recipe.training.accumulate)
        found = mean_of([self._add_gradients(part, len(parts), precision) for part in parts])
        self.ranks.average([p.grad for p in self.parameters if p.grad is not None]
                           + [buffer for buffer in self.module.buffers() if buffer.is_floating_point()])
        self.scaler.unscale_(self.optimiser)
        if self.recipe.training.clip:
            nn.utils.clip_grad_norm_(self.parameters, self.recipe.training.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.step += 1
        return found

    def _add_gradients(self, task: Task, parts: int, precision: torch.dtype) -> Judged:
        """Judge the answer to one of `parts` equal parts of a step, and add its gradients to those of the others."""
        with autocast(task.input.device, precision):
            answer = self.module(put(task.input))
        judged = self.recipe.scheme.loss(answer.float(), task, self.criterion)
        self.scaler.scale(judged.total / parts).backward()
        return judged.detached()

    def _follow(self) -> None:
        """Move the running mean of the weights; young means forget faster, or they would remember the start."""
        self.taken += 1
        if not self.average:
            return
        decay = min(self.recipe.training.average, (1 + self.taken) / (10 + self.taken))
        moving = {name: value for name, value in self.current.items() if value.is_floating_point()}
        get_ema_multi_avg_fn(decay)([self.average[name] for name in moving], list(moving.values()), None)
        for name in self.current.keys() - moving.keys():
            self.average[name].copy_(self.current[name])

    def weights(self) -> dict[str, Tensor]:
        """The weights that are judged and kept."""
        return self.average or dict(self.current)

    def judged_module(self) -> nn.Module:
        """A network in evaluation mode with the weights that are judged."""
        return self._module_with(self.average) if self.average else self.module.eval()

    def _module_with(self, weights: dict[str, Tensor]) -> nn.Module:
        module = self.recipe.network.build(self.axes)
        module.load_state_dict(weights)
        return place(module.eval(), self.axes, next(self.module.parameters()).device)

    def net_of_epoch(self, epoch: int, precision: torch.dtype) -> Callable[[Tensor], Tensor] | None:
        """The network as it was when the `epoch` of preparation began, also after a resume; None in the first."""
        if epoch == 0:
            return None
        if self.prepared_epoch != epoch:
            self.prepared_epoch = epoch
            self.prepared_weights = {name: value.detach().clone() for name, value in self.weights().items()}
        module = self._module_with(self.prepared_weights)

        def on_tile(picture: Tensor) -> Tensor:
            with autocast(picture.device, precision):
                return module(put(picture)).float()

        settings = self.recipe.network
        core = max(*self.recipe.data.window, 2 * settings.halo)
        return lambda pictures: through_tiles(on_tile, pictures, core, settings.halo, settings.stride)

    def keep_if_best(self, validation: float) -> bool:
        """Keep a copy of the weights if no earlier validation was as low."""
        self.since_best += 1
        self.waited += 1
        if not validation < self.best:
            if self.waited >= self.recipe.training.plateau:
                self.halvings, self.waited = self.halvings + 1, 0
            return False
        self.best, self.best_step, self.since_best, self.waited = validation, self.step, 0, 0
        self.best_weights = {name: value.detach().clone() for name, value in self.weights().items()}
        return True

    def model(self) -> Model:
        """The best model so far."""
        module = self.recipe.network.build(self.axes)
        module.load_state_dict(self.best_weights)
        facts = {"pixel_size": self.pixel_size, "step": self.best_step, "validation": self.best}
        return Model(module.eval(), self.axes, self.pixel_size, self.recipe, facts)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "module": self.module.state_dict(), "average": self.average, "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(), "best_weights": self.best_weights, "best": self.best,
            "best_step": self.best_step, "since_best": self.since_best, "step": self.step, "seconds": self.seconds,
            "taken": self.taken, "waited": self.waited, "halvings": self.halvings,
            "prepared_epoch": self.prepared_epoch, "prepared_weights": self.prepared_weights,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.average, self.best_weights = state["average"], state["best_weights"]
        for name in ("best", "best_step", "since_best", "step", "seconds", "taken", "waited", "halvings",
                     "prepared_epoch", "prepared_weights"):
            setattr(self, name, state[name])
        self.saved_at = self.seconds


def asked(scheme: Scheme, views: Tensor, generator: torch.Generator, ranks: Ranks = ALONE) -> Task:
    """What `scheme` asks of `views` (b, v, *window), this rank's part of a batch, as it would in the whole batch.

    Every rank draws the random numbers of the whole batch and keeps those of its own windows, so that masks and noise
    do not depend on the number of ranks. The windows of the others only have to be there: their own stand for them.
    """
    if ranks.world == 1:
        return scheme.make(views, generator)
    stand_in = views.repeat_interleave(ranks.world, dim=0)
    return scheme.make(stand_in, generator).share(ranks.rank, ranks.world, len(stand_in))


def generator_for(device: torch.device, seed: int, step: int, rank: int = 0) -> torch.Generator:
    """The random numbers of one step, a function of (seed, step): none is saved. Dropout is seeded too, by rank."""
    mixed = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(mixed + rank)
    return torch.Generator(device).manual_seed(mixed)
