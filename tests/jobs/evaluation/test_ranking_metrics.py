"""Ranking metrics over rows in Spark equal those of scikit-learn, also with ties."""

from __future__ import annotations

import math
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pytest

from feature_defs.errors import InputMissing

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.spark

SCHEMA = "business_date date, card_id string, transaction_id string, is_fraud boolean, value double"


def rows(spark: SparkSession, values: list[float], frauds: list[bool]) -> DataFrame:
    table = [
        (date(2024, 3, 1 + n % 2), f"c{n % 5}", f"t{n:04d}", fraud, value)
        for n, (value, fraud) in enumerate(zip(values, frauds, strict=True))
    ]
    return spark.createDataFrame(table, SCHEMA).repartition(3)


def test_ranking_metrics_equal_scikit_learn(spark: SparkSession) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    from jobs.evaluation.ranking_metrics import ranking_metrics

    rng = np.random.default_rng(3)
    frauds = rng.random(400) < 0.2
    values = np.round(rng.normal(size=400) + frauds, 1)
    found = ranking_metrics(rows(spark, values.tolist(), frauds.tolist()), "value", k=2)
    assert (found.num_transactions, found.num_frauds) == (400, int(frauds.sum()))
    assert found.roc_auc == pytest.approx(roc_auc_score(frauds, values), rel=1e-12)
    assert found.average_precision == pytest.approx(
        average_precision_score(frauds, values), rel=1e-12
    )


def test_card_precision_ignores_cards_detected_earlier(spark: SparkSession) -> None:
    from jobs.evaluation.ranking_metrics import ranking_metrics

    # Card c0 ranks first with a fraud on both nights; on the second night it is removed.
    table = [
        (date(2024, 3, 1), "c0", "a", True, 9.0),
        (date(2024, 3, 1), "c1", "b", False, 8.0),
        (date(2024, 3, 2), "c0", "c", True, 9.0),
        (date(2024, 3, 2), "c1", "d", False, 8.0),
        (date(2024, 3, 2), "c2", "e", True, 8.0),
    ]
    found = ranking_metrics(spark.createDataFrame(table, SCHEMA), "value", k=1)
    # Cards c1 and c2 tie on the second night; the smaller transaction id ranks first.
    assert found.cp_at_k == 0.5


def test_ranking_metrics_without_frauds_are_nan(spark: SparkSession) -> None:
    from jobs.evaluation.ranking_metrics import ranking_metrics

    found = ranking_metrics(rows(spark, [1.0, 2.0], [False, False]), "value", k=1)
    assert math.isnan(found.roc_auc)
    assert math.isnan(found.average_precision)


@pytest.mark.parametrize("k", [1, 20])
def test_bootstrap_card_precision_is_exact_when_top_cards_are_frauds(
    spark: SparkSession, k: int
) -> None:
    from jobs.evaluation.bootstrap import bootstrap_metrics

    # The top hundred cards are all frauds, so the top k of any replicate are frauds as well.
    table = [(date(2024, 3, 1), f"c{n:03d}", f"t{n:03d}", n < 100, float(-n)) for n in range(300)]
    drawn = bootstrap_metrics(spark.createDataFrame(table, SCHEMA), "value", k)
    assert (drawn.cp_at_k == 1.0).all()
    with pytest.raises(InputMissing, match="no eligible transactions"):
        bootstrap_metrics(spark.createDataFrame([], SCHEMA), "value", k)
