"""What a piece of work costs: seconds, and the highest memory while it ran."""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from deice.devices import anonymous_memory

LOOK_EVERY = 0.01  # seconds between looks at the memory


@dataclass
class Cost:
    """seconds; bytes: the highest that PyTorch held on the GPU, or that this process held on the CPU (RssAnon)."""

    seconds: float = 0.0
    bytes: int = 0


@contextmanager
def metered(device: torch.device) -> Generator[Cost]:
    """A `Cost` that is filled in when the block ends."""
    cost = Cost()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        started = time.perf_counter()
        yield cost
        torch.cuda.synchronize(device)
        cost.seconds, cost.bytes = time.perf_counter() - started, torch.cuda.max_memory_allocated(device)
        return
    finished = threading.Event()

    def look() -> None:
        while not finished.wait(LOOK_EVERY):
            cost.bytes = max(cost.bytes, anonymous_memory())

    cost.bytes = anonymous_memory()
    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    started = time.perf_counter()
    try:
        yield cost
    finally:
        cost.seconds = time.perf_counter() - started
        finished.set()
        watcher.join()
        cost.bytes = max(cost.bytes, anonymous_memory())
