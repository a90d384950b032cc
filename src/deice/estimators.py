"""Estimators: what denoises, by its name or file: a trained model, or a classical filter with its parameters."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deice.checkpoint import Model, describe_net, load_model
from deice.errors import RecipeFault
from deice.filters import FILTERS, Filter
from deice.onnx_model import load_onnx
from deice.pretrained import PRETRAINED, load_packaged
from deice.recipe import name_of


def choose_estimator(model: Any, parameters: Mapping[str, Any], axes: int = 2) -> Model | Filter:
    """A model from its run, .safetensors or .onnx file, "pretrained" for images of `axes` axes, or a filter from
    its name and parameters.
    """
    if isinstance(model, str) and model in FILTERS:
        try:
            return FILTERS[model](**parameters)
        except TypeError as error:
            raise RecipeFault(f"{model}: {error}; give its parameters") from error
    if parameters:
        raise RecipeFault(f"{', '.join(parameters)}: parameters of a filter, but {model} is a model; leave them out")
    if model == PRETRAINED:
        return load_packaged(axes)
    estimator = load_estimator(model) if isinstance(model, str | Path) else model
    if isinstance(estimator, Model) and estimator.segments:
        raise RecipeFault(f"{name_of(estimator.scheme)}: a model that segments and does not denoise; use deice segment")
    return estimator


def load_estimator(path: Path | str) -> Model:
    """A model from a run's folder, a .safetensors or an .onnx file."""
    return load_onnx(Path(path)) if str(path).endswith(".onnx") else load_model(path)


def describe(estimator: Model | Filter) -> str:
    """The estimator in a few words, for labels and reports."""
    if isinstance(estimator, Model):
        return f"{name_of(estimator.scheme)} {describe_net(estimator.net)}"
    return repr(estimator)
