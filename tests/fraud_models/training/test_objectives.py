"""Objectives where there is nothing to learn from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from feature_defs.feature import Kind
from fraud_models.networks.fraud_head import FraudHead
from fraud_models.scoring.reconstruction import Reconstructor
from fraud_models.sequences.encoding import Encoding, FeatureScale
from fraud_models.training.head_dataset import no_event
from fraud_models.training.objectives import HeadObjective, ReconstructionObjective
from fraud_models.training.prefetch import Step, nothing
from tests.fraud_models.conftest import semi_supervised, small_config

# One of each kind: 0 has no finite log odds.
ENCODING = Encoding(tuple(FeatureScale(kind.value, kind, centre=0.5, scale=2.0) for kind in Kind))


def objective_of(with_head: bool) -> tuple[nn.Module, nn.Module, Step]:
    """The objective of a fresh model, what it teaches, and a step without an event."""
    config = semi_supervised(small_config())
    # Not every CPU has a recurrent network in bfloat16.
    network = replace(config.network, architecture="feed_forward_autoencoder")
    config = replace(config, network=network)
    torch.manual_seed(1)
    if with_head:
        head = FraudHead.of(config, ENCODING)
        return HeadObjective(head).train(), head, no_event(sum(head.widths))
    reconstructor = Reconstructor(config, ENCODING)
    objective = ReconstructionObjective(reconstructor).train()
    return objective, reconstructor.network, nothing(len(ENCODING.columns))


@pytest.mark.parametrize("with_head", [False, True])
def test_products_in_bfloat16_leave_a_loss_in_float32(with_head: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    objective, learner, (like, *_) = objective_of(with_head)
    shape = (4, 30, like.shape[-1])[with_head:]
    values = torch.rand(shape, generator=generator)
    labels = (torch.rand(shape[:-1], generator=generator) > 0.9).float()
    exact = objective(values, torch.ones(shape[:-1]), labels)
    with torch.autocast("cpu", torch.bfloat16):
        rough = objective(values, torch.ones(shape[:-1]), labels)
    assert rough.dtype == torch.float32
    assert rough.item() != exact.item()
    assert rough.item() == pytest.approx(exact.item(), rel=0.01)
    rough.backward()
    assert all(bool(weight.grad.isfinite().all()) for weight in learner.parameters())


@pytest.mark.parametrize("with_head", [False, True])
def test_a_rank_without_rows_changes_no_weight(with_head: bool) -> None:
    objective, learner, step = objective_of(with_head)
    loss = objective(*step)
    assert loss.item() == 0.0
    loss.backward()
    for name, weight in learner.named_parameters():
        assert weight.grad is not None and (weight.grad == 0).all(), name
