"""What a frozen autoencoder says of labelled events, gathered once and learned from many times.

Shapes: `N` events, `W = C + F + Z`: channels, errors by column and code.

Each rank keeps its own events on local disk, in a file without a name that goes when its process
does, whatever ends it: 4 * (W + 1) bytes an event, about 160. TMPDIR says where.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from fraud_models.scoring.reconstruction import Reconstruction
from fraud_models.sequences.context_blocks import FloatArray
from fraud_models.training.prefetch import Step

# Of float32 rows: what is in memory at a time, and within what events are mixed.
EVENTS_PER_BLOCK = 262_144


class LabelledEvents:
    """Rows of [W] float32 with the label behind them."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.num_events = 0
        self._file = tempfile.TemporaryFile(prefix="labelled-events-")  # noqa: SIM115

    def add(self, found: Reconstruction, labels: Tensor) -> None:
        """Keep events [N] with their labels [N]: 1 for a known fraud, 0 for a genuine one."""
        parts = (found.channels, found.errors, found.codes, labels[:, None])
        rows = torch.cat([part.float().cpu() for part in parts], dim=-1).numpy()
        self._file.write(rows.tobytes())
        self.num_events += len(rows)

    def steps(self, events_per_step: int, rng: np.random.Generator) -> Iterator[Step]:
        """All events once, as `rng` mixes them: rows [N, W], weights of 1 and labels [N]."""
        for block in rng.permutation(-(-self.num_events // EVENTS_PER_BLOCK)):
            rows = torch.from_numpy(self._block(int(block)))
            order = rng.permutation(len(rows))
            for start in range(0, len(rows), events_per_step):
                events = rows[order[start : start + events_per_step]]
                yield events[:, :-1], torch.ones(len(events)), events[:, -1]

    def _block(self, number: int) -> FloatArray:
        size = 4 * (self.width + 1)
        self._file.seek(number * EVENTS_PER_BLOCK * size)
        content = bytearray(self._file.read(EVENTS_PER_BLOCK * size))
        return np.frombuffer(content, dtype=np.float32).reshape(-1, self.width + 1)


def no_event(width: int) -> Step:
    """One event of weight 0."""
    return torch.zeros(1, width), torch.zeros(1), torch.zeros(1)
