"""The ranks of a training run: who I am, and the few things all ranks agree on.

One rank needs no process group. With several, collectives run over gloo on CPUs and over nccl
with one GPU per rank, always with a timeout. A GPU that has bfloat16 multiplies in it while a
network learns; weights, likelihoods and sums stay in float32. A rank whose peer died fails in a
collective: that is told apart from an error of its own (`PeerLost`), so that a report names the
right rank.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from feature_defs.errors import FraudScoringError


class PeerLost(FraudScoringError):
    """Another rank went away or stopped answering."""


@dataclass(frozen=True)
class Ranks:
    """This process among all."""

    rank: int
    world_size: int
    device: torch.device

    @classmethod
    def from_environment(cls, use_gpu: bool = True) -> Ranks:
        """As the launcher says: RANK and WORLD_SIZE, or a single rank without them.

        `use_gpu`: compute on the first GPU that this process sees, where it sees one.
        """
        found = use_gpu and torch.cuda.is_available()
        device = torch.device("cuda", 0) if found else torch.device("cpu")
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        rank = int(os.environ["RANK"]) if world_size > 1 else 0
        return cls(rank, world_size, device)

    @property
    def is_first(self) -> bool:
        """Whether this rank writes what all share."""
        return self.rank == 0

    @property
    def device_name(self) -> str:
        """What a reader calls the device."""
        on_gpu = self.device.type == "cuda"
        return torch.cuda.get_device_name(self.device) if on_gpu else self.device.type

    def precision(self, mixed: bool) -> torch.dtype:
        """Of products while a network learns: bfloat16 if `mixed`, on a GPU that has it."""
        able = self.device.type == "cuda" and torch.cuda.is_bf16_supported(
            including_emulation=False
        )
        return torch.bfloat16 if mixed and able else torch.float32

    @contextmanager
    def joined(self, timeout_s: float) -> Iterator[None]:
        """Inside, all ranks are connected; a collective fails after `timeout_s` seconds."""
        if self.world_size == 1:
            yield
            return
        backend = "nccl" if self.device.type == "cuda" else "gloo"
        with self.collective("joining the others"):
            dist.init_process_group(
                backend,
                rank=self.rank,
                world_size=self.world_size,
                timeout=timedelta(seconds=timeout_s),
            )
        try:
            yield
        finally:
            dist.destroy_process_group()

    @contextmanager
    def collective(self, doing: str) -> Iterator[None]:
        """Turns the failure of a collective into `PeerLost`."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if self.world_size == 1:
                raise
            raise PeerLost(
                f"Rank {self.rank} lost another rank while {doing}: {error}.",
                expected=f"all {self.world_size} ranks to answer.",
                remedy="look at what the other rank reports.",
            ) from error

    def sum(self, *values: float) -> tuple[float, ...]:
        """Sums over all ranks, in float64."""
        if self.world_size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        with self.collective("adding up"):
            dist.all_reduce(total)
        return tuple(total.tolist())

    def replicate(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over ranks."""
        if self.world_size == 1:
            return network
        with self.collective("sharing weights"):
            return DistributedDataParallel(network)

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss that is scaled by the number of ranks."""
        with self.collective("averaging gradients"):
            loss.backward()  # type: ignore[no-untyped-call]
