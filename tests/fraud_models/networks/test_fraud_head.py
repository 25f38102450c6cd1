"""The supervised head, and whose share of the log odds is how large."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fraud_models.config import HeadConfig
from fraud_models.networks.fraud_head import FraudHead

OWNER, NUM_COLUMNS, CODE_WIDTH = (0, 1, 2, 1), 3, 2
WIDTH = len(OWNER) + NUM_COLUMNS + CODE_WIDTH


@pytest.fixture
def head() -> FraudHead:
    """With weights far larger than fresh ones: curved, as a trained head is."""
    torch.manual_seed(5)
    made = FraudHead(HeadConfig(hidden_width=16), OWNER, NUM_COLUMNS, CODE_WIDTH)
    with torch.no_grad():
        for weight in made.parameters():
            weight *= 3
    return made.eval()


def inputs(rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(6)
    return torch.randn(rows, WIDTH, generator=generator) * 3


def test_contributions_sum_to_the_log_odds_above_a_usual_event(head: FraudHead) -> None:
    events = inputs(200)
    with torch.no_grad():
        above = (head(events) - head(torch.zeros(1, WIDTH))).double()
    shares = head.contributions(events)
    assert shares.shape == (200, NUM_COLUMNS + 1)
    np.testing.assert_allclose(shares.sum(dim=-1).numpy(), above.numpy(), rtol=1e-9, atol=1e-9)


def test_the_rule_itself_leaves_little_over(
    head: FraudHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fraud_models.networks import fraud_head

    events = inputs(200)
    shares = head.contributions(events)
    monkeypatch.setattr(fraud_head, "NUM_POINTS", 200)
    exact = head.contributions(events)
    size = exact.abs().sum(dim=-1, keepdim=True)
    assert float(((shares - exact).abs() / size).max()) < 0.01


def test_a_usual_event_has_no_reasons(head: FraudHead) -> None:
    assert (head.contributions(torch.zeros(1, WIDTH)) == 0).all()


def test_each_input_counts_for_its_column_and_the_code_for_the_history(head: FraudHead) -> None:
    owners = [*OWNER, 0, 1, 2, NUM_COLUMNS, NUM_COLUMNS]
    for place, owner in enumerate(owners):
        one = torch.zeros(1, WIDTH)
        one[0, place] = 2.0
        shares = head.contributions(one)[0]
        others = [column for column in range(NUM_COLUMNS + 1) if column != owner]
        assert shares[owner] != 0 and (shares[others] == 0).all()


def test_what_is_read_is_bounded() -> None:
    read = FraudHead.inputs(
        torch.full((1, 4), 1e9), torch.full((1, 3), 1e9), torch.full((1, 2), -1e9)
    )
    assert read.shape == (1, WIDTH) and float(read.abs().max()) < 25
