"""The supervised head and its contributions to the log odds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fraud_models.config import HeadConfig
from fraud_models.networks.fraud_head import FraudHead, HeadCategories

OWNER, NUM_COLUMNS, CODE_WIDTH = (0, 1, 2, 1), 4, 2
# The last column is a category of three classes.
CATEGORIES = HeadCategories(columns=(3,), class_counts=(3,), width=2)
MISSING = 3
KNOTS = (-8.0, -1.0, 0.0, 1.0, 8.0)


@pytest.fixture(params=[(), KNOTS], ids=["without knots", "with knots"])
def head(request: pytest.FixtureRequest) -> FraudHead:
    """Return a head with large weights, so that it is as nonlinear as a trained one."""
    torch.manual_seed(5)
    config = HeadConfig(hidden_width=16, knots=request.param)
    fraud_head = FraudHead(config, OWNER, NUM_COLUMNS, CODE_WIDTH, CATEGORIES)
    torch.nn.init.normal_(fraud_head.embeddings[0].weight[:MISSING])
    with torch.no_grad():
        for weight in fraud_head.parameters():
            weight *= 3
    return fraud_head.eval()


def inputs(head: FraudHead, rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(6)
    channels, errors, codes = (
        torch.randn(rows, width, generator=generator) * 3
        for width in (len(OWNER), NUM_COLUMNS, CODE_WIDTH)
    )
    categories = torch.randint(MISSING + 1, (rows, 1), generator=generator)
    with torch.no_grad():
        return head.inputs(channels, errors.abs(), codes, categories)


def reference(head: FraudHead) -> torch.Tensor:
    return torch.zeros(1, len(head.input_owner))


def test_contributions_sum_to_log_odds_above_the_reference(head: FraudHead) -> None:
    events = inputs(head, 200)
    with torch.no_grad():
        above = (head(events) - head(reference(head))).double()
    shares = head.contributions(events)
    assert shares.shape == (200, NUM_COLUMNS + 1)
    np.testing.assert_allclose(shares.sum(dim=-1).numpy(), above.numpy(), rtol=1e-9, atol=1e-9)


def test_quadrature_error_is_small(head: FraudHead, monkeypatch: pytest.MonkeyPatch) -> None:
    from fraud_models.networks import fraud_head

    events = inputs(head, 200)
    shares = head.contributions(events)
    monkeypatch.setattr(fraud_head, "NUM_QUADRATURE_POINTS", 200)
    exact = head.contributions(events)
    size = exact.abs().sum(dim=-1, keepdim=True)
    assert float(((shares - exact).abs() / size).max()) < 0.01


def test_contributions_are_integrated_gradients(head: FraudHead) -> None:
    (event,) = inputs(head, 1)
    steps = (torch.arange(2000) + 0.5) / 2000
    line = (event * steps[:, None]).requires_grad_(True)
    (gradient,) = torch.autograd.grad(head(line).sum(), line)
    of_inputs = (event * gradient.mean(dim=0)).double()
    expected = of_inputs @ head.input_owner
    (shares,) = head.contributions(event[None])
    np.testing.assert_allclose(
        shares.numpy(), expected.numpy(), atol=0.01 * float(expected.abs().sum())
    )


def test_reference_event_has_zero_contributions(head: FraudHead) -> None:
    zeros = torch.zeros(1, len(OWNER)), torch.zeros(1, NUM_COLUMNS), torch.zeros(1, CODE_WIDTH)
    event = head.inputs(*zeros, torch.full((1, 1), MISSING))
    assert (event == 0).all()
    assert (head.contributions(event) == 0).all()


def test_each_input_contributes_to_its_own_column_only(head: FraudHead) -> None:
    widths = (len(OWNER), NUM_COLUMNS, CODE_WIDTH)
    owners = [*OWNER, *range(NUM_COLUMNS), *([NUM_COLUMNS] * CODE_WIDTH)]
    for index, owner in enumerate(owners):
        one = torch.zeros(1, sum(widths))
        one[0, index] = 2.0
        missing = torch.full((1, 1), MISSING)
        shares = head.contributions(head.inputs(*one.split(widths, dim=-1), missing))[0]
        others = [column for column in range(NUM_COLUMNS + 1) if column != owner]
        assert shares[owner] != 0 and (shares[others] == 0).all()


def test_category_contributes_to_its_own_column_only(head: FraudHead) -> None:
    zeros = [torch.zeros(3, width) for width in (len(OWNER), NUM_COLUMNS, CODE_WIDTH)]
    shares = head.contributions(head.inputs(*zeros, torch.arange(3)[:, None]))
    assert (shares[:, 3] != 0).all() and (shares[:, [0, 1, 2, 4]] == 0).all()


def test_vector_of_a_missing_category_is_not_learned(head: FraudHead) -> None:
    zeros = [torch.zeros(4, width) for width in (len(OWNER), NUM_COLUMNS, CODE_WIDTH)]
    head(head.inputs(*zeros, torch.arange(4)[:, None])).sum().backward()
    gradient = head.embeddings[0].weight.grad
    assert gradient is not None
    assert (gradient[:MISSING] != 0).any(dim=1).all() and (gradient[MISSING] == 0).all()


def test_piecewise_encoding_gives_the_filled_share() -> None:
    head = FraudHead(HeadConfig(knots=KNOTS), (0,), 1, 1)
    zeros = torch.zeros(4, 1)
    encoded = head.inputs(torch.tensor([[-1e9], [-0.5], [0.25], [4.5]]), zeros, zeros, zeros[:, :0])
    assert encoded[:, :4].tolist() == [
        [-1, -1, 0, 0],
        [0, -0.5, 0, 0],
        [0, 0, 0.25, 0],
        [0, 0, 1, 0.5],
    ]


def test_inputs_are_bounded(head: FraudHead) -> None:
    extreme = (torch.full((1, n), 1e9) for n in (len(OWNER), NUM_COLUMNS, CODE_WIDTH))
    event = head.inputs(*extreme, torch.zeros(1, 1, dtype=torch.long))
    assert event.shape == (1, len(head.input_owner)) and float(event.abs().max()) < 25
