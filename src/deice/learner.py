"""The learner: a network with its optimiser, running mean and best weights; one step at a time."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deice.checkpoint import Model, load_model
from deice.devices import autocast, place, put
from deice.errors import RecipeFault
from deice.losses import Judged
from deice.recipe import Recipe

OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class Learner:
    """What changes while a run goes on; `state` and `load` carry all of it over a kill."""

    def __init__(self, recipe: Recipe, axes: int, device: torch.device, start: Path | str | None,
                 pixel_size: float | None):
        torch.manual_seed(recipe.training.seed)
        self.recipe, self.axes, self.pixel_size = recipe, axes, pixel_size
        self.module = recipe.network.build(axes)
        if start is not None:
            self._begin_from(load_model(start), start)
        self.module = place(self.module, axes, device)
        self.average = {k: v.clone() for k, v in self.module.state_dict().items()} if recipe.training.average else {}
        self.criterion = recipe.criterion
        self.optimiser = self._optimiser()
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.training.precision == "fp16")
        self.step = self.since_best = self.best_step = 0
        self.seconds = self.saved_at = 0.0
        self.best = math.inf
        self.best_weights: dict[str, Tensor] = {}

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
        return OPTIMISERS[settings.optimiser](self.module.parameters(), lr=settings.lr, weight_decay=decay)

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return self.optimiser.param_groups[0]["lr"]

    def rate(self, fraction: float) -> float:
        """Linear warm-up, then a cosine from the peak to its `final_lr` share, over the run's `fraction` in [0, 1]."""
        settings = self.recipe.training
        if fraction < settings.warmup:
            return settings.lr * max(fraction / settings.warmup, 0.01)
        fallen = (fraction - settings.warmup) / max(1 - settings.warmup, 1e-9)
        share = settings.final_lr + (1 - settings.final_lr) * (1 + math.cos(math.pi * min(1.0, fallen))) / 2
        return settings.lr * share

    def learn(self, views: Tensor, fraction: float, precision: torch.dtype, generator: torch.Generator) -> Judged:
        """One step on `views` (b, v, *window); returns the loss without waiting for it."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate(fraction)
        self.module.train()
        task = self.recipe.scheme.make(views, generator)
        with autocast(views.device, precision):
            answer = self.module(put(task.input))
        loss = self.recipe.scheme.loss(answer.float(), task, self.criterion)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss.total).backward()
        self.scaler.unscale_(self.optimiser)
        if self.recipe.training.clip:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.training.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.step += 1
        self._follow()
        return loss.detached()

    def _follow(self) -> None:
        """Move the running mean of the weights; young means forget faster, or they would remember the start."""
        if not self.average:
            return
        decay = min(self.recipe.training.average, (1 + self.step) / (10 + self.step))
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def weights(self) -> dict[str, Tensor]:
        """The weights that are judged and kept."""
        return self.average or dict(self.module.state_dict())

    def judged_module(self) -> nn.Module:
        """A network in evaluation mode with the weights that are judged."""
        if not self.average:
            return self.module.eval()
        judged = self.recipe.network.build(self.axes)
        judged.load_state_dict(self.average)
        device = next(self.module.parameters()).device
        return place(judged.eval(), self.axes, device)

    def keep_if_best(self, validation: float) -> bool:
        """Keep a copy of the weights if no earlier validation was as low."""
        self.since_best += 1
        if not validation < self.best:
            return False
        self.best, self.best_step, self.since_best = validation, self.step, 0
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
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.average, self.best_weights = state["average"], state["best_weights"]
        for name in ("best", "best_step", "since_best", "step", "seconds"):
            setattr(self, name, state[name])
        self.saved_at = self.seconds
