"""Every architecture: causal, sensitive to history, and limited by its code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fraud_models import networks
from fraud_models.config import NetworkConfig
from fraud_models.networks import ARCHITECTURES, build
from fraud_models.networks.autoencoder import Autoencoder

NUM_INPUTS, NUM_CHANNELS = 12, 8
# Longer than two windows of the transformer, and not a multiple of one.
LENGTH, MOMENT = 300, 200
CONFIG = NetworkConfig(hidden_width=16, code_width=4, num_layers=3)
WITHOUT_HISTORY = {"feed_forward_autoencoder"}

CLASS_COUNTS = (3, 4)

each = pytest.mark.parametrize("name", sorted(ARCHITECTURES))


def network(name: str) -> Autoencoder:
    torch.manual_seed(3)
    return build(replace(CONFIG, architecture=name), NUM_INPUTS, NUM_CHANNELS).double().eval()


def network_with_categories(name: str) -> Autoencoder:
    torch.manual_seed(3)
    model = build(replace(CONFIG, architecture=name), NUM_INPUTS, NUM_CHANNELS, CLASS_COUNTS)
    for weight in model.embeddings.parameters():
        torch.nn.init.normal_(weight)
    return model.double().eval()


def events(num_sequences: int = 2, length: int = LENGTH) -> Tensor:
    torch.manual_seed(5)
    return torch.randn(num_sequences, length, NUM_INPUTS, dtype=torch.float64)


def test_every_architecture_has_its_own_file() -> None:
    folder = Path(networks.__file__).parent
    shared = {"__init__", "autoencoder", "fraud_head", "discriminator"}
    assert {path.stem for path in folder.glob("*.py")} - shared == set(ARCHITECTURES)


@each
def test_later_events_do_not_change_earlier_outputs(name: str) -> None:
    before = events()
    after = before.clone()
    after[:, MOMENT + 1 :] = 1e3 * torch.randn_like(after[:, MOMENT + 1 :])
    with torch.no_grad():
        one, other = (network(name)(inputs)[0] for inputs in (before, after))
    torch.testing.assert_close(one[:, : MOMENT + 1], other[:, : MOMENT + 1], rtol=0, atol=1e-12)
    assert (one[:, MOMENT + 1 :] != other[:, MOMENT + 1 :]).any()


@each
def test_order_of_earlier_events_changes_the_output(name: str) -> None:
    before = events()
    shuffled = before.clone()
    shuffled[:, :MOMENT] = before[:, torch.randperm(MOMENT)]
    with torch.no_grad():
        one, other = (network(name)(inputs)[0][:, MOMENT] for inputs in (before, shuffled))
    changed = (one - other).abs().max().item()
    assert changed == 0 if name in WITHOUT_HISTORY else changed > 1e-4


@each
def test_decoder_depends_on_the_code_only(name: str) -> None:
    with torch.no_grad():
        model = network(name)
        codes = model.encode(events())
        assert codes.shape == (2, LENGTH, CONFIG.code_width)
        torch.testing.assert_close(model.decode(codes), model(events())[0])
        # The Jacobian's rank is at most the width of the code.
        jacobian = torch.func.jacrev(model.decode)(codes[0, MOMENT])
    assert torch.linalg.matrix_rank(jacobian) <= CONFIG.code_width
    assert (model.scale() >= CONFIG.scale_floor).all()


@each
def test_output_is_independent_of_padding_and_batch(name: str) -> None:
    model, together = network(name), events(num_sequences=3)
    with torch.no_grad():
        whole = model(together)[0]
        for length in (1, 2, 63, 64, 65, LENGTH):
            alone = model(together[1:2, :length])[0]
            torch.testing.assert_close(alone, whole[1:2, :length], rtol=1e-9, atol=1e-12)


@each
def test_every_weight_for_categories_gets_a_gradient(name: str) -> None:
    categories = torch.stack([torch.randint(n + 1, (2, LENGTH)) for n in CLASS_COUNTS], dim=-1)
    model = network_with_categories(name).train()
    summaries = model.summarise(events(), categories)
    location, logits = model.decode(model.to_code(summaries)), model.logits(summaries)
    assert logits.shape == (2, LENGTH, sum(CLASS_COUNTS))
    (location.square().mean() + logits.square().mean() + model.scale().sum()).backward()
    assert len(model.embeddings) == (len(CLASS_COUNTS) if model.has_memory else 0)
    assert all(weight.grad.abs().sum() > 0 for weight in model.parameters())


@each
def test_every_weight_gets_a_gradient(name: str) -> None:
    model = network(name).train()
    location, scale = model(events())
    (location.square().mean() + scale.sum()).backward()
    without_gradient = [
        weight
        for weight, values in model.named_parameters()
        if values.grad is None or not values.grad.abs().sum() > 0
    ]
    assert without_gradient == []
