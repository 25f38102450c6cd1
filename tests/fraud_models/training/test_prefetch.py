"""Steps that are made ahead of their use: the same ones, in order, and no more than a few."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fraud_models.sequences.event_batch import KNOWN_FRAUD, TARGET, EventBatch
from fraud_models.training.prefetch import STEPS_AHEAD, Step, ahead, steps_of


def steps(number: int, made: list[int], fails_at: int = -1) -> Iterator[Step]:
    for at in range(number):
        if at == fails_at:
            raise ValueError("a row group is gone")
        made.append(at)
        yield torch.tensor([at]), torch.ones(1), torch.zeros(1)


def feed_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("feed")]


@pytest.mark.parametrize("number", [0, 1, STEPS_AHEAD, 100])
def test_all_steps_come_in_order(number: int) -> None:
    assert [int(step[0]) for step in ahead(steps(number, []))] == list(range(number))
    assert not feed_threads()


def test_no_more_than_a_few_steps_lie_ready() -> None:
    made: list[int] = []
    for at, _ in enumerate(ahead(steps(50, made))):
        assert len(made) <= at + 1 + STEPS_AHEAD


def test_a_failure_comes_after_the_steps_before_it() -> None:
    seen = []
    with pytest.raises(ValueError, match="a row group is gone"):
        for step in ahead(steps(50, [], fails_at=20)):
            seen.append(int(step[0]))
    assert seen == list(range(20))
    assert not feed_threads()


def test_who_leaves_early_leaves_no_thread() -> None:
    made: list[int] = []
    some = ahead(steps(50, made))
    next(some)
    some.close()
    assert not feed_threads()
    assert len(made) <= 1 + STEPS_AHEAD


def test_a_step_holds_the_sequences_with_a_chosen_event_up_to_the_last_one() -> None:
    roles = np.array([[0, 0, 0, 0], [0, TARGET, TARGET | KNOWN_FRAUD, 0]], dtype=np.uint8)
    values = np.arange(8, dtype=np.float32).reshape(2, 4, 1)
    batch = EventBatch.from_packed(
        [row.tobytes() for row in values], [r.tobytes() for r in roles], 1
    )
    ((chosen, weights, labels),) = steps_of(iter([batch]), lambda found: found > 0)
    assert chosen.tolist() == [[[4.0], [5.0], [6.0]]]
    assert weights.tolist() == [[0.0, 1.0, 1.0]] and labels.tolist() == [[0.0, 0.0, 1.0]]
    assert list(steps_of(iter([batch]), lambda found: found > 200)) == []
