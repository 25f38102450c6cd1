"""Executors read categories as text and write texts in reasons; baselines read them too."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from fraud_models.config import BY_RARITY
from fraud_models.registry.checkpoint import save_checkpoint
from fraud_models.scoring.scorer import Scorer, score_stream
from tests.fraud_models.category_model import (
    CATEGORY_COLUMNS,
    PLACE,
    VOCABULARIES,
    category_model,
    category_stream,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from jobs.models.executor_functions import StoredModel

MODEL = category_model(BY_RARITY)

pytestmark = pytest.mark.spark

LENGTH = 12


@pytest.fixture
def stored(tmp_path: Path) -> StoredModel:
    from jobs.models.executor_functions import StoredModel

    return StoredModel(str(tmp_path / "model"), save_checkpoint(str(tmp_path / "model"), MODEL))


def events() -> pa.Table:
    """Return one card's events as executors get them, all to be scored."""
    table = pa.Table.from_batches([category_stream([LENGTH])])
    added = {
        "role": [1] * LENGTH,
        "business_date": [date(2018, 8, 1)] * LENGTH,
        "merchant_id": ["merchant"] * LENGTH,
        "amount": [Decimal(1)] * LENGTH,
    }
    for name, values in added.items():
        if name in table.column_names:
            table = table.drop([name])
        kind = pa.int32() if name == "role" else None
        table = table.append_column(name, pa.array(values, kind))
    return table


def frame(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(events().to_pandas()).coalesce(1)


def test_scores_of_executors_hold_the_texts(spark: SparkSession, stored: StoredModel) -> None:
    from jobs.models.contexts import SCORED_FIELDS, apply_stream
    from jobs.models.executor_functions import ModelStream

    (expected,) = score_stream(events().to_batches(), Scorer(MODEL), ("transaction_id",))
    wanted = {row["transaction_id"]: row for row in expected.to_pylist()}
    rows = apply_stream(frame(spark), ModelStream(score_stream, stored), SCORED_FIELDS).collect()
    assert len(rows) == LENGTH
    assert any(reason["observed_text"] for row in rows for reason in row["reasons"])
    for row in rows:
        reference = wanted[row["transaction_id"]]
        assert row["ranking_value"] == pytest.approx(reference["ranking_value"], rel=1e-5)
        assert [r["observed_text"] for r in row["reasons"]] == [
            r["observed_text"] for r in reference["reasons"]
        ]


def test_explanation_has_the_texts_of_categories(spark: SparkSession, stored: StoredModel) -> None:
    from pyspark.sql import functions as F

    from jobs.lineage.explanation import EXPLAINED_FIELDS
    from jobs.models.executor_functions import ExplainStream, FeatureContribution

    place = events().column(PLACE).to_pylist()[3]
    assert place is not None
    target = (F.col("transaction_id") == "tx-000003").cast("int")
    stream = frame(spark).withColumn("role", target)
    rows = stream.mapInArrow(ExplainStream(stored), EXPLAINED_FIELDS).collect()
    parts = {row["feature"]: FeatureContribution(*row) for row in rows}
    assert tuple(parts) == CATEGORY_COLUMNS
    assert (parts[PLACE].observed, parts[PLACE].observed_text) == (None, place)
    assert parts["card_count_7d"].observed_text is None


def test_baselines_get_codes_of_the_models_vocabulary(spark: SparkSession) -> None:
    from jobs.evaluation.baselines import _as_column, _values

    columns = (PLACE, "card_count_7d")
    codes = VOCABULARIES[PLACE].codes(events().column(PLACE).combine_chunks())
    values = _values(frame(spark), columns, VOCABULARIES)
    np.testing.assert_array_equal(values[:, 0], codes)
    first = _as_column(lambda numbers: np.nan_to_num(numbers[:, 0], nan=-1), columns, VOCABULARIES)
    found = [row[0] for row in frame(spark).select(first).collect()]
    assert found == np.nan_to_num(codes, nan=-1).tolist()
