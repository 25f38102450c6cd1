"""A rank's passes over its events: steps that all ranks take together, until none has any left.

A pass reads the snapshot through Petastorm, and is checked to have read all of it. Where a phase
learns from what a frozen network says of events, one pass gathers that and the others go over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from fraud_models.config import ModelConfig
from fraud_models.training.head_dataset import LabelledEvents, no_event
from fraud_models.training.petastorm_reader import RowCount, Shard, check_num_rows, read_batches
from fraud_models.training.phases import Phase
from fraud_models.training.prefetch import Choice, Step, ahead, nothing, steps_of
from fraud_models.training.process_group import Ranks

# No epoch has this number: what is gathered is the same after a restart, in whatever epoch.
GATHERING = 0


@dataclass
class Passes:
    """Those of one training."""

    shard: Shard
    config: ModelConfig
    ranks: Ranks
    report: Callable[[str], None]
    """Told now and then how far a pass is."""
    gathered: LabelledEvents | None = None

    def steps(self, phase: Phase, epoch: int, choose: Choice) -> Iterator[Step]:
        """One pass over the chosen events, in an order of its own.

        Raises:
            InputMissing: rows went missing while reading.
        """
        if phase.frozen is None:
            return self._read(epoch, choose)
        if self.gathered is None:
            self.gathered = self._gather(phase, choose)
        rng = np.random.default_rng([self.config.optimisation.seed, epoch, self.ranks.rank])
        per_rank = -(-self.config.head.batch_size // self.ranks.world_size)
        steps = ahead(self.gathered.steps(per_rank, rng))
        return self._together(steps, no_event(self.gathered.width))

    def _read(self, epoch: int, choose: Choice) -> Iterator[Step]:
        counted = RowCount()
        batches = read_batches(self.shard, self.config.optimisation, epoch, counted)
        steps = ahead(steps_of(batches, choose))
        yield from self._together(steps, nothing(len(self.config.columns)))
        (num_rows,) = self.ranks.sum(counted.num_rows)
        check_num_rows(self.shard, int(num_rows))

    def _gather(self, phase: Phase, choose: Choice) -> LabelledEvents:
        assert phase.frozen is not None
        frozen, device = phase.frozen.eval(), self.ranks.device
        encoding, code_width = frozen.encoding, frozen.network.code_width
        events = LabelledEvents(encoding.num_channels + len(encoding.columns) + code_width)
        for number, (values, weights, labels) in enumerate(self._read(GATHERING, choose), start=1):
            chosen = weights > 0
            with torch.no_grad():
                events.add(frozen(values.to(device), chosen.to(device)), labels[chosen])
            self.report(f"{phase.name}, gathering, batch {number}")
        return events

    def _together(self, steps: Iterator[Step], filler: Step) -> Iterator[Step]:
        while True:
            step = next(steps, None)
            (num_left,) = self.ranks.sum(float(step is not None))
            if num_left == 0:
                return
            yield step if step is not None else filler
