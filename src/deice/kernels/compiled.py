"""CUDA source compiled at run time for the GPU at hand, kept on disk, launched on PyTorch's current stream.

The compiler is NVRTC, which PyTorch's CUDA wheels bring together with cuda.bindings: neither nvcc nor CUDA's headers
are needed. What is compiled is machine code for one architecture: a kernel starts without the driver's own compiler.
"""

import ctypes
import hashlib
import logging
import os
import tempfile
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

FIRST_CAPABILITY = (8, 0)  # bf16 on the matrix units, and asynchronous copies to shared memory
DYNAMIC_SHARED = 48 * 1024  # a block that asks for more has to say so


class NotCompiled(RuntimeError):
    """Why a kernel cannot be had here: the plain path computes the same."""


class Kernel:
    """One CUDA function on any device of its architecture."""

    def __init__(self, handle: Any):
        self.driver = import_module("cuda.bindings.driver")
        self.handle, self.function = handle, self.driver.CUfunction(int(handle))
        self.granted: dict[int, int] = {}  # shared memory that each device was asked for

    def launch(self, device: torch.device, blocks: int, threads: int, shared: int,
               *arguments: Tensor | int | float | None) -> None:
        """Run on `blocks` blocks of `threads` threads with `shared` bytes each, on the current stream of `device`.

        arguments: tensors go as pointers (None as a null pointer), int as 32-bit int, float as float.
        """
        index = device.index if device.index is not None else torch.cuda.current_device()
        with torch.cuda.device(index) if index != torch.cuda.current_device() else nullcontext():
            _enter_context(index)
            if shared > self.granted.get(index, DYNAMIC_SHARED):
                attribute = self.driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                _checked(self.driver.cuKernelSetAttribute(attribute, shared, self.handle, self.driver.CUdevice(index)))
                self.granted[index] = shared
            values = [_as_argument(argument) for argument in arguments]
            places = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
            stream = torch.cuda.current_stream(index).cuda_stream
            _checked(self.driver.cuLaunchKernel(self.function, blocks, 1, 1, threads, 1, 1, shared, stream,
                                                ctypes.addressof(places), 0))


def _as_argument(value: Tensor | int | float | None) -> Any:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if value is None:
        return ctypes.c_void_p(None)
    return ctypes.c_float(value) if isinstance(value, float) else ctypes.c_int(value)


def _enter_context(index: int) -> None:
    """Make the context of device `index`, which is PyTorch's current one, that of this thread, if it has none yet.

    PyTorch's calls do so by themselves; a thread of its backward pass that has made none has none.
    """
    if getattr(_ENTERED, "once", False):
        return
    driver = import_module("cuda.bindings.driver")
    torch.cuda.init()
    if not int(_checked(driver.cuCtxGetCurrent())[0]):
        context = _checked(driver.cuDevicePrimaryCtxRetain(driver.CUdevice(index)))[0]  # PyTorch's, kept to the end
        _checked(driver.cuCtxSetCurrent(context))
    _ENTERED.once = True


_ENTERED = threading.local()


@cache
def architecture_of(device: torch.device) -> str:
    """What machine code `device` runs, as `sm_80`; `sm_90a` where Hopper's own matrix instructions may be used."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}" + ("a" if (major, minor) == (9, 0) else "")


@cache
def why_not(device: torch.device) -> str | None:
    """Why no kernel can be compiled for `device`, in words; None where one can."""
    if device.type != "cuda" or torch.version.cuda is None:
        return "no NVIDIA GPU"
    if torch.cuda.get_device_capability(device) < FIRST_CAPABILITY:
        return f"{torch.cuda.get_device_name(device)} is older than compute capability 8.0"
    try:
        known = supported_architectures()
    except (ImportError, OSError, RuntimeError) as error:
        return f"NVRTC is not at hand ({error})"
    wanted = architecture_of(device)
    return None if int(wanted[3:].rstrip("a")) in known else f"NVRTC is too old for {wanted}"


def supported_architectures() -> list[int]:
    """What the NVRTC that is installed compiles for, as 80, 90; ImportError or RuntimeError where there is none."""
    nvrtc = import_module("cuda.bindings.nvrtc")

    return list(_checked(nvrtc.nvrtcGetSupportedArchs())[0])


def kernel(source: str, function: str, device: torch.device, defines: tuple[str, ...] = ()) -> Kernel:
    """`function` of the package's file `source` for `device`, compiled at the first call; NotCompiled says why not.

    defines: macros of the source, as ("TYPE=1",).
    """
    reason = why_not(device)
    if reason:
        raise NotCompiled(reason)
    with _LOADING:
        return _function(source, function, architecture_of(device), defines)


_LOADING = threading.Lock()


@cache
def _function(source: str, function: str, architecture: str, defines: tuple[str, ...]) -> Kernel:
    driver = import_module("cuda.bindings.driver")

    library = _library(source, architecture, defines)
    return Kernel(_checked(driver.cuLibraryGetKernel(library, function.encode()))[0])


@cache
def _library(source: str, architecture: str, defines: tuple[str, ...]) -> Any:
    driver = import_module("cuda.bindings.driver")

    _enter_context(torch.cuda.current_device())
    image = machine_code(source, architecture, defines)
    return _checked(driver.cuLibraryLoadData(image, [], [], 0, [], [], 0))[0]


def machine_code(source: str, architecture: str, defines: tuple[str, ...] = ()) -> bytes:
    """The cubin of the package's file `source`, from the cache on disk where it was compiled before."""
    nvrtc = import_module("cuda.bindings.nvrtc")

    text = files("deice.kernels").joinpath(source).read_bytes()
    options = ["--std=c++20", "--device-as-default-execution-space", f"--gpu-architecture={architecture}",
               *(f"--define-macro={macro}" for macro in defines)]
    version = ".".join(map(str, _checked(nvrtc.nvrtcVersion())))
    key = hashlib.sha256(b"\0".join([text, *(word.encode() for word in (*options, version))])).hexdigest()
    kept = cache_folder() / f"{Path(source).stem}_{architecture}_{key[:32]}.cubin"
    found = _read_kept(kept)
    if found is None:
        log.info("compiling %s for %s", source, architecture)
        found = compiled(text, source, options)
        _keep(kept, found)
    return found


def compiled(text: bytes, name: str, options: Sequence[str]) -> bytes:
    """The cubin that NVRTC makes of `text`; NotCompiled with the compiler's words where it cannot."""
    nvrtc = import_module("cuda.bindings.nvrtc")

    program = _checked(nvrtc.nvrtcCreateProgram(text, name.encode(), 0, [], []))[0]
    try:
        status = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])[0]
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            words = bytearray(_checked(nvrtc.nvrtcGetProgramLogSize(program))[0])
            _checked(nvrtc.nvrtcGetProgramLog(program, words))
            raise NotCompiled(f"{name} does not compile: {words.decode(errors='replace').strip(chr(0)).strip()}")
        image = bytearray(_checked(nvrtc.nvrtcGetCUBINSize(program))[0])
        _checked(nvrtc.nvrtcGetCUBIN(program, image))
        return bytes(image)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def cache_folder() -> Path:
    """Where compiled kernels are kept: $XDG_CACHE_HOME/deice/kernels, by default below ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deice" / "kernels"


def _read_kept(path: Path) -> bytes | None:
    """The machine code in `path`, behind its own checksum; None where there is none or it is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    image = content[32:]
    return image if image and hashlib.sha256(image).digest() == content[:32] else None


def _keep(path: Path, image: bytes) -> None:
    """Write under another name and rename, so that nobody ever reads half of it. Without a cache all works too."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
            part.write(hashlib.sha256(image).digest() + image)
        os.replace(part.name, path)
    except OSError as error:
        log.info("compiled kernels are not kept: %s", error)


def _checked(answer: tuple) -> tuple:
    """What a call of the driver or of NVRTC gave besides its status; RuntimeError where that is not success."""
    status, *values = answer
    if int(status) != 0:
        raise RuntimeError(f"CUDA says {status.name}")
    return tuple(values)
