"""The ranks of a training run: the identity of this process, and collectives over all ranks.

One rank needs no process group. Several ranks use gloo on CPUs, or nccl with one GPU per rank,
always with a timeout. In training, matrix products use bfloat16 on GPUs that support it; weights,
likelihoods and sums stay in float32. If a rank dies, its peers fail in a collective. This raises
`PeerLost`, to distinguish it from an error of the rank itself, so that a report names the right
rank.
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
    """Another rank died or stopped responding."""


@dataclass(frozen=True)
class Ranks:
    """Rank and device of this process, and the number of ranks."""

    rank: int
    world_size: int
    device: torch.device

    @classmethod
    def from_environment(cls, use_gpu: bool = True) -> Ranks:
        """Return the ranks from RANK and WORLD_SIZE; a single rank if they are not set.

        With `use_gpu` the device is the first GPU that is visible to this process, if any.
        """
        has_gpu = use_gpu and torch.cuda.is_available()
        device = torch.device("cuda", 0) if has_gpu else torch.device("cpu")
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        rank = int(os.environ["RANK"]) if world_size > 1 else 0
        return cls(rank, world_size, device)

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes shared files."""
        return self.rank == 0

    @property
    def device_name(self) -> str:
        """Readable name of the device."""
        on_gpu = self.device.type == "cuda"
        return torch.cuda.get_device_name(self.device) if on_gpu else self.device.type

    def precision(self, mixed: bool) -> torch.dtype:
        """Return the dtype of matrix products in training: bfloat16 if `mixed`, on capable GPUs."""
        is_capable = self.device.type == "cuda" and torch.cuda.is_bf16_supported(
            including_emulation=False
        )
        return torch.bfloat16 if mixed and is_capable else torch.float32

    @contextmanager
    def connected(self, timeout_s: float) -> Iterator[None]:
        """Connect all ranks for the duration; a collective fails after `timeout_s` seconds."""
        if self.world_size == 1:
            yield
            return
        backend = "nccl" if self.device.type == "cuda" else "gloo"
        with self.collective("connecting"):
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
    def collective(self, action: str) -> Iterator[None]:
        """Convert the failure of a collective to `PeerLost`.

        Raises:
            PeerLost: another rank died or stopped responding; read the report of that rank.
        """
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if self.world_size == 1:
                raise
            raise PeerLost(
                f"Rank {self.rank} lost another rank while {action}: {error}.",
                expected=f"all {self.world_size} ranks to respond.",
                remedy="read the report of the other rank.",
            ) from error

    def sum(self, *values: float) -> tuple[float, ...]:
        """Return the sum of each value over all ranks, in float64."""
        if self.world_size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        with self.collective("summing over ranks"):
            dist.all_reduce(total)
        return tuple(total.tolist())

    def replicate(self, network: nn.Module) -> nn.Module:
        """Return the network with gradients averaged over ranks."""
        if self.world_size == 1:
            return network
        # Buffers are constants that are equal on all ranks. Broadcasting them in every forward pass
        # would add a collective in which a lost peer looks like an error of this rank.
        with self.collective("broadcasting weights"):
            return DistributedDataParallel(network, broadcast_buffers=False)

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of a loss, averaged over ranks."""
        with self.collective("averaging gradients"):
            loss.backward()  # type: ignore[no-untyped-call]
