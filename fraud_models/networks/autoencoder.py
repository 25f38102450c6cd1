"""Base class of all architectures: a causal autoencoder with a narrow code per event.

Shapes: `B` sequences, `L` events, `I` inputs, `H` hidden, `Z` code, `C` channels, `K` categorical
columns with `G` classes in total.

The encoder reads events up to and including `t` and compresses them into the code `z_t`. The
decoder reads only the code and predicts event `t`: a location per channel. Behaviour that fits the
card's past and that of other cards passes through the narrow code; any other behaviour increases
the error. The scale per channel is one learned number with a floor. It is not predicted per event,
because the network could then declare its most anomalous events uncertain and so reduce their
error.

A category is expected, not reconstructed: its logits come from the history and from the event's
channels, but never from the event's own category. A class, unlike a number, can be copied without
loss, so a network that had read it would reproduce it; and in a code of a few numbers it would
compete with the channels. So an event's inputs hold the vectors of the previous event's categories,
and the logits pass by the code. An architecture without memory reads no category.

An architecture implements only `encode_history`, so two architectures differ in nothing else.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from fraud_models.config import NetworkConfig
from fraud_models.networks.discriminator import Discriminator

# Initial scale above the floor.
INITIAL_SCALE = 0.2


def recurrent(
    cell: type[nn.LSTM | nn.GRU], config: NetworkConfig, num_inputs: int
) -> nn.LSTM | nn.GRU:
    """Return a recurrent history encoder of `num_layers`, [B, L, I] to [B, L, H]."""
    return cell(
        num_inputs,
        config.hidden_width,
        num_layers=config.num_layers,
        batch_first=True,
        dropout=config.dropout if config.num_layers > 1 else 0.0,
    )


def category_embeddings(
    class_counts: tuple[int, ...], width: int, *, missing_is_zero: bool = False
) -> nn.ModuleList:
    """Return K tables of vectors: one vector per class, and one for a missing value.

    All start at 0, so a class that training never saw, such as `other` where every value has a code
    of its own, adds nothing. With `missing_is_zero` the vector of a missing value stays 0.
    """
    tables = (
        nn.Embedding(count + 1, width, padding_idx=count if missing_is_zero else None)
        for count in class_counts
    )
    embeddings = nn.ModuleList(tables)
    for table in embeddings.parameters():
        nn.init.zeros_(table)
    return embeddings


def embed(embeddings: nn.ModuleList, categories: Tensor) -> Tensor:
    """Return the vectors [..., K * width] of codes [..., K]."""
    parts = [table(categories[..., k]) for k, table in enumerate(embeddings)]
    return torch.cat(parts, dim=-1)


class Autoencoder(nn.Module, ABC):
    """Encoder, code and decoder; `forward` returns locations and scales."""

    has_memory = True
    """Whether the encoding of an event reads earlier ones."""

    def __init__(
        self,
        config: NetworkConfig,
        num_inputs: int,
        num_channels: int,
        class_counts: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        vectors = class_counts if self.has_memory else ()
        num_inputs += len(vectors) * config.category_width
        self.code_width = config.code_width
        self.scale_floor = config.scale_floor
        self.build_history_encoder(config, num_inputs)
        self.dropout = nn.Dropout(config.dropout)
        self.to_code = nn.Linear(config.hidden_width + num_inputs, config.code_width)
        self.decoder = nn.Sequential(
            nn.Linear(config.code_width, config.hidden_width),
            nn.GELU(),
            nn.Linear(config.hidden_width, config.hidden_width),
            nn.GELU(),
            nn.Linear(config.hidden_width, num_channels),
        )
        self.adversarial_weight = config.adversarial_weight
        if config.adversarial_weight:
            self.discriminator = Discriminator(config.code_width, config.hidden_width)
        start = math.log(math.expm1(INITIAL_SCALE))
        self.raw_scale = nn.Parameter(torch.full((num_channels,), start))
        self.embeddings = category_embeddings(vectors, config.category_width)
        if class_counts:
            self.expect_categories = nn.Sequential(
                nn.Linear(config.hidden_width + num_inputs, config.hidden_width),
                nn.GELU(),
                nn.Linear(config.hidden_width, sum(class_counts)),
            )

    @abstractmethod
    def build_history_encoder(self, config: NetworkConfig, num_inputs: int) -> None:
        """Create the modules that `encode_history` uses."""

    @abstractmethod
    def encode_history(self, inputs: Tensor) -> Tensor:
        """Encode inputs [B, L, I] as history [B, L, H]; `t` depends on events up to `t` only."""

    def summarise(self, inputs: Tensor, categories: Tensor | None = None) -> Tensor:
        """Return what is known at each event, [B, L, H + I]; `t` depends on events up to `t` only.

        `inputs` [B, L, C + F] are channels and missing indicators, `categories` [B, L, K] the codes
        of the categorical columns, if there are any. Those of `t` itself are not part of it.
        """
        if len(self.embeddings):
            assert categories is not None, "a network with categories needs their codes"
            inputs = torch.cat([inputs, self._vectors(categories)], dim=-1)
        hidden = self.dropout(self.encode_history(inputs))
        return torch.cat([hidden, inputs], dim=-1)

    def encode(self, inputs: Tensor, categories: Tensor | None = None) -> Tensor:
        """Return codes [B, L, Z]; arguments as of `summarise`."""
        codes: Tensor = self.to_code(self.summarise(inputs, categories))
        return codes

    def logits(self, summaries: Tensor) -> Tensor:
        """Return a logit per class, [..., G], of summaries [..., H + I]."""
        logits: Tensor = self.expect_categories(summaries)
        return logits

    def _vectors(self, categories: Tensor) -> Tensor:
        """Return the vectors [B, L, K * width] of the previous event; 0 before the first one."""
        vectors = embed(self.embeddings, categories)
        return functional.pad(vectors, (0, 0, 1, 0))[:, :-1]

    def adversarial_loss(self, codes: Tensor) -> Tensor:
        """Return the added training loss [N] of codes [N, Z] in nats; 0 without discriminator."""
        if not self.adversarial_weight:
            return torch.zeros_like(codes[:, 0])
        return self.adversarial_weight * self.discriminator.loss(codes)

    def decode(self, codes: Tensor) -> Tensor:
        """Return locations [..., C] of codes [..., Z]."""
        location: Tensor = self.decoder(codes)
        return location

    def scale(self) -> Tensor:
        """Return the scales [C], each at least the floor."""
        return self.scale_floor + functional.softplus(self.raw_scale)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return locations [B, L, C] and scales [C] of inputs [B, L, I], without categories."""
        return self.decode(self.encode(inputs)), self.scale()
