"""The data set of the head: a frozen autoencoder's output for labelled events, on local disk.

Shapes: `N` events, `W = C + F + Z + K`: channels, errors by column, code, and the codes of
categorical columns.

The output is computed once and read in every epoch of the head. Each rank stores its own events in
an unnamed temporary file, which the operating system deletes when the process ends for any reason.
An event takes 4 * (W + 1) bytes, about 160. TMPDIR sets the location.
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

# Rows that are in memory at a time; events are shuffled within a block.
EVENTS_PER_BLOCK = 262_144


class HeadDataset:
    """Rows of float32 [W + 1] in a temporary file: W inputs and the label."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.num_events = 0
        self._file = tempfile.TemporaryFile(prefix="labelled-events-")  # noqa: SIM115

    def add(self, events: Reconstruction, labels: Tensor) -> None:
        """Add events [N] with their labels [N]: 1 for known fraud, 0 for known genuine."""
        parts = (events.channels, events.errors, events.codes, events.categories, labels[:, None])
        rows = torch.cat([part.float().cpu() for part in parts], dim=-1).numpy()
        self._file.write(rows.tobytes())
        self.num_events += len(rows)

    def steps(self, events_per_step: int, rng: np.random.Generator) -> Iterator[Step]:
        """Yield each event once, shuffled by `rng`: rows [N, W], weights of 1 and labels [N]."""
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


def empty_head_step(width: int) -> Step:
    """Return a step with one event of weight 0."""
    return torch.zeros(1, width), torch.zeros(1), torch.zeros(1)
