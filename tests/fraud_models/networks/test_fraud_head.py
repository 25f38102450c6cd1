"""The supervised head, and whose share of the log odds is how large."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fraud_models.config import HeadConfig
from fraud_models.networks.fraud_head import FraudHead

OWNER, NUM_COLUMNS, CODE_WIDTH = (0, 1, 2, 1), 3, 2
KNOTS = (-8.0, -1.0, 0.0, 1.0, 8.0)


@pytest.fixture(params=[(), KNOTS], ids=["whole", "in pieces"])
def head(request: pytest.FixtureRequest) -> FraudHead:
    """With weights far larger than fresh ones: curved, as a trained head is."""
    torch.manual_seed(5)
    config = HeadConfig(hidden_width=16, knots=request.param)
    made = FraudHead(config, OWNER, NUM_COLUMNS, CODE_WIDTH)
    with torch.no_grad():
        for weight in made.parameters():
            weight *= 3
    return made.eval()


def inputs(head: FraudHead, rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(6)
    channels, errors, codes = (
        torch.randn(rows, width, generator=generator) * 3
        for width in (len(OWNER), NUM_COLUMNS, CODE_WIDTH)
    )
    return head.inputs(channels, errors.abs(), codes)


def usual(head: FraudHead) -> torch.Tensor:
    return torch.zeros(1, len(head.belongs))


def test_contributions_sum_to_the_log_odds_above_a_usual_event(head: FraudHead) -> None:
    events = inputs(head, 200)
    with torch.no_grad():
        above = (head(events) - head(usual(head))).double()
    shares = head.contributions(events)
    assert shares.shape == (200, NUM_COLUMNS + 1)
    np.testing.assert_allclose(shares.sum(dim=-1).numpy(), above.numpy(), rtol=1e-9, atol=1e-9)


def test_the_rule_itself_leaves_little_over(
    head: FraudHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fraud_models.networks import fraud_head

    events = inputs(head, 200)
    shares = head.contributions(events)
    monkeypatch.setattr(fraud_head, "NUM_POINTS", 200)
    exact = head.contributions(events)
    size = exact.abs().sum(dim=-1, keepdim=True)
    assert float(((shares - exact).abs() / size).max()) < 0.01


def test_shares_are_distance_times_the_mean_gradient_along_the_line(head: FraudHead) -> None:
    (event,) = inputs(head, 1)
    steps = (torch.arange(2000) + 0.5) / 2000
    line = (event * steps[:, None]).requires_grad_(True)
    (gradient,) = torch.autograd.grad(head(line).sum(), line)
    of_inputs = (event * gradient.mean(dim=0)).double()
    expected = of_inputs @ head.belongs
    (shares,) = head.contributions(event[None])
    np.testing.assert_allclose(
        shares.numpy(), expected.numpy(), atol=0.01 * float(expected.abs().sum())
    )


def test_a_usual_event_has_no_reasons(head: FraudHead) -> None:
    nothing = torch.zeros(1, len(OWNER)), torch.zeros(1, NUM_COLUMNS), torch.zeros(1, CODE_WIDTH)
    read = head.inputs(*nothing)
    assert (read == 0).all()
    assert (head.contributions(read) == 0).all()


def test_each_input_counts_for_its_column_and_the_code_for_the_history(head: FraudHead) -> None:
    widths = (len(OWNER), NUM_COLUMNS, CODE_WIDTH)
    owners = [*OWNER, *range(NUM_COLUMNS), *([NUM_COLUMNS] * CODE_WIDTH)]
    for place, owner in enumerate(owners):
        one = torch.zeros(1, sum(widths))
        one[0, place] = 2.0
        shares = head.contributions(head.inputs(*one.split(widths, dim=-1)))[0]
        others = [column for column in range(NUM_COLUMNS + 1) if column != owner]
        assert shares[owner] != 0 and (shares[others] == 0).all()


def test_pieces_tell_how_much_of_them_a_value_fills() -> None:
    head = FraudHead(HeadConfig(knots=KNOTS), (0,), 1, 1)
    nothing = torch.zeros(4, 1)
    read = head.inputs(torch.tensor([[-1e9], [-0.5], [0.25], [4.5]]), nothing, nothing)
    assert read[:, :4].tolist() == [
        [-1, -1, 0, 0],
        [0, -0.5, 0, 0],
        [0, 0, 0.25, 0],
        [0, 0, 1, 0.5],
    ]


def test_what_is_read_is_bounded(head: FraudHead) -> None:
    read = head.inputs(torch.full((1, 4), 1e9), torch.full((1, 3), 1e9), torch.full((1, 2), -1e9))
    assert read.shape == (1, len(head.belongs)) and float(read.abs().max()) < 25
