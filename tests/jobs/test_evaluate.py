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


def test_cards_are_out_from_the_moment_their_fraud_is_known(spark: SparkSession) -> None:
    from jobs.evaluate import in_play

    frauds = [
        ("known", "2018-07-01", "2018-07-08"),
        ("at midnight", "2018-07-04", "2018-07-11"),
        ("a second later", "2018-07-04", "2018-07-11T00:00:01"),
        ("long ago", "2018-06-26T23:59:59", "2018-07-03"),
        ("just recent", "2018-06-27", "2018-07-03"),
    ]
    rows = [
        (f"fraud {card}", card, moment(event), date.fromisoformat(event[:10]), True, moment(label))
        for card, event, label in frauds
    ]
    night = date(2018, 7, 11)
    cards = [card for card, _, _ in frauds] + ["spotless"]
    rows += [
        (f"judged {card}", card, moment("2018-07-11T12:00:00"), night, False, None)
        for card in cards
    ]
    labelled = spark.createDataFrame(
        rows,
        "transaction_id string, card_id string, event_time timestamp, business_date date, "
        "is_fraud boolean, label_time timestamp",
    )
    judged = labelled.where(labelled.business_date == night)
    left = {row["card_id"] for row in in_play(judged, labelled, first=night).collect()}
    assert left == {"a second later", "long ago", "spotless"}
