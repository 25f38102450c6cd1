"""Adversarial training: codes come to look like draws, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fraud_models.networks import ARCHITECTURES, build
from fraud_models.networks.discriminator import Discriminator
from tests.fraud_models.networks.test_architectures import CONFIG, NUM_CHANNELS, NUM_INPUTS, events

each = pytest.mark.parametrize("name", sorted(ARCHITECTURES))


def distance(codes: Tensor) -> float:
    """From a standard normal distribution, by mean and covariance."""
    mean, covariance = codes.mean(dim=0), torch.cov(codes.T)
    return float(mean.norm() + (covariance - torch.eye(codes.shape[1])).norm())


def test_codes_come_to_look_like_draws() -> None:
    torch.manual_seed(2)
    encoder = torch.nn.Linear(6, 2)
    judge = Discriminator(code_width=2, hidden_width=64)
    inputs = torch.randn(4096, 6) * 1.5 + 1
    before = distance(encoder(inputs).detach())
    adam = torch.optim.Adam([*encoder.parameters(), *judge.parameters()], lr=0.001)
    for step in range(1500):
        batch = inputs[(step % 16) * 256 : (step % 16 + 1) * 256]
        adam.zero_grad()
        judge.nats(encoder(batch)).mean().backward()
        adam.step()
    after = distance(encoder(inputs).detach())
    assert before > 1 and after < before / 3


@each
def test_every_architecture_has_the_option(name: str) -> None:
    torch.manual_seed(3)
    config = replace(CONFIG, architecture=name, adversarial_weight=0.5)
    model = build(config, NUM_INPUTS, NUM_CHANNELS).double().train()
    codes = model.encode(events()).flatten(0, 1)
    model.adversarial_nats(codes).mean().backward()
    for weight, values in model.named_parameters():
        # The decoder has no part in it; all that makes codes has, and the discriminator itself.
        part = not weight.startswith(("decoder", "raw_scale"))
        assert (values.grad is not None and bool(values.grad.abs().sum() > 0)) == part, weight


@each
def test_without_the_option_there_is_nothing_of_it(name: str) -> None:
    model = build(replace(CONFIG, architecture=name), NUM_INPUTS, NUM_CHANNELS)
    assert not [weight for weight, _ in model.named_parameters() if "discriminator" in weight]
    assert (model.adversarial_nats(torch.randn(5, CONFIG.code_width)) == 0).all()


def test_the_encoders_gradient_is_turned_round() -> None:
    torch.manual_seed(4)
    judge = Discriminator(code_width=2, hidden_width=8)
    codes = torch.randn(16, 2, requires_grad=True)
    torch.manual_seed(5)
    (turned,) = torch.autograd.grad(judge.nats(codes).sum(), codes)
    (straight,) = torch.autograd.grad(torch.nn.functional.softplus(judge(codes)).sum(), codes)
    torch.testing.assert_close(turned, -straight)
