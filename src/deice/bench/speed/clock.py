"""How long a call takes on a device, what it holds, and the ceilings of the device itself."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles

import torch

from deice.devices import anonymous_memory

Call = Callable[[int], object]  # is given the number of the call, so that inputs rotate

WARM_UP = 3
COPIED = {"cuda": 1 << 32, "cpu": 1 << 28}  # bytes of the copies that find the memory's rate
MULTIPLIED = {"cuda": 8192, "cpu": 1024}  # rows of the square matrices that find the arithmetic's


@dataclass(frozen=True)
class Timed:
    """Median milliseconds of a call, distance between the quartiles, seconds before the first call at that pace, and
    the highest bytes: that PyTorch took of a GPU, that the process holds after it on the CPU.
    """

    ms: float
    spread_ms: float
    start_up: float
    bytes: int
    calls: int


def timed(call: Call, device: torch.device, calls: int, warm_up: int = WARM_UP) -> Timed:
    """Time `calls` calls one by one, by events on a GPU, after `warm_up` that count as start-up."""
    on_gpu = device.type == "cuda"
    begun = time.perf_counter()
    for number in range(warm_up):
        call(number)
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    warmed = time.perf_counter() - begun
    took = _by_events(call, device, calls) if on_gpu else [_seconds(call, number) * 1e3 for number in range(calls)]
    low, middle, high = quantiles(took, n=4) if calls > 1 else (took[0],) * 3
    held = torch.cuda.max_memory_reserved(device) if on_gpu else anonymous_memory()
    return Timed(median(took), high - low, max(0.0, warmed - warm_up * middle / 1e3), held, calls)


def _by_events(call: Call, device: torch.device, calls: int) -> list[float]:
    marks = [tuple(torch.cuda.Event(enable_timing=True) for _ in range(2)) for _ in range(calls)]
    for number, (begun, ended) in enumerate(marks):
        begun.record()
        call(number)
        ended.record()
    torch.cuda.synchronize(device)
    return [begun.elapsed_time(ended) for begun, ended in marks]


def _seconds(call: Call, number: int) -> float:
    begun = time.perf_counter()
    call(number)
    return time.perf_counter() - begun


def ceilings(device: torch.device, calls: int = 10) -> dict[str, float]:
    """{"copy_gb_s": bytes read and written by a copy within the device, "matrix_tflops": of a bf16 matrix product},
    on random numbers: on zeros the product runs faster than on any data.
    """
    source = torch.randint(0, 255, (COPIED[device.type],), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = timed(lambda _: target.copy_(source), device, calls)
    size = MULTIPLIED[device.type]
    factors = [torch.randn(size, size, device=device).bfloat16() for _ in range(2)]
    product = torch.empty_like(factors[0])
    multiplied = timed(lambda _: torch.mm(*factors, out=product), device, calls)
    return {"copy_gb_s": 2 * source.numel() / copied.ms / 1e6, "matrix_tflops": 2 * size**3 / multiplied.ms / 1e9}
