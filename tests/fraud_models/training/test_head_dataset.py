"""Events that a head learns from: each once in every pass, mixed, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fraud_models.scoring.reconstruction import Reconstruction
from fraud_models.training import head_dataset
from fraud_models.training.head_dataset import LabelledEvents

CHANNELS, COLUMNS, CODE = 3, 2, 1
NUM_EVENTS = 47


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> LabelledEvents:
    """Told apart by their first channel; every fifth is a fraud. Blocks of ten."""
    monkeypatch.setattr(head_dataset, "EVENTS_PER_BLOCK", 10)
    made = LabelledEvents(CHANNELS + COLUMNS + CODE)
    for part in torch.arange(NUM_EVENTS).split(7):
        channels = part[:, None].float().expand(-1, CHANNELS)
        errors, codes = torch.ones(len(part), COLUMNS), torch.full((len(part), CODE), 2.0)
        nats = torch.zeros_like(channels)
        found = Reconstruction(channels, errors > 0, codes, channels, nats, errors)
        made.add(found, (part % 5 == 0).float())
    return made


def passed(events: LabelledEvents, seed: int) -> list[int]:
    numbers: list[int] = []
    for rows, weights, labels in events.steps(4, np.random.default_rng(seed)):
        assert len(rows) == len(weights) == len(labels) <= 4
        assert rows[:, CHANNELS:].tolist() == [[1.0, 1.0, 2.0]] * len(rows)
        assert (weights == 1).all() and labels.tolist() == (rows[:, 0] % 5 == 0).float().tolist()
        numbers += [int(number) for number in rows[:, 0]]
    return numbers


def test_a_pass_has_every_event_once_with_its_label(events: LabelledEvents) -> None:
    assert events.num_events == NUM_EVENTS
    assert sorted(passed(events, 1)) == list(range(NUM_EVENTS))


def test_the_order_is_the_seeds(events: LabelledEvents) -> None:
    first = passed(events, 1)
    assert passed(events, 1) == first != passed(events, 2)
    assert first != sorted(first)


def test_without_events_there_is_no_step() -> None:
    assert list(LabelledEvents(4).steps(4, np.random.default_rng(1))) == []
