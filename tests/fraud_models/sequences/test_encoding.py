"""Encoding of values as channels, and decoding."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from feature_defs.errors import FraudScoringError, UsageError
from feature_defs.feature import Feature, Kind
from fraud_models.networks import build
from fraud_models.scoring.likelihood import channel_nats, feature_nats, weighted_sum
from fraud_models.sequences.encoding import ColumnStatistics, Encoding, FeatureScale
from fraud_models.sequences.vocabulary import Vocabulary
from tests.fraud_models.category_model import (
    CATEGORY_FEATURES,
    PLACE,
    category_encoding,
    features_in_the_catalogue,
)
from tests.fraud_models.conftest import COLUMNS, small_config, small_encoding

amounts = st.floats(-1e6, 1e6)
hours = st.floats(0, 23.99)
rates = st.floats(0, 1)


@given(amounts, hours, st.integers(0, 5000), rates)
def test_decode_inverts_encode(amount: float, hour: float, count: int, rate: float) -> None:
    values = torch.tensor([[amount, hour, float(count), rate]], dtype=torch.float64)
    encoding = small_encoding()
    channels, present = encoding.encode(values)
    assert present.all()
    decoded = encoding.decode(channels)
    np.testing.assert_allclose(decoded.numpy(), values.numpy(), rtol=1e-5, atol=1e-5)


def test_missing_values_are_zero_marked_and_cost_nothing() -> None:
    encoding = small_encoding()
    values = torch.tensor([[20.0, 3.0, 2.0, 0.1], [torch.nan] * 4])
    channels, present = encoding.encode(values)
    assert (channels[1] == 0).all()
    inputs = encoding.inputs(channels, present, limit=8.0)
    assert inputs.shape == (2, encoding.num_inputs)
    assert inputs[:, encoding.num_channels :].tolist() == [[0.0] * 4, [1.0] * 4]
    nats = channel_nats(
        channels,
        torch.full_like(channels, 3.0),
        torch.ones(encoding.num_channels),
        torch.tensor(3.0),
    )
    features = feature_nats(nats, present, torch.tensor(encoding.channel_owner))
    assert (features[1] == 0).all()
    assert (features[0] > 0).all()
    np.testing.assert_allclose(features[0].sum(), nats[0].sum(), rtol=1e-6)


def test_hours_before_and_after_midnight_are_close() -> None:
    encoding = small_encoding()
    late, early = (
        encoding.encode(torch.tensor([[20.0, hour, 2.0, 0.0]]))[0] for hour in (23.99, 0.01)
    )
    np.testing.assert_allclose(late, early, atol=0.01)


def test_constant_columns_give_bounded_channels() -> None:
    statistics = {name: ColumnStatistics(10, 0, (0.0,) * 101) for name in COLUMNS}
    encoding = Encoding.fit(COLUMNS, statistics)
    channels, _ = encoding.encode(torch.tensor([[1.0, 0.0, 1.0, 1.0]]))
    assert torch.isfinite(channels).all() and channels.abs().max() <= 1000


def test_fit_accepts_a_column_of_nulls() -> None:
    statistics = {name: ColumnStatistics(10, 10, ()) for name in COLUMNS}
    assert Encoding.fit(COLUMNS, statistics).columns == COLUMNS


def test_round_trip() -> None:
    encoding = small_encoding()
    assert Encoding.from_dict(json.loads(json.dumps(encoding.to_dict()))) == encoding


def test_invalid_statistics_are_rejected() -> None:
    with pytest.raises(UsageError, match="3 quantiles"):
        ColumnStatistics(10, 0, (1.0, 2.0, 3.0))
    nan = ColumnStatistics(10, 0, (float("nan"),) * 101)
    for statistics in ({}, {COLUMNS[0]: nan}):
        with pytest.raises(FraudScoringError, match="transaction_amount are missing or not finite"):
            Encoding.fit(COLUMNS, statistics)


def test_scales_are_at_least_the_floor() -> None:
    config = small_config().network
    network = build(config, num_inputs=9, num_channels=5)
    torch.nn.init.constant_(network.raw_scale, -1000.0)
    assert (network.scale() >= config.scale_floor).all()


def test_weighted_sum_ignores_nan_with_weight_zero() -> None:
    nats = torch.tensor([1.0, torch.nan, 3.0])
    assert weighted_sum(nats, torch.tensor([1.0, 0.0, 2.0])).item() == 7.0


def quantiles_of(kind: Kind, values: np.ndarray) -> FeatureScale:
    """Return the fitted scale of a column of this kind with these quantiles."""
    name = f"transaction_{kind.value}"
    with features_in_the_catalogue({name: Feature(name, kind, "For this test.")}):
        statistics = {name: ColumnStatistics(1000, 0, tuple(values))}
        return Encoding.fit((name,), statistics).features[0]


def test_numbers_and_ages_are_linear_and_distances_and_speeds_logarithmic() -> None:
    p = np.linspace(0, 1, 101)
    latitude = quantiles_of(Kind.NUMBER, -10 + 20 * p)
    assert latitude.centre == pytest.approx(0) and latitude.scale == pytest.approx(16 / 2.563)
    assert quantiles_of(Kind.AGE_YEARS, np.full(101, 40.0)).scale == 1.0
    for kind in (Kind.DISTANCE_KM, Kind.SPEED_KMH):
        scale = quantiles_of(kind, 1000 * p)
        assert scale.centre == pytest.approx(np.log1p(500))
        encoding = Encoding((scale,))
        values = torch.tensor([[0.0], [3.0], [2e4]], dtype=torch.float64)
        channels, _ = encoding.encode(values)
        torch.testing.assert_close(encoding.decode(channels), values)
        steps = channels[2] - channels[1]
        assert float(steps) == pytest.approx(float(np.log(20001 / 4)) / scale.scale)


def test_negative_numbers_survive_the_round_trip() -> None:
    scale = quantiles_of(Kind.NUMBER, np.linspace(-180, 180, 101))
    values = torch.tensor([[-179.5], [0.0], [12.25]], dtype=torch.float64)
    channels, _ = Encoding((scale,)).encode(values)
    torch.testing.assert_close(Encoding((scale,)).decode(channels), values)


def test_category_is_fitted_by_its_vocabulary_and_a_number_by_its_quantiles() -> None:
    vocabulary, numbers = Vocabulary(("a",)), ColumnStatistics(10, 0, (0.0,) * 101)
    with features_in_the_catalogue(CATEGORY_FEATURES):
        fitted = Encoding.fit((PLACE,), {PLACE: vocabulary})
        assert fitted.vocabularies == {PLACE: vocabulary}
        assert (fitted.num_channels, fitted.num_inputs, fitted.class_counts) == (0, 1, (2,))
        assert Encoding.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted
        for name, other in ((PLACE, numbers), (COLUMNS[0], vocabulary)):
            with pytest.raises(FraudScoringError, match=f"{name} are missing"):
                Encoding.fit((name,), {name: other})
    for kind, wrong in ((Kind.CATEGORY, None), (Kind.COUNT, vocabulary)):
        with pytest.raises(UsageError, match="vocabulary"):
            FeatureScale("x", kind, 0.0, 1.0, wrong)


def test_channels_of_numbers_ignore_categories_between_them() -> None:
    values = torch.tensor([[20.0, 3.0, 2.0, 0.1], [torch.nan] * 4])
    encoding = category_encoding()
    mixed = torch.zeros(2, len(encoding.columns))
    places = [encoding.columns.index(name) for name in COLUMNS]
    mixed[:, places] = values
    alone, _ = small_encoding().encode(values)
    channels, present = encoding.encode(mixed)
    assert channels.equal(alone)
    assert present[:, list(encoding.categorical)].all()
    codes = torch.tensor([[1, 2], [0, 0]])
    decoded = encoding.decode(channels, codes)
    assert decoded[:, places].equal(small_encoding().decode(alone))
    assert decoded[:, list(encoding.categorical)].equal(codes.float())
