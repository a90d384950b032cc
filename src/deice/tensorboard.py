"""A run's curves for TensorBoard, where its package is installed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deice.errors import UserError
from deice.runs import Step


def shown_in_tensorboard(steps: Iterator[Step], folder: Path) -> Iterator[Step]:
    """The same steps; loss, validation, their terms, rate and speed of each are written to `folder`.

    Raises UserError before the first step where the package tensorboard is missing.
    """
    kind, writer = _writer(), None
    try:
        for step in steps:
            if writer is None:
                writer = kind(str(folder), purge_step=step.step)  # a resumed run hides what it does again
            for name, value in _scalars(step).items():
                writer.add_scalar(name, value, step.step)
            yield step
    finally:
        if writer is not None:
            writer.close()


def _scalars(step: Step) -> dict[str, float]:
    given = {"loss/training": step.loss, "loss/validation": step.validation, "learning rate": step.lr,
             "windows per second": step.windows_per_second}
    given |= {f"training/{name}": value for name, value in (step.terms or {}).items()}
    given |= {f"validation/{name}": value for name, value in (step.validation_terms or {}).items()}
    return {name: value for name, value in given.items() if value is not None}


def _writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(f"--tensorboard: the package is not here ({error}); expected tensorboard, which "
                        "pip install 'deice[tensorboard]' brings, or leave --tensorboard out") from error
    return SummaryWriter
