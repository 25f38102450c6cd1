"""Convert batches to the tensors of training steps, and prefetch them in a background thread.

Shapes: `B` sequences, `L` events, `F` columns.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from fraud_models.sequences.event_batch import KNOWN_FRAUD, BoolArray, EventBatch, RoleArray

# Steps to prefetch: enough to bridge the time to read a row group.
NUM_PREFETCHED = 4
EventSelector = Callable[[RoleArray], BoolArray]
"""Selects events by their roles [B, L]; returns bool [B, L]."""
Step = tuple[Tensor, Tensor, Tensor]
"""Values [B, L, F], weights [B, L] and labels [B, L]."""


def training_steps(batches: Iterator[EventBatch], select: EventSelector) -> Iterator[Step]:
    """Yield a step per batch: the sequences with a selected event; only these have a weight."""
    for batch in batches:
        weights = select(batch.roles)
        kept = weights.any(axis=1)
        if not kept.any():
            continue
        # A causal model needs no event after the last selected one.
        longest = int(np.flatnonzero(weights.any(axis=0))[-1]) + 1
        frauds = (batch.roles & KNOWN_FRAUD) > 0
        yield (
            torch.from_numpy(batch.values[kept, :longest]),
            torch.from_numpy(weights[kept, :longest].astype(np.float32)),
            torch.from_numpy(frauds[kept, :longest].astype(np.float32)),
        )


def prefetched(steps: Iterator[Step]) -> Iterator[Step]:
    """Yield the same steps in the same order; compute the next few in a background thread.

    An exception of `steps` is raised in place of its step.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as thread:
        pending = deque(thread.submit(next, steps, None) for _ in range(NUM_PREFETCHED))
        while (step := pending.popleft().result()) is not None:
            pending.append(thread.submit(next, steps, None))
            yield step


def empty_batch(num_columns: int) -> Step:
    """Return a step of weight 0 whose values are all missing, so that gradients are finite."""
    values = torch.full((1, 1, num_columns), math.nan)
    return values, torch.zeros(1, 1), torch.zeros(1, 1)
