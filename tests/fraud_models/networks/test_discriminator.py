"""Adversarial training: the distribution of codes approaches a normal distribution."""

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
    """Return the distance from a standard normal distribution, by mean and covariance."""
    mean, covariance = codes.mean(dim=0), torch.cov(codes.T)
    return float(mean.norm() + (covariance - torch.eye(codes.shape[1])).norm())


def test_adversarial_training_makes_codes_normal() -> None:
    torch.manual_seed(2)
    encoder = torch.nn.Linear(6, 2)
    discriminator = Discriminator(code_width=2, hidden_width=64)
    inputs = torch.randn(4096, 6) * 1.5 + 1
    before = distance(encoder(inputs).detach())
    adam = torch.optim.Adam([*encoder.parameters(), *discriminator.parameters()], lr=0.001)
    for step in range(1500):
        batch = inputs[(step % 16) * 256 : (step % 16 + 1) * 256]
        adam.zero_grad()
        discriminator.loss(encoder(batch)).mean().backward()
        adam.step()
    after = distance(encoder(inputs).detach())
    assert before > 1 and after < before / 3


@each
def test_adversarial_loss_trains_encoder_and_discriminator(name: str) -> None:
    torch.manual_seed(3)
    config = replace(CONFIG, architecture=name, adversarial_weight=0.5)
    model = build(config, NUM_INPUTS, NUM_CHANNELS).double().train()
    codes = model.encode(events()).flatten(0, 1)
    model.adversarial_loss(codes).mean().backward()
    for weight, values in model.named_parameters():
        # Encoder and discriminator get gradients; decoder and scales do not.
        is_trained = not weight.startswith(("decoder", "raw_scale"))
        has_gradient = values.grad is not None and bool(values.grad.abs().sum() > 0)
        assert has_gradient == is_trained, weight


@each
def test_zero_adversarial_weight_has_no_discriminator(name: str) -> None:
    model = build(replace(CONFIG, architecture=name), NUM_INPUTS, NUM_CHANNELS)
    assert not [weight for weight, _ in model.named_parameters() if "discriminator" in weight]
    assert (model.adversarial_loss(torch.randn(5, CONFIG.code_width)) == 0).all()


def test_gradient_to_the_encoder_is_reversed() -> None:
    torch.manual_seed(4)
    discriminator = Discriminator(code_width=2, hidden_width=8)
    codes = torch.randn(16, 2, requires_grad=True)
    torch.manual_seed(5)
    (reversed_gradient,) = torch.autograd.grad(discriminator.loss(codes).sum(), codes)
    (gradient,) = torch.autograd.grad(
        torch.nn.functional.softplus(discriminator(codes)).sum(), codes
    )
    torch.testing.assert_close(reversed_gradient, -gradient)
