"""Networks on the CPU by OpenVINO, where it is installed: twice as fast as PyTorch (docs/many_files.md)."""

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deice.checkpoint import Model
from deice.conditions import Conditions
from deice.devices import autocast, choose_precision
from deice.kernels.convolution_stack import wants_plain
from deice.onnx_model import OnnxNet

log = logging.getLogger(__name__)

WORTH_IT = 8_000_000  # pixels that a job must have: taking over a network costs 2 to 4 s
HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}
CHECKED_AT = {2: 8, 3: 3}  # strides along each axis of the picture that the answers are compared on
ROUNDING = 1e-5  # of the answer's deviation: what two programs may differ by in fp32


def by_openvino(model: Model, conditions: Conditions, pixels: int) -> Model:
    """`model` with its network in OpenVINO, if that is installed and `pixels` are worth it; else as it is.

    The answers to a picture of noise are compared first: in fp32 they must be PyTorch's, in bf16 as near to fp32's as
    PyTorch's are, but for a factor of two.
    """
    precision = choose_precision(conditions.precision, conditions.device)
    if (conditions.device.type != "cpu" or precision not in HINTS or pixels < WORTH_IT or model.draws
            or isinstance(model.module, OnnxNet) or wants_plain() or find_spec("openvino") is None):
        return model
    try:
        net = OpenVinoNet(model, precision)
        found, allowed = _compared(model, net, precision)
    except Exception as error:  # of whatever kind: PyTorch does the same work
        log.warning("OpenVINO cannot take this network (%s); PyTorch is used", str(error).splitlines()[0][:200])
        return model
    if not found <= allowed:
        log.warning("OpenVINO's answer is off by %.2g of its deviation, where %.2g is allowed; PyTorch is used", found,
                    allowed)
        return model
    log.info("the network runs in OpenVINO, %s", HINTS[precision])
    return replace(model, module=net)


class OpenVinoNet(nn.Module):
    """(b, 1, *space) → the same, on the CPU, with as many threads as PyTorch has; compiled for one size at a time."""

    def __init__(self, model: Model, precision: torch.dtype):
        super().__init__()
        self.core = import_module("openvino").Core()
        self.graph = _graph(model)
        self.options = {"INFERENCE_PRECISION_HINT": HINTS[precision], "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                        "NUM_STREAMS": 1}  # fmt: skip
        self.shape: tuple[int, ...] = ()
        self.request: Any = None

    def forward(self, pictures: Tensor) -> Tensor:
        """Of another size than the last one: half a second more."""
        if self.shape != tuple(pictures.shape):
            self.request, self.shape = None, tuple(pictures.shape)
            self.graph.reshape(list(self.shape))
            self.request = self.core.compile_model(self.graph, "CPU", self.options).create_infer_request()
        (answer,) = self.request.infer([np.ascontiguousarray(pictures.numpy())], share_inputs=True).values()
        return torch.from_numpy(answer)


@torch.no_grad()
def _graph(model: Model) -> Any:
    """The network as OpenVINO's own, by its front end: openvino.convert_model would report to its makers."""
    front_ends = import_module("openvino.frontend").FrontEndManager()
    decoders = import_module("openvino.frontend.pytorch.fx_decoder")
    with _quiet():
        picture = torch.zeros(2, 1, *(4 * model.net.stride,) * model.axes)
        program = torch.export.export(model.module.eval(), (picture,))
        front = front_ends.load_by_framework("pytorch")
        decoder = decoders.TorchFXPythonDecoder.from_exported_program(program)  # must live until it is converted
        return front.convert(front.load(decoder))


@contextmanager
def _quiet() -> Generator[None]:
    """What PyTorch and OpenVINO say of each other's versions stays unsaid."""
    root = logging.getLogger()
    disabled = root.manager.disable
    try:
        logging.disable(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@torch.no_grad()
def _compared(model: Model, net: OpenVinoNet, precision: torch.dtype) -> tuple[float, float]:
    """How far OpenVINO's answer is from PyTorch's in fp32, and how far it may be, in the answer's deviation."""
    sizes = (CHECKED_AT[model.axes] * model.net.stride,) * model.axes
    picture = torch.randn(1, 1, *sizes, generator=torch.Generator().manual_seed(0))
    exact = model.module(picture)
    with autocast(torch.device("cpu"), precision):
        torchs = model.module(picture).float()
    off, usual = (float((answer - exact).std() / exact.std()) for answer in (net(picture), torchs))
    return off, 2 * usual + ROUNDING
