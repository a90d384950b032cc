"""Models as ONNX files: any image size, with all that denoising needs in their metadata; run by onnxruntime."""

import json
import logging
import warnings
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deice.checkpoint import Model, appearing, from_metadata, metadata_of
from deice.devices import memory_left
from deice.errors import FileFault, RecipeFault, UserError
from deice.ops.tiles import round_up
from deice.recipe import name_of

log = logging.getLogger(__name__)

TOLERANCE = 1e-5  # largest difference from PyTorch, for an input of unit variance
SMALLEST = {2: (24, 40, 56), 3: (12, 20, 28)}  # sizes to check at, before they are made multiples of the stride
INPUT, OUTPUT = "noisy", "denoised"
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def export_onnx(model: Model, path: Path) -> dict[str, float]:
    """Write `model` as ONNX, batch and image sizes free (multiples of the net's stride); the file appears once checked.

    Returns {"1×24×40": largest difference between onnxruntime and PyTorch, for an input of unit variance}, at three
    sizes. Raises UserError where a package is missing, an estimate is drawn with dropout, or a difference exceeds 1e-5:
    then there is no file.
    """
    if model.draws:
        raise RecipeFault(f"{name_of(model.scheme)} estimates with dropout on, which an ONNX file has not; "
                          "denoise with the .safetensors model")
    for package in ("onnx", "onnxscript", "onnxruntime"):
        _needed(package)
    with appearing(path) as temporary:
        program = _program(model)
        program.model.metadata_props.update(_metadata(model))
        program.save(temporary)
        differences = compare(model, temporary)
        worst = max(differences.values())
        if not worst < TOLERANCE:
            raise UserError(f"{path}: onnxruntime and PyTorch differ by {worst:.2g} for an input of unit variance; "
                            f"expected less than {TOLERANCE:g}; no file was written, keep the .safetensors")
    return differences


def _program(model: Model) -> Any:
    """The net as an ONNX program, fp32, (batch, 1, *space) → the same."""
    stride, letters = model.net.stride, "zyx"[-model.axes :]
    sizes = [torch.export.Dim(letter, min=1) for letter in letters]
    free = {0: torch.export.Dim("batch", min=1)}
    free |= {2 + axis: size if stride == 1 else stride * size for axis, size in enumerate(sizes)}
    example = torch.zeros(2, 1, *(stride * multiple for multiple in (3, 5, 7)[: model.axes]))  # sizes of 1 would stay 1
    chatter = logging.getLogger("torch.onnx")
    level = chatter.level
    chatter.setLevel(logging.ERROR)  # that torchvision is not there
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch about itself
            return torch.onnx.export(
                model.module.eval(), (example,), dynamo=True, dynamic_shapes=(free,), input_names=[INPUT],
                output_names=[OUTPUT], external_data=False, verbose=False)
    finally:
        chatter.setLevel(level)


def _metadata(model: Model) -> dict[str, str]:
    """What the .safetensors says, and in words of their own the facts that another program would need."""
    plain = {"stride": model.net.stride, "halo": model.net.halo, "pixel_size": model.pixel_size,
             "scheme": name_of(model.scheme), "normaliser": model.recipe.data.normaliser}
    described = metadata_of(model.recipe, model.axes, model.facts)
    return described | {key: value if isinstance(value, str) else json.dumps(value) for key, value in plain.items()}


@torch.no_grad()
def compare(model: Model, path: Path) -> dict[str, float]:
    """Largest difference between the ONNX file and the model's own net at three sizes: odd multiples of the stride."""
    net = OnnxNet(path)
    generator = torch.Generator().manual_seed(0)
    differences = {}
    for batch in (1, 2, 3):
        smallest = (SMALLEST[model.axes][(batch + axis) % 3] for axis in range(model.axes))
        sizes = [_odd_multiple(size, model.net.stride) for size in smallest]
        noise = torch.randn(batch, 1, *sizes, generator=generator)
        shape = "×".join(str(size) for size in (batch, *sizes))
        differences[shape] = float((net(noise) - model.module(noise)).abs().max())
    return differences


def _odd_multiple(size: int, stride: int) -> int:
    """The smallest odd multiple of `stride` that is at least `size`."""
    multiple = round_up(size, stride) // stride
    return stride * (multiple + 1 - multiple % 2)


def load_onnx(path: Path) -> Model:
    """The model in an ONNX file that deice wrote; its module runs in onnxruntime, on the CPU until it is told else."""
    if not path.is_file():
        raise FileFault(path, "no such file; expected an ONNX model written by deice export")
    net = OnnxNet(path)
    metadata = net.session.get_modelmeta().custom_metadata_map
    if "deice" not in metadata:
        raise FileFault(path, "ONNX without deice's metadata; expected a model written by deice export")
    try:
        recipe, axes, facts = from_metadata(metadata)
    except (KeyError, ValueError) as error:
        raise FileFault(path, f"its metadata is damaged ({error!r}); export the model again") from error
    return Model(net, axes, facts.get("pixel_size"), recipe, facts)


class OnnxNet(nn.Module):
    """(b, 1, *space) → (b, 1, *space) by onnxruntime in fp32, with as many threads as PyTorch has."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.session = _session(path, [(CPU, {})])
        self.device = torch.device("cpu")

    def start(self, device: torch.device, max_memory: int | None) -> torch.device:
        """Move to a GPU, within `max_memory` bytes of it; returns the device that onnxruntime really uses."""
        if device.type == "cpu" or device == self.device:
            return self.device
        options = {"device_id": device.index or 0, "gpu_mem_limit": memory_left(device, max_memory), "use_tf32": 0,
                   "arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"}
        if CUDA in _needed("onnxruntime").get_available_providers():
            self.session = _session(self.path, [(CUDA, options), (CPU, {})])
        if self.session.get_providers()[0] == CUDA:
            self.device = device
        else:
            log.warning("this onnxruntime cannot use the GPU: the network runs on the CPU (onnxruntime-gpu can, and a "
                        ".safetensors model does)")
        return self.device

    def forward(self, picture: Tensor) -> Tensor:
        """Through the host's memory in and out."""
        numbers = np.ascontiguousarray(picture.float().cpu().numpy())
        try:
            (answer,) = self.session.run([OUTPUT], {INPUT: numbers})
        except Exception as error:  # onnxruntime's own kinds, which share no base
            if "allocate" in str(error):
                raise RuntimeError(f"not enough memory for {prod(picture.shape)} pixels in onnxruntime") from error
            raise
        return torch.from_numpy(answer).to(picture.device)


def _session(path: Path, providers: list[tuple[str, dict[str, Any]]]) -> Any:
    runtime = _needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others want the processor too
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False  # give memory back after each tile
    options.log_severity_level = 4
    try:
        return runtime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's own kinds, which share no base
        raise FileFault(path, f"onnxruntime cannot read it ({error}); expected an ONNX model") from error


def _needed(package: str) -> Any:
    """The package, or a UserError that says how to install it."""
    try:
        return import_module(package)
    except ImportError as error:
        raise UserError(f"ONNX models need the package {package}, which is not installed; install deice with its extra "
                        "onnx: pip install '.[onnx]', or onnx, onnxscript and onnxruntime by themselves") from error
