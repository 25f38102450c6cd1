"""Objectives where there is nothing to learn from."""

from __future__ import annotations

import pytest

from feature_defs.feature import Kind
from fraud_models.encoding import Encoding, FeatureScale
from fraud_models.networks.fraud_head import FraudHead
from fraud_models.objectives import HeadObjective, ReconstructionObjective
from fraud_models.reconstruction import Reconstructor
from fraud_models.training import nothing
from tests.fraud_models.conftest import semi_supervised, small_config

# One of each kind: 0 has no finite log odds.
ENCODING = Encoding(tuple(FeatureScale(kind.value, kind, centre=0.5, scale=2.0) for kind in Kind))


@pytest.mark.parametrize("with_head", [False, True])
def test_a_rank_without_rows_changes_no_weight(with_head: bool) -> None:
    config = semi_supervised(small_config())
    reconstructor = Reconstructor(config, ENCODING)
    head = FraudHead.of(config, ENCODING)
    objective = (
        HeadObjective(reconstructor, head) if with_head else ReconstructionObjective(reconstructor)
    )
    learner = head if with_head else reconstructor.network
    loss = objective.train()(*nothing(len(ENCODING.columns)))
    assert loss.item() == 0.0
    loss.backward()
    for name, weight in learner.named_parameters():
        assert weight.grad is not None and (weight.grad == 0).all(), name
