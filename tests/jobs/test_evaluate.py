"""Cards with a recent fraud that was known when the night began are not evaluated."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def evaluated_cards(
    spark: SparkSession, nights: list[date], labels: list[tuple[str, str, str, bool]]
) -> set[tuple[str, int]]:
    """Return the evaluated cards with the day of their night.

    `labels` are tuples of card, time of the event, time of the label, whether a fraud.
    """
    from jobs.evaluation.eligible_rows import without_compromised_cards

    labels_seen = spark.createDataFrame(
        [
            (card, f"{card} {event}", moment(event), moment(label), fraud)
            for card, event, label, fraud in labels
        ],
        "card_id string, transaction_id string, event_time timestamp, label_time timestamp, "
        "is_fraud boolean",
    )
    cards = {card for card, *_ in labels} | {"spotless"}
    rows = spark.createDataFrame(
        [(night, f"row {card} {night}", card) for night in nights for card in cards],
        "business_date date, transaction_id string, card_id string",
    )
    left = without_compromised_cards(rows, labels_seen, first=nights[0]).collect()
    return {(row["card_id"], row["business_date"].day) for row in left}


def test_cards_are_removed_once_their_fraud_is_known(spark: SparkSession) -> None:
    frauds = [
        ("known", "2018-07-01", "2018-07-08", True),
        ("at midnight", "2018-07-04", "2018-07-11", True),
        ("a second later", "2018-07-04", "2018-07-11T00:00:01", True),
        ("long ago", "2018-06-26T23:59:59", "2018-07-03", True),
        ("just recent", "2018-06-27", "2018-07-03", True),
        ("genuine", "2018-07-01", "2018-07-08", False),
    ]
    left = evaluated_cards(spark, [date(2018, 7, 11)], frauds)
    assert left == {(card, 11) for card in ("a second later", "long ago", "genuine", "spotless")}


def test_fraud_counts_from_its_first_label_until_withdrawn(spark: SparkSession) -> None:
    nights = [date(2018, 7, day) for day in (11, 12, 13)]
    labels = [
        ("labelled twice", "2018-07-04", "2018-07-10", True),
        ("labelled twice", "2018-07-04", "2018-07-12T12:00:00", True),
        ("withdrawn", "2018-07-04", "2018-07-10", True),
        ("withdrawn", "2018-07-04", "2018-07-12", False),
        ("at once", "2018-07-04", "2018-07-11", True),
        ("at once", "2018-07-04", "2018-07-11", False),
    ]
    left = evaluated_cards(spark, nights, labels)
    assert left == {("withdrawn", 12), ("withdrawn", 13)} | {("spotless", d) for d in (11, 12, 13)}
