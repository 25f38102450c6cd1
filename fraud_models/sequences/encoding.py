"""Encode feature values as channels that a network reads and reconstructs, and decode them.

The encoding is fitted on quantiles of the training data and stored in the checkpoint. Per kind of
feature:

- counts, durations, ratios, distances, speeds: sign(x) log(1 + |x|), then centred on the median
  and divided by a robust standard deviation ((q90 - q10) / 2.563), with a floor, so that an almost
  constant column does not get huge values;
- amounts, ages, other numbers (a latitude, a deviation): the same without the logarithm. Five times
  the usual amount is a small step in logarithms and a large one in money; in logarithms the
  smallest payments would be the most anomalous;
- rates: divided by their root mean square, with a floor. A fraud rate is almost always zero, so
  its quantile range carries no information;
- probabilities (rates smoothed by a prior, so never 0 or 1): log odds, then centred and scaled as
for counts;
- hour of day and day of week: sine and cosine, two channels;
- categories: no channel. The value of such a column is its code in a vocabulary (`vocabulary.py`);
  the network looks up a vector for it, and predicts a probability of each class.

A missing value is encoded as 0, is marked by an indicator input, and costs exactly 0 nats.
Channels are ordered: one per plain column, then all sines, then all cosines. The outputs that have
an error are the channels, then the categorical columns.

Shapes: `C` channels, `F` columns, `K` of them categorical, `G` classes of all of these together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from feature_defs.catalogue import feature
from feature_defs.errors import FraudScoringError, UsageError
from feature_defs.feature import CYCLES, Kind
from fraud_models.config import NetworkConfig
from fraud_models.sequences.vocabulary import Vocabulary

NUM_QUANTILES = 101
# Distance of the 10th from the 90th percentile of a normal distribution, in standard deviations.
DEVIATIONS_Q10_TO_Q90 = 2.563
LOG_SCALE_FLOOR = 0.1
LINEAR_SCALE_FLOOR = 0.01
RATE_SCALE_FLOOR = 0.01
AGE_SCALE_FLOOR = 1.0
# In log odds: odds within a factor of e count as similar.
ODDS_SCALE_FLOOR = 1.0

LOGARITHMIC = frozenset({Kind.COUNT, Kind.DURATION_S, Kind.RATIO, Kind.DISTANCE_KM, Kind.SPEED_KMH})
# Scale floor of the kinds that are encoded without a logarithm, in the unit of the column.
LINEAR = {
    Kind.AMOUNT: LINEAR_SCALE_FLOOR,
    Kind.NUMBER: LINEAR_SCALE_FLOOR,
    Kind.AGE_YEARS: AGE_SCALE_FLOOR,
}


@dataclass(frozen=True)
class ColumnStatistics:
    """Statistics of one column over the training events, on which its encoding is fitted."""

    num_rows: int
    """Number of rows, nulls included."""
    num_null: int
    """Number of nulls."""
    quantiles: tuple[float, ...]
    """101 quantiles, of probability 0.00, 0.01, … 1.00; empty if every row is null."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "quantiles", tuple(float(value) for value in self.quantiles))
        if len(self.quantiles) not in (0, NUM_QUANTILES):
            raise UsageError(
                f"A column has {len(self.quantiles)} quantiles.",
                expected=f"{NUM_QUANTILES}, or none if all its values are null.",
                remedy="compute them for the probabilities 0.00, 0.01, … 1.00.",
            )


@dataclass(frozen=True)
class FeatureScale:
    """Centre and scale of one column, or the vocabulary of a categorical one."""

    name: str
    kind: Kind
    centre: float
    """Median, after the logarithm or log odds if the kind has one; 0 for categories."""
    scale: float
    """Size of one encoded unit, after the logarithm or log odds if the kind has one; 1 for
    categories."""
    vocabulary: Vocabulary | None = None
    """The values of a categorical column; unset for all other columns."""

    def __post_init__(self) -> None:
        if (self.kind is Kind.CATEGORY) != (self.vocabulary is not None):
            raise UsageError(
                f"The column {self.name} is of kind {self.kind.value} and has "
                f"{'no' if self.vocabulary is None else 'a'} vocabulary.",
                expected="a vocabulary for every categorical column, and for no other.",
                remedy="fit the encoding on the training events.",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the scale as plain values for JSON."""
        values = {**asdict(self), "kind": self.kind.value}
        del values["vocabulary"]
        # Columns without a vocabulary are written as they always were.
        return values | ({"vocabulary": self.vocabulary.to_dict()} if self.vocabulary else {})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FeatureScale:
        """Return the scale that `to_dict` wrote."""
        vocabulary = values.get("vocabulary")
        return cls(
            name=values["name"],
            kind=Kind(values["kind"]),
            centre=float(values["centre"]),
            scale=float(values["scale"]),
            vocabulary=Vocabulary.from_dict(vocabulary) if vocabulary else None,
        )


@dataclass(frozen=True)
class Encoding:
    """The fitted encoding of a model's columns, in order."""

    features: tuple[FeatureScale, ...]

    @classmethod
    def fit(
        cls, features: Sequence[str], statistics: Mapping[str, ColumnStatistics | Vocabulary]
    ) -> Encoding:
        """Fit on the statistics of the training events, one entry per feature column.

        The entry of a categorical column is its vocabulary.

        Raises:
            FraudScoringError: statistics of a column are missing, not finite or of another kind of
                column; compute them from the training events.
        """
        return cls(tuple(_fit(name, statistics.get(name)) for name in features))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the feature columns, in order."""
        return tuple(scale.name for scale in self.features)

    @property
    def channel_owner(self) -> tuple[int, ...]:
        """[C] index of the column that each channel belongs to."""
        return (*self._plain, *self._cyclic, *self._cyclic)

    @property
    def output_owner(self) -> tuple[int, ...]:
        """[C + K] index of the column of each output that has an error."""
        return (*self.channel_owner, *self.categorical)

    @property
    def categorical(self) -> tuple[int, ...]:
        """[K] indices of the categorical columns."""
        return tuple(i for i, scale in enumerate(self.features) if scale.vocabulary)

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """Vocabularies of the K categorical columns, by name in the order of the columns."""
        return {scale.name: scale.vocabulary for scale in self.features if scale.vocabulary}

    @property
    def class_counts(self) -> tuple[int, ...]:
        """[K] number of classes of each categorical column, `other` included; G is their sum."""
        return tuple(vocabulary.num_classes for vocabulary in self.vocabularies.values())

    def freedom(self, network: NetworkConfig) -> Tensor:
        """Return the degrees of freedom [C] of each channel's likelihood."""
        by_kind = {Kind.AMOUNT: network.amount_degrees_of_freedom}
        kinds = (self.features[owner].kind for owner in self.channel_owner)
        return torch.tensor([by_kind.get(kind, network.degrees_of_freedom) for kind in kinds])

    @property
    def num_channels(self) -> int:
        """C, the number of channels."""
        return len(self.channel_owner)

    @property
    def num_inputs(self) -> int:
        """Width of the network's input, C + F: channels and missing indicators; no vectors."""
        return self.num_channels + len(self.features)

    @property
    def _plain(self) -> tuple[int, ...]:
        without = {*self._cyclic, *self.categorical}
        return tuple(i for i in range(len(self.features)) if i not in without)

    @property
    def _cyclic(self) -> tuple[int, ...]:
        return tuple(i for i, scale in enumerate(self.features) if scale.kind in CYCLES)

    def encode(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return channels [..., C] and presence [..., F] of values [..., F], NaN where missing."""
        present = ~torch.isnan(values)
        filled = torch.where(present, values, torch.zeros_like(values))
        logarithmic = self._tensor([scale.kind in LOGARITHMIC for scale in self.features], values)
        logged = torch.sign(filled) * torch.log1p(filled.abs())
        plain = torch.where(logarithmic.bool(), logged, filled)
        probability = self._tensor([s.kind is Kind.PROBABILITY for s in self.features], values)
        plain = torch.where(probability.bool(), torch.logit(filled), plain)
        centre = self._tensor([scale.centre for scale in self.features], values)
        scale = self._tensor([scale.scale for scale in self.features], values)
        plain = (plain - centre) / scale
        owners = torch.tensor(self.channel_owner, device=values.device)
        num_plain = len(self._plain)
        cyclic = torch.tensor(self._cyclic, device=values.device, dtype=torch.long)
        period = self._tensor([CYCLES[self.features[i].kind] for i in self._cyclic], values)
        angle = filled[..., cyclic] * (2 * math.pi / period)
        parts = [plain[..., owners[:num_plain]], torch.sin(angle), torch.cos(angle)]
        channels = torch.cat(parts, dim=-1)
        return torch.where(present[..., owners], channels, torch.zeros_like(channels)), present

    def codes(self, values: Tensor) -> Tensor:
        """Return the codes [..., K] of values [..., F]; the number of classes where missing."""
        codes = values[..., list(self.categorical)]
        num_classes = self._tensor(self.class_counts, values)
        # A code of no vocabulary can only come from outside: it is `other`.
        known = torch.minimum(codes.clamp(min=0), num_classes - 1)
        return torch.where(torch.isnan(codes), num_classes, known).long()

    def inputs(self, channels: Tensor, present: Tensor, limit: float) -> Tensor:
        """Return the network's inputs [..., C + F]: clipped channels, then missing indicators.

        Channels are clipped at `limit` for the network only; the likelihood reads them unclipped.
        """
        clipped = channels.clamp(-limit, limit)
        return torch.cat([clipped, (~present).to(channels.dtype)], dim=-1)

    def decode(self, channels: Tensor, codes: Tensor | None = None) -> Tensor:
        """Return values [..., F] in the units of the columns from expected channels [..., C].

        The values of categorical columns are the expected codes [..., K].
        """
        num_plain = len(self._plain)
        num_cyclic = len(self._cyclic)
        sine = channels[..., num_plain : num_plain + num_cyclic]
        cosine = channels[..., num_plain + num_cyclic : num_plain + 2 * num_cyclic]
        columns: list[Tensor] = []
        plain = cyclic = category = 0
        for scale in self.features:
            if scale.vocabulary:
                assert codes is not None, "an encoding with categories decodes codes"
                columns.append(codes[..., category].to(channels.dtype))
                category += 1
                continue
            if scale.kind in CYCLES:
                turn = torch.atan2(sine[..., cyclic], cosine[..., cyclic]) / (2 * math.pi)
                period = CYCLES[scale.kind]
                # An angle just below 0 may round up to the full period, which is the same as 0.
                value = torch.remainder(turn, 1.0) * period
                columns.append(torch.where(value >= period, torch.zeros_like(value), value))
                cyclic += 1
                continue
            value = channels[..., plain] * scale.scale + scale.centre
            if scale.kind in LOGARITHMIC:
                value = torch.sign(value) * torch.expm1(value.abs())
            if scale.kind is Kind.PROBABILITY:
                value = torch.sigmoid(value)
            columns.append(value)
            plain += 1
        return torch.stack(columns, dim=-1)

    @staticmethod
    def _tensor(values: Sequence[float], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device)

    def to_dict(self) -> dict[str, Any]:
        """Return the encoding as plain values for JSON."""
        return {"features": [scale.to_dict() for scale in self.features]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Encoding:
        """Return the encoding that `to_dict` wrote."""
        return cls(tuple(FeatureScale.from_dict(item) for item in values["features"]))


def _fit(name: str, statistics: ColumnStatistics | Vocabulary | None) -> FeatureScale:
    kind = feature(name).kind
    if kind is Kind.CATEGORY and isinstance(statistics, Vocabulary):
        return FeatureScale(name, kind, centre=0.0, scale=1.0, vocabulary=statistics)
    quantiles = _finite_quantiles(statistics) if kind is not Kind.CATEGORY else None
    if quantiles is None:
        raise FraudScoringError(
            f"The statistics of {name} are missing or not finite.",
            expected="finite quantiles, or for a category a vocabulary, of every column.",
            remedy="compute them from the training events, without NaN and infinity.",
        )
    if kind in CYCLES or len(quantiles) == 0:
        return FeatureScale(name, kind, centre=0.0, scale=1.0)
    if kind is Kind.RATE:
        scale = max(float(np.sqrt(np.mean(quantiles**2))), RATE_SCALE_FLOOR)
        return FeatureScale(name, kind, centre=0.0, scale=scale)
    if kind in LINEAR:
        return FeatureScale(name, kind, *_robust(quantiles, LINEAR[kind]))
    if kind is Kind.PROBABILITY:
        odds = np.log(quantiles / (1 - quantiles))
        return FeatureScale(name, kind, *_robust(odds, ODDS_SCALE_FLOOR))
    logged = np.sign(quantiles) * np.log1p(np.abs(quantiles))
    return FeatureScale(name, kind, *_robust(logged, LOG_SCALE_FLOOR))


def _finite_quantiles(
    statistics: ColumnStatistics | Vocabulary | None,
) -> npt.NDArray[np.float64] | None:
    if not isinstance(statistics, ColumnStatistics):
        return None
    quantiles = np.array(statistics.quantiles, dtype=np.float64)
    return quantiles if np.isfinite(quantiles).all() else None


def _robust(quantiles: npt.NDArray[np.float64], floor: float) -> tuple[float, float]:
    """Return median and robust standard deviation."""
    spread = float(quantiles[90] - quantiles[10]) / DEVIATIONS_Q10_TO_Q90
    return float(quantiles[50]), max(spread, floor)
