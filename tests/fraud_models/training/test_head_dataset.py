"""The data set of the head: each event once per pass, shuffled by the seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fraud_models.scoring.reconstruction import Reconstruction
from fraud_models.training import head_dataset
from fraud_models.training.head_dataset import HeadDataset

CHANNELS, COLUMNS, CODE, CATEGORIES = 3, 2, 1, 1
NUM_EVENTS = 47


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> HeadDataset:
    """Return events numbered by their first channel, every fifth a fraud, in blocks of ten."""
    monkeypatch.setattr(head_dataset, "EVENTS_PER_BLOCK", 10)
    dataset = HeadDataset(CHANNELS + COLUMNS + CODE + CATEGORIES)
    for part in torch.arange(NUM_EVENTS).split(7):
        channels = part[:, None].float().expand(-1, CHANNELS)
        errors, codes = torch.ones(len(part), COLUMNS), torch.full((len(part), CODE), 2.0)
        nats = torch.zeros_like(channels)
        categories = torch.full((len(part), CATEGORIES), 5)
        reconstruction = Reconstruction(
            channels, errors > 0, codes, channels, nats, errors, categories, categories, nats
        )
        dataset.add(reconstruction, (part % 5 == 0).float())
    return dataset


def event_numbers(events: HeadDataset, seed: int) -> list[int]:
    numbers: list[int] = []
    for rows, weights, labels in events.steps(4, np.random.default_rng(seed)):
        assert len(rows) == len(weights) == len(labels) <= 4
        assert rows[:, CHANNELS:].tolist() == [[1.0, 1.0, 2.0, 5.0]] * len(rows)
        assert (weights == 1).all() and labels.tolist() == (rows[:, 0] % 5 == 0).float().tolist()
        numbers += [int(number) for number in rows[:, 0]]
    return numbers


def test_pass_yields_every_event_once_with_its_label(events: HeadDataset) -> None:
    assert events.num_events == NUM_EVENTS
    assert sorted(event_numbers(events, 1)) == list(range(NUM_EVENTS))


def test_order_depends_on_the_seed(events: HeadDataset) -> None:
    first = event_numbers(events, 1)
    assert event_numbers(events, 1) == first != event_numbers(events, 2)
    assert first != sorted(first)


def test_empty_dataset_yields_no_step() -> None:
    assert list(HeadDataset(4).steps(4, np.random.default_rng(1))) == []
