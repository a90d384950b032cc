"""Devices, precision and memory: what this machine has, and how much of it we may use."""

import ctypes
import os
import re
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from deice.errors import MemoryFault, RecipeFault
from deice.sizes import parse_bytes as parse_bytes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is a GPU where there is one; asking for one that is not there is the user's fault."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda") and not name.startswith("cuda:"):
        raise RecipeFault(f"--device is {name!r}; expected auto, cpu or cuda")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise RecipeFault("--device cuda: PyTorch sees no GPU here; use --device cpu, or install a CUDA build of torch")
    count = torch.cuda.device_count()
    if name.startswith("cuda:") and not (name[5:].isdecimal() and int(name[5:]) < count):
        raise RecipeFault(f"--device {name}: PyTorch sees {count} GPUs; expected cuda:0 to cuda:{count - 1}")
    device = torch.device(name)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())  # memory limits are set on a numbered device
    return device


def choose_devices(name: str = "auto") -> list[torch.device]:
    """All GPUs of the machine for `auto` and `cuda`, where there are any; one device for all else."""
    first = choose_device(name)
    if first.type == "cpu" or name.startswith("cuda:"):
        return [first]
    return [torch.device("cuda", number) for number in range(torch.cuda.device_count())]


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bf16 where the processor multiplies it in hardware, fp32 elsewhere."""
    if name in PRECISIONS:
        if name == "fp16" and device.type == "cpu":
            raise RecipeFault("precision fp16 needs a GPU; use bf16 or fp32 on the CPU")
        return PRECISIONS[name]
    if name != "auto":
        raise RecipeFault(f"precision is {name!r}; expected auto, {', '.join(PRECISIONS)}")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float32
    return torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32


def autocast(device: torch.device, precision: torch.dtype):
    """The context in which a network runs at `precision`."""
    return nullcontext() if precision == torch.float32 else torch.autocast(device.type, precision)


def memory_format(axes: int) -> torch.memory_format:
    """Channels last, which convolutions like best on every device we know."""
    return {2: torch.channels_last, 3: torch.channels_last_3d}[axes]


def place(module: nn.Module, axes: int, device: torch.device) -> nn.Module:
    """The module's weights on `device`, channels last."""
    for tensor in (*module.parameters(), *module.buffers()):
        dense = tensor.data.to(device)
        tensor.data = dense.contiguous(memory_format=memory_format(axes)) if dense.ndim == axes + 2 else dense
    return module


def put(pictures: torch.Tensor) -> torch.Tensor:
    """(b, 1, *space) in the memory format of `place`."""
    return pictures.contiguous(memory_format=memory_format(pictures.ndim - 2))


def cap_memory(device: torch.device, limit: int | None) -> None:
    """Let PyTorch's GPU allocator refuse more than `limit` bytes; on the CPU the caller plans by `memory_left`."""
    if limit is None or device.type != "cuda":
        return
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)


def limit_memory(device: torch.device, limit: int | None) -> None:
    """As `cap_memory`; the peak that `memory_peak` tells is measured from here on."""
    cap_memory(device, limit)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what earlier work left reserved would count
        torch.cuda.reset_peak_memory_stats(device)


def memory_peak(device: torch.device) -> tuple[int, int]:
    """(reserved, allocated): the most bytes that PyTorch's allocator took from a GPU since `limit_memory`, gave out."""
    return torch.cuda.max_memory_reserved(device), torch.cuda.max_memory_allocated(device)


def memory_left(device: torch.device, limit: int | None) -> int:
    """Bytes that may still be allocated: under `limit`, or half of what is free where there is no limit."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # PyTorch's own, unused
        allowed = limit or total * torch.cuda.get_per_process_memory_fraction(device)  # as `cap_memory` left it
        return int(min(free * 0.8, allowed - torch.cuda.memory_allocated(device)))
    if limit is None:
        return available_memory() // 2
    left = limit - anonymous_memory()
    if left <= 0:
        raise MemoryFault(f"--max-memory is {limit / 1e6:.0f} MB, but the program itself holds "
                          f"{anonymous_memory() / 1e6:.0f} MB before any work; grant more")
    return left


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, for the whole process: a network's tensors come from there again.

    Else each one is taken from the system anew, page by page, which on the CPU costs as much as the network itself.
    glibc's mallopt(3); nothing happens where there is another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for setting, value in ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, 1 << 30), (M_TRIM_THRESHOLD, (1 << 31) - 1)):
            mallopt(setting, value)


def anonymous_memory() -> int:
    """Bytes of this process that no file backs (RssAnon + RssShmem): mapped images do not count."""
    status = Path("/proc/self/status").read_text()
    return sum(int(kilobytes) * 1024 for kilobytes in re.findall(r"Rss(?:Anon|Shmem):\s+(\d+) kB", status))


def available_memory() -> int:
    """Bytes the system could still give out without swapping."""
    return int(re.findall(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())[0]) * 1024


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether `error` says that a device or the host could not allocate."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "not enough memory" in str(error)


def machine() -> str:
    """The machine in a line, for records of what was run."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    model = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())[:1] or ["CPU"]
    return f"{model[0]}, {os.cpu_count()} cores, torch {torch.__version__}"
