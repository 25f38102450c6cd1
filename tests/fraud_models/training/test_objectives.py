"""Objectives in bfloat16 autocast, and on a step without events."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from feature_defs.feature import Kind
from fraud_models.networks.fraud_head import FraudHead
from fraud_models.scoring.reconstruction import Reconstructor
from fraud_models.sequences.encoding import Encoding, FeatureScale
from fraud_models.sequences.vocabulary import Vocabulary
from fraud_models.training.head_dataset import empty_head_step
from fraud_models.training.objectives import HeadObjective, ReconstructionObjective
from fraud_models.training.prefetch import Step, empty_batch
from tests.fraud_models.conftest import semi_supervised, small_config

# One feature of each kind; the log odds of 0 are not finite.
PLACES = Vocabulary(("home", "town"))
ENCODING = Encoding(
    tuple(
        FeatureScale(kind.value, kind, 0.5, 2.0, PLACES if kind is Kind.CATEGORY else None)
        for kind in Kind
    )
)


def objective_of(with_head: bool) -> tuple[nn.Module, nn.Module, Step]:
    """Return the objective of a fresh model, the module it trains, and an empty step."""
    config = semi_supervised(small_config())
    # Not every CPU supports recurrent networks in bfloat16.
    network = replace(config.network, architecture="feed_forward_autoencoder")
    config = replace(config, network=network)
    torch.manual_seed(1)
    if with_head:
        head = FraudHead.from_config(config, ENCODING)
        return HeadObjective(head).train(), head, empty_head_step(sum(head.widths))
    reconstructor = Reconstructor(config, ENCODING)
    objective = ReconstructionObjective(reconstructor).train()
    return objective, reconstructor.network, empty_batch(len(ENCODING.columns))


@pytest.mark.parametrize("with_head", [False, True])
def test_loss_in_bfloat16_autocast_stays_float32(with_head: bool) -> None:
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
def test_empty_step_has_zero_gradients(with_head: bool) -> None:
    objective, learner, step = objective_of(with_head)
    loss = objective(*step)
    assert loss.item() == 0.0
    loss.backward()
    for name, weight in learner.named_parameters():
        assert weight.grad is not None and (weight.grad == 0).all(), name
