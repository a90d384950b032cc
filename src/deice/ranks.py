"""Ranks: the processes that torchrun starts to train one model together. The only importer of torch.distributed.

Each rank holds the whole model on a device of its own and takes its part of every batch; gradients are averaged. Facts
that steer the run (losses, validations, the clock, faults) are agreed upon on the processor, through gloo; gradients go
from GPU to GPU, through NCCL.
"""

import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from deice.errors import RankLost, RecipeFault, SaidElsewhere, UserError

T = TypeVar("T")
PATIENCE = timedelta(minutes=30)  # of a rank that waits for another, as while a scheme prepares its volumes
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what torchrun tells each process
LOST = ("another rank of this run has ended before its end; what it said stands above; go on from the last state by "
        "--resume, on as many ranks as you like")
SAID = "deice/said"  # counts the ranks that have something to say of a fault: only the first does


@dataclass(frozen=True)
class Ranks:
    """This process, `rank` of `world`; on its machine it is `local` of `local_world`. Alone: rank 0 of 1."""

    rank: int = 0
    world: int = 1
    local: int = 0
    local_world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and shows."""
        return self.rank == 0

    def share(self, rows: Sequence[T]) -> Sequence[T]:
        """This rank's part of a batch."""
        return rows[self.rank :: self.world]

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean of each of `values` over all ranks, the same bits on all of them."""
        if self.world == 1:
            return list(values)
        return [sum(column) / self.world for column in zip(*self._gathered(list(values)))]

    def largest(self, value: float) -> float:
        """The largest `value` of all ranks."""
        return value if self.world == 1 else max(row[0] for row in self._gathered([value]))

    def of_first(self, value: float) -> float:
        """The `value` that rank 0 has."""
        return value if self.world == 1 else self._gathered([value])[0][0]

    def _gathered(self, values: list[float]) -> list[list[float]]:
        own = torch.tensor(values, dtype=torch.float64)
        found = [torch.empty_like(own) for _ in range(self.world)]
        with _peers_may_be_lost():
            dist.all_gather(found, own)
        return [row.tolist() for row in found]

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor (dense, of one device and type) by its mean over all ranks, in one message."""
        if self.world == 1:
            return
        lines = [_line(tensor) for tensor in tensors]
        together = torch.cat(lines)
        with _peers_may_be_lost():
            dist.all_reduce(together)
        torch._foreach_copy_(lines, list(together.div_(self.world).split([len(line) for line in lines])))

    def copy_of_first(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor (dense) by that of rank 0."""
        if self.world == 1:
            return
        with _peers_may_be_lost():
            for tensor in tensors:
                dist.broadcast(_line(tensor), 0)

    @contextmanager
    def together(self) -> Generator[None]:
        """A block that all ranks leave together, or, if one of them meets a fault in it, all by an error."""
        fault: BaseException | None = None
        try:
            yield
        except Exception as error:
            fault = error
        worst = self.largest(0 if fault is None else 1 if isinstance(fault, UserError) else 2)
        if fault is not None:
            raise fault
        if worst:
            raise SaidElsewhere("another rank says why") if worst == 1 else RankLost(LOST)


ALONE = Ranks()


def launched() -> Ranks:
    """What torchrun says this process is; alone where no launcher, or one for a single process, started it."""
    if not all(name in os.environ for name in LAUNCHER) or os.environ["WORLD_SIZE"] == "1":
        return ALONE
    rank, world, local = (int(os.environ[name]) for name in LAUNCHER[:3])
    return Ranks(rank, world, local, int(os.environ.get("LOCAL_WORLD_SIZE", world)))


@contextmanager
def joined(device: str) -> Generator[Ranks]:
    """The ranks of this run, connected for the length of the block; `device` as the user says it.

    A UserError of one rank ends all of them: one raises it, the others SaidElsewhere. Raises RankLost where another
    rank is gone, with a message on one of those that are left. A block inside such a block changes nothing.
    """
    ranks = launched()
    if ranks.world == 1 or dist.is_initialized():
        yield ranks
        return
    store, _, _ = next(dist.rendezvous("env://", timeout=PATIENCE))
    try:
        _connect(ranks, device, store)
        yield ranks
    except SaidElsewhere:
        raise
    except UserError as error:
        if _first_to_say(store):
            raise
        raise SaidElsewhere(str(error)) from error
    except (RankLost, dist.DistError) as error:
        raise RankLost(LOST if _first_to_say(store) else "") from error
    else:
        dist.destroy_process_group()


def _line(tensor: Tensor) -> Tensor:
    """The same values in one row, in the order of their memory, whatever the order of the axes is there."""
    return tensor.detach().as_strided((tensor.numel(),), (1,))


def _connect(ranks: Ranks, device: str, store: Any) -> None:
    backend = "gloo"
    if device != "cpu" and torch.cuda.is_available():
        gpus = torch.cuda.device_count()
        if device not in ("auto", "cuda"):
            raise RecipeFault(f"--device is {device}, for {ranks.world} ranks; expected cuda: each takes its own")
        if ranks.local >= gpus:
            raise RecipeFault(f"{ranks.local_world} ranks on a machine with {gpus} GPUs; expected one for each: use "
                              f"torchrun --nproc-per-node {gpus}")
        torch.cuda.set_device(ranks.local)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.world, timeout=PATIENCE)


@contextmanager
def _peers_may_be_lost() -> Generator[None]:
    """Whatever goes wrong while ranks exchange something is taken for the loss of one."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(LOST) from error


def _first_to_say(store: Any) -> bool:
    with suppress(RuntimeError):  # the store may be gone with the process that held it
        return store.add(SAID, 1) == 1
    return True
