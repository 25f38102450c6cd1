"""Which cards are out of a night: those whose fraud was known when it began, and recent."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def left_in_play(
    spark: SparkSession, nights: list[date], labels: list[tuple[str, str, str, bool]]
) -> set[tuple[str, int]]:
    """Cards that are judged on nights (by their day), after labels of `card, event, label`."""
    from jobs.evaluation.eligible_rows import without_compromised_cards

    told = spark.createDataFrame(
        [
            (card, f"{card} {event}", moment(event), moment(label), fraud)
            for card, event, label, fraud in labels
        ],
        "card_id string, transaction_id string, event_time timestamp, label_time timestamp, "
        "is_fraud boolean",
    )
    cards = {card for card, *_ in labels} | {"spotless"}
    rows = spark.createDataFrame(
        [(night, f"judged {card} {night}", card) for night in nights for card in cards],
        "business_date date, transaction_id string, card_id string",
    )
    left = without_compromised_cards(rows, told, first=nights[0]).collect()
    return {(row["card_id"], row["business_date"].day) for row in left}


def test_cards_are_out_from_the_moment_their_fraud_is_known(spark: SparkSession) -> None:
    frauds = [
        ("known", "2018-07-01", "2018-07-08", True),
        ("at midnight", "2018-07-04", "2018-07-11", True),
        ("a second later", "2018-07-04", "2018-07-11T00:00:01", True),
        ("long ago", "2018-06-26T23:59:59", "2018-07-03", True),
        ("just recent", "2018-06-27", "2018-07-03", True),
        ("genuine", "2018-07-01", "2018-07-08", False),
    ]
    left = left_in_play(spark, [date(2018, 7, 11)], frauds)
    assert left == {(card, 11) for card in ("a second later", "long ago", "genuine", "spotless")}


def test_a_fraud_that_is_told_twice_counts_from_the_first_and_one_withdrawn_until_then(
    spark: SparkSession,
) -> None:
    nights = [date(2018, 7, day) for day in (11, 12, 13)]
    labels = [
        ("told twice", "2018-07-04", "2018-07-10", True),
        ("told twice", "2018-07-04", "2018-07-12T12:00:00", True),
        ("withdrawn", "2018-07-04", "2018-07-10", True),
        ("withdrawn", "2018-07-04", "2018-07-12", False),
        ("at once", "2018-07-04", "2018-07-11", True),
        ("at once", "2018-07-04", "2018-07-11", False),
    ]
    left = left_in_play(spark, nights, labels)
    assert left == {("withdrawn", 12), ("withdrawn", 13)} | {("spotless", d) for d in (11, 12, 13)}
