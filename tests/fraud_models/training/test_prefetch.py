"""Training steps, and their prefetching: the same steps in order, and only a few in advance."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fraud_models.sequences.event_batch import KNOWN_FRAUD, TARGET, EventBatch
from fraud_models.training.prefetch import NUM_PREFETCHED, Step, prefetched, training_steps


def steps(number: int, computed: list[int], fails_at: int = -1) -> Iterator[Step]:
    for at in range(number):
        if at == fails_at:
            raise ValueError("a row group is gone")
        computed.append(at)
        yield torch.tensor([at]), torch.ones(1), torch.zeros(1)


def prefetch_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("number", [0, 1, NUM_PREFETCHED, 100])
def test_prefetched_keeps_the_order_of_steps(number: int) -> None:
    assert [int(step[0]) for step in prefetched(steps(number, []))] == list(range(number))
    assert not prefetch_threads()


def test_prefetched_computes_few_steps_in_advance() -> None:
    computed: list[int] = []
    for at, _ in enumerate(prefetched(steps(50, computed))):
        assert len(computed) <= at + 1 + NUM_PREFETCHED


def test_prefetched_raises_after_the_steps_before_the_failure() -> None:
    seen = []
    with pytest.raises(ValueError, match="a row group is gone"):
        for step in prefetched(steps(50, [], fails_at=20)):
            seen.append(int(step[0]))
    assert seen == list(range(20))
    assert not prefetch_threads()


def test_prefetched_ends_its_thread_when_closed() -> None:
    computed: list[int] = []
    iterator = prefetched(steps(50, computed))
    next(iterator)
    iterator.close()
    assert not prefetch_threads()
    assert len(computed) <= 1 + NUM_PREFETCHED


def test_training_step_has_sequences_up_to_the_last_selected_event() -> None:
    roles = np.array([[0, 0, 0, 0], [0, TARGET, TARGET | KNOWN_FRAUD, 0]], dtype=np.uint8)
    values = np.arange(8, dtype=np.float32).reshape(2, 4, 1)
    batch = EventBatch.from_packed(
        [row.tobytes() for row in values], [r.tobytes() for r in roles], 1
    )
    ((kept, weights, labels),) = training_steps(iter([batch]), lambda roles: roles > 0)
    assert kept.tolist() == [[[4.0], [5.0], [6.0]]]
    assert weights.tolist() == [[0.0, 1.0, 1.0]] and labels.tolist() == [[0.0, 0.0, 1.0]]
    assert list(training_steps(iter([batch]), lambda roles: roles > 200)) == []
