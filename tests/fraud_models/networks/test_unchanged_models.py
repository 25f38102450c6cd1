"""Models without categories are what they were before categories existed, to the bit.

The digests of the weights were computed then. Errors are compared with the formulas of that time,
which stand below, and not with numbers: these differ in their last bits between processors.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from feature_defs.feature import CYCLES, Kind
from fraud_models.config import ModelConfig
from fraud_models.networks.fraud_head import FraudHead
from fraud_models.scoring.reconstruction import Reconstructor
from fraud_models.sequences.encoding import Encoding
from fraud_models.sequences.event_batch import iter_contexts
from fraud_models.training.objectives import ReconstructionObjective
from tests.fraud_models.conftest import (
    COLUMNS,
    LIMITS,
    make_stream,
    semi_supervised,
    small_config,
    small_encoding,
)

# Of the autoencoder without and with a discriminator, each with the head that is built after it.
WEIGHTS = {
    "convolution_autoencoder": (
        ("3a352652b86c42be", "2fdb08844d8ba8af"),
        ("c522e88fd9939041", "2083e727c9cc98d1"),
    ),
    "feed_forward_autoencoder": (
        ("c4f3f916796b0971", "16009724bce4e095"),
        ("e4c2d4399be6fe5a", "582c2e1a251f6ab8"),
    ),
    "gru_autoencoder": (
        ("9d224f0f3bfcedda", "273d402795d41f35"),
        ("98457c26e4df4409", "acfabf46da2ceeaf"),
    ),
    "lstm_autoencoder": (
        ("5d9349725e3d4b1c", "975fc62f1f37c0c4"),
        ("95895ed9ce20b57f", "ac723a2cdd3c41b6"),
    ),
    "transformer_autoencoder": (
        ("06225658ee218885", "1b5cf9d4443cef4e"),
        ("328e211caedef57c", "fddc962ce8197f41"),
    ),
}
# Sum of the errors of the same models over the stream of the test, in nats.
ERRORS = {
    "convolution_autoencoder": 368.6787963346578,
    "feed_forward_autoencoder": 365.16986269364133,
    "gru_autoencoder": 381.7020125524141,
    "lstm_autoencoder": 371.1998644284822,
    "transformer_autoencoder": 364.31826030936327,
}
# What a checkpoint of that time holds as its config's network.
NETWORK_SETTINGS = {
    "architecture": "lstm_autoencoder",
    "hidden_width": 12,
    "code_width": 2,
    "num_layers": 1,
    "dropout": 0.0,
    "kernel_width": 3,
    "num_heads": 4,
    "adversarial_weight": 0.0,
    "input_limit": 8.0,
    "scale_floor": 0.1,
    "degrees_of_freedom": 3.0,
    "amount_degrees_of_freedom": 30.0,
}
each = pytest.mark.parametrize("name", sorted(WEIGHTS))


def digest(state: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name, weight in state.items():
        found.update(name.encode() + str(tuple(weight.shape)).encode() + weight.numpy().tobytes())
    return found.hexdigest()[:16]


def config_of(name: str, adversarial_weight: float) -> ModelConfig:
    base = small_config()
    network = replace(
        base.network,
        architecture=name,
        num_layers=2,
        hidden_width=8,
        adversarial_weight=adversarial_weight,
    )
    return replace(base, network=network)


def fresh(name: str, adversarial_weight: float = 0.0) -> Reconstructor:
    torch.manual_seed(11)
    return Reconstructor(config_of(name, adversarial_weight), small_encoding())


@each
def test_fresh_weights_have_the_same_names_order_and_bits(name: str) -> None:
    for adversarial_weight, (of_network, of_head) in zip((0.0, 0.5), WEIGHTS[name], strict=True):
        network = fresh(name, adversarial_weight).network
        config = config_of(name, adversarial_weight)
        head = FraudHead.from_config(semi_supervised(config), small_encoding())
        assert digest(network.state_dict()) == of_network
        assert digest(head.state_dict()) == of_head


def earlier_channels(encoding: Encoding, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return channels and presence of values by the formulas of the first encoding."""
    present = ~torch.isnan(values)
    filled = torch.where(present, values, torch.zeros_like(values))
    scales = encoding.features
    logged = torch.tensor([scale.kind is Kind.COUNT for scale in scales])
    plain = torch.where(logged, torch.sign(filled) * torch.log1p(filled.abs()), filled)
    plain = (plain - torch.tensor([s.centre for s in scales])) / torch.tensor(
        [s.scale for s in scales]
    )
    (cyclic,) = (i for i, scale in enumerate(scales) if scale.kind in CYCLES)
    angle = filled[..., [cyclic]] * (2 * math.pi / CYCLES[scales[cyclic].kind])
    others = [i for i in range(len(scales)) if i != cyclic]
    channels = torch.cat([plain[..., others], torch.sin(angle), torch.cos(angle)], dim=-1)
    owner = [*others, cyclic, cyclic]
    return torch.where(present[..., owner], channels, torch.zeros_like(channels)), present


def earlier_errors(model: Reconstructor, values: Tensor, selected: Tensor) -> tuple[Tensor, Tensor]:
    """Return errors [N, F] and training losses [N] of the selected events, as computed then."""
    channels, present = earlier_channels(model.encoding, values)
    inputs = torch.cat([channels.clamp(-8.0, 8.0), (~present).float()], dim=-1)
    location = model.network.decode(model.network.encode(inputs)[selected])
    scale, present = model.network.scale(), present[selected]
    standardised = (channels[selected] - location) / scale
    nats = (model.freedom + 1) / 2 * torch.log1p(standardised**2 / model.freedom)
    sums = [
        torch.where(present, torch.zeros(present.shape).index_add(-1, model.owner, part), 0.0)
        for part in (nats, nats + torch.log(scale))
    ]
    return sums[0], sums[1].sum(dim=-1)


@each
def test_errors_and_losses_are_the_same_to_the_bit(name: str) -> None:
    model = fresh(name).eval()
    total = 0.0
    with torch.no_grad():
        for batch in iter_contexts([make_stream([1, 3, 70, 16, 17, 5, 33, 2])], COLUMNS, LIMITS):
            values, selected = torch.from_numpy(batch.values), torch.from_numpy(batch.roles == 1)
            expected, losses = earlier_errors(model, values, selected)
            found = model(values, selected).errors
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
            total += float(found.double().sum())
            objective = ReconstructionObjective(model).eval()
            weights = selected.float()
            assert objective(values, weights, weights) == losses.sum()
    assert total == pytest.approx(ERRORS[name], rel=1e-6)


def test_config_of_an_earlier_version_opens_and_means_the_same() -> None:
    written = small_config().to_dict()
    del written["max_categories"]
    written["network"] = NETWORK_SETTINGS
    assert ModelConfig.from_dict(written) == small_config()


def test_encoding_without_categories_is_written_as_before() -> None:
    written = small_encoding().to_dict()
    assert set(written) == {"features"}
    assert all(set(item) == {"name", "kind", "centre", "scale"} for item in written["features"])
