"""Training by several processes: torchrun starts them, each takes its share of every batch.

    torchrun --nproc-per-node 2 $(which egeunet-train) --data ISIC2017 --out build/run

Every process draws the whole batch, in the same order and with the same augmentation, and
keeps its slice. DistributedDataParallel averages the gradients. BCE is a mean over pixels
and Dice a mean over images, so that with equal slices the mean of the processes' losses is
the loss of the whole batch: the curve is that of one process, up to the order of sums. All
processes hold the same state; process 0 alone writes and speaks. ``--out`` must be one
folder for all of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from egeunet.model.errors import EgeunetError, InputError

DEVICES = ("auto", "cpu", "cuda", "mps")
_CPU = torch.device("cpu")
#: How long a process waits for the others, which may be reading their data.
_PATIENCE = timedelta(minutes=30)
#: What the backends say of a process that is gone; gloo has no error class of its own.
_LOST = re.compile(r"gloo|NCCL|connection (closed|reset|refused)|broken pipe|timed out", re.I)
#: Where the process that ends the run signs, so that one line is printed and not many.
_ENDED_BY = "ended_by"


class SaidElsewhere(EgeunetError):
    """This process ends because of another one, which says why; it has nothing to add."""


@dataclass(frozen=True)
class World:
    """The processes of one run, seen by one of them; the default is a process on its own.

    Attributes:
        rank: number of this process, 0 to ``size`` - 1.
        size: how many there are.
        device: where this one computes.

    Raises:
        InputError: a rank outside its range.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise InputError(
                f"RANK must be 0 to WORLD_SIZE - 1, got {self.rank} of {self.size}; use torchrun"
            )

    @property
    def main(self) -> bool:
        """Whether this is the one process that writes files and prints."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's slice of a batch of ``count`` images.

        Raises:
            InputError: the slices would differ in length; means over them would not average.
        """
        if count % self.size:
            raise InputError(
                f"a batch of {count} cannot be shared equally by {self.size} processes; "
                f"choose a multiple of {self.size}"
            )
        length = count // self.size
        return slice(self.rank * length, (self.rank + 1) * length)

    def replicated(self, model: nn.Module) -> nn.Module:
        """``model`` such that a backward pass averages gradients over all processes.

        All processes must call it; the parameters of process 0 become those of all.
        """
        if self.size == 1:
            return model
        gpu = self.device.type == "cuda"
        return nn.parallel.DistributedDataParallel(model, [self.device] if gpu else None)

    def agree(self, value: float, stop: bool) -> tuple[float, bool]:
        """The mean of every process's ``value``, and whether any of them wants to ``stop``."""
        if self.size == 1:
            return value, stop
        both = torch.tensor((value, float(stop)), dtype=torch.float64, device=self.device)
        dist.all_reduce(both)
        total, stops = both.tolist()
        return total / self.size, stops > 0

    def wait(self) -> None:
        """Go on when all processes are here."""
        self.agree(0.0, False)


@contextmanager
def joined(device: str = "auto", environment: Mapping[str, str] | None = None) -> Iterator[World]:
    """Join the processes that torchrun started; without torchrun, a world of one.

    gloo connects CPUs and nccl NVIDIA GPUs. If a process fails, all end, and one speaks.

    Args:
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``mps``.
        environment: variables as torchrun sets them; None = this process's.

    Raises:
        InputError: variables that make no sense, no such device, a process was lost.
        SaidElsewhere: another process ended the run, and has said why.
    """
    variables = os.environ if environment is None else environment
    rank, size = _number(variables, "RANK", 0), _number(variables, "WORLD_SIZE", 1)
    local = _number(variables, "LOCAL_RANK", 0), _number(variables, "LOCAL_WORLD_SIZE", 1)
    world = World(rank, size, choose_device(device, *local, alone=size == 1))
    if size == 1:
        yield world
        return
    store = _connect(world, variables)
    try:
        yield world
    except (EgeunetError, MemoryError) as error:
        if not _is_first(store, rank):
            raise SaidElsewhere("another process of this run failed before") from error
        raise
    except KeyboardInterrupt as error:
        if not world.main:  # all have stopped together, after the same step
            raise SaidElsewhere("interrupted, as process 0 says") from error
        raise
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not _LOST.search(str(error)):
            raise
        if not _is_first(store, rank):
            raise SaidElsewhere("another process of this run failed before") from error
        raise InputError(
            f"process {rank} of {size} lost another one, which was killed or cannot be reached; "
            "start again with --resume"
        ) from error
    dist.destroy_process_group()


def choose_device(
    name: str, local_rank: int = 0, local_size: int = 1, *, alone: bool = True
) -> torch.device:
    """The device called ``name`` for the process ``local_rank`` of those on this machine.

    ``auto`` is an NVIDIA GPU of its own, else an Apple GPU if there is one process only
    (nothing connects several), else the CPU.

    Raises:
        InputError: an unknown name, a device that is absent, fewer GPUs than processes.
    """
    if name not in DEVICES:
        raise InputError(f"device must be one of {', '.join(DEVICES)}, got {name!r}")
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps and alone else "cpu"
    if (name == "cuda" and not cuda) or (name == "mps" and not mps):
        raise InputError(f"this machine, or this build of torch, has no {name} device; use cpu")
    if name == "mps" and not alone:
        raise InputError("an Apple GPU takes one process; use --device cpu, or no torchrun")
    if name != "cuda":
        return torch.device(name)
    count = torch.cuda.device_count()
    if local_size > count:
        raise InputError(
            f"{local_size} processes on a machine with {count} GPUs; run torchrun "
            f"--nproc-per-node {count}, or use --device cpu"
        )
    return torch.device("cuda", local_rank)


def _connect(world: World, variables: Mapping[str, str]) -> Store:
    absent = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in variables]
    if absent:
        raise InputError(f"WORLD_SIZE is {world.size}, {absent[0]} is not set; use torchrun")
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    try:
        store, _, _ = next(rendezvous("env://", world.rank, world.size, timeout=_PATIENCE))
        dist.init_process_group(
            "nccl" if world.device.type == "cuda" else "gloo",
            store=PrefixStore("group", store), rank=world.rank, world_size=world.size,
            timeout=_PATIENCE,
        )  # fmt: skip
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise InputError(
            f"process {world.rank} of {world.size} cannot reach the others at "
            f"{variables['MASTER_ADDR']}:{variables['MASTER_PORT']} ({type(error).__name__})"
        ) from error
    return store


def _is_first(store: Store, rank: int) -> bool:
    """Sign for the end of the run; True where no other process has signed before."""
    try:
        return store.compare_set(_ENDED_BY, "", str(rank)) == str(rank).encode()
    except dist.DistError:  # the store is gone, and with it whoever might have spoken
        return True


def _number(variables: Mapping[str, str], name: str, default: int) -> int:
    text = variables.get(name, str(default))
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"{name} must be a whole number, got {text!r}; use torchrun") from error
