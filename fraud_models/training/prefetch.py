"""What the steps of a training learn from: tensors of chosen events, made while others are used.

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

# Steps that lie ready: enough to bridge the reading of a row group.
STEPS_AHEAD = 4
Choice = Callable[[RoleArray], BoolArray]
"""Which events are chosen, by their roles."""
Step = tuple[Tensor, Tensor, Tensor]
"""Values [B, L, F], weights [B, L] and labels [B, L]."""


def steps_of(batches: Iterator[EventBatch], choose: Choice) -> Iterator[Step]:
    """The sequences that have a chosen event, which is what has a weight."""
    for batch in batches:
        weights = choose(batch.roles)
        chosen = weights.any(axis=1)
        if not chosen.any():
            continue
        # What follows the last chosen event does not matter to a causal model.
        longest = int(np.flatnonzero(weights.any(axis=0))[-1]) + 1
        frauds = (batch.roles & KNOWN_FRAUD) > 0
        yield (
            torch.from_numpy(batch.values[chosen, :longest]),
            torch.from_numpy(weights[chosen, :longest].astype(np.float32)),
            torch.from_numpy(frauds[chosen, :longest].astype(np.float32)),
        )


def ahead(steps: Iterator[Step]) -> Iterator[Step]:
    """The same steps in the same order, the next few of them made in a thread of its own.

    A failure of `steps` is raised where its step would have come.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed") as thread:
        waiting = deque(thread.submit(next, steps, None) for _ in range(STEPS_AHEAD))
        while (step := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, steps, None))
            yield step


def nothing(num_columns: int) -> Step:
    """A batch of weight 0, all values missing: any other value might have no finite gradient."""
    values = torch.full((1, 1, num_columns), math.nan)
    return values, torch.zeros(1, 1), torch.zeros(1, 1)
