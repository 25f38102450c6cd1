"""Features are point-in-time correct: each equals a plain loop over all events and labels."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from exact_money import money_functions
from plain_comparisons import (
    deviation,
    hour_share,
    kilometres,
    quantile_rank,
    same_share,
    speed,
)

from feature_defs.catalogue import FEATURES, available
from feature_defs.feature import LABEL_FUNCTIONS, TEXT_FUNCTIONS, Condition, Feature, Function, Kind
from feature_defs.labels import LabelPolicy

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from feature_defs.point_in_time.labels_as_of import FeatureInputs

pytestmark = pytest.mark.spark

NIGHT = date(2024, 3, 1)
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1)
TRANSACTION_SCHEMA = (
    "transaction_id string, event_time timestamp, business_date date, card_id string, "
    "merchant_id string, amount decimal(18,3)"
)
ATTRIBUTES = {
    "merchant_category": "string",
    "merchant_country": "string",
    "account_id": "string",
    "cardholder_age": "double",
    "loyalty_points": "double",
    "original_amount": "decimal(18,3)",
    "merchant_latitude": "double",
    "merchant_longitude": "double",
    "card_latitude": "double",
    "card_longitude": "double",
    "has_time_of_day": "boolean",
}
LABEL_SCHEMA = "transaction_id string, is_fraud boolean, label_time timestamp"


@dataclass(frozen=True)
class Event:
    transaction_id: str
    event_time: datetime
    card_id: str = "card"
    merchant_id: str = "merchant"
    amount: str = "10.000"
    business_date: date | None = None
    # Values of `ATTRIBUTES`; a bank without attributes has none of these columns.
    attributes: dict[str, Any] | None = None

    def value(self, name: str) -> Any:
        """Return a column or an attribute; NaN is no value."""
        if name in ATTRIBUTES:
            found = (self.attributes or {}).get(name)
            return None if found != found else found
        return getattr(self, name)

    @property
    def place(self) -> tuple[float, float] | None:
        """Return the merchant's latitude and longitude."""
        place = (self.value("merchant_latitude"), self.value("merchant_longitude"))
        return None if None in place else place

    @property
    def time_of_day(self) -> int | None:
        """Return the microseconds since midnight, if the time of day is known."""
        if self.attributes is not None and self.attributes.get("has_time_of_day") is False:
            return None
        return micros(self) % 86_400_000_000

    @property
    def row(self) -> tuple[Any, ...]:
        day = self.business_date or self.event_time.date()
        return (
            self.transaction_id,
            self.event_time,
            day,
            self.card_id,
            self.merchant_id,
            Decimal(self.amount),
            *(self.attributes.get(name) for name in ATTRIBUTES if self.attributes is not None),
        )


@dataclass(frozen=True)
class Label:
    transaction_id: str
    is_fraud: bool
    label_time: datetime


def feature_inputs(
    spark: SparkSession, events: list[Event], labels: list[Label], policy: LabelPolicy
) -> FeatureInputs:
    from feature_defs.point_in_time.labels_as_of import FeatureInputs

    schema = TRANSACTION_SCHEMA
    if any(event.attributes is not None for event in events):
        schema += "".join(f", {name} {type_}" for name, type_ in ATTRIBUTES.items())
    label_rows = [(label.transaction_id, label.is_fraud, label.label_time) for label in labels]
    return FeatureInputs(
        spark.createDataFrame([event.row for event in events], schema),
        spark.createDataFrame(label_rows, LABEL_SCHEMA),
        policy,
    )


def computed(
    spark: SparkSession,
    events: list[Event],
    labels: list[Label],
    policy: LabelPolicy = LabelPolicy(),  # noqa: B008
    features: Mapping[str, Feature] = FEATURES,
) -> dict[str, dict[str, Any]]:
    """Return the features of the night's rows, by transaction."""
    from feature_defs.point_in_time.compiler import compile_features

    inputs = feature_inputs(spark, events, labels, policy)
    rows: DataFrame = compile_features(inputs, NIGHT, NIGHT, 7, features)
    names = available(features, dict(inputs.transactions.dtypes))
    return {row["transaction_id"]: {name: row[name] for name in names} for row in rows.collect()}


def label_at(event: Event, labels: list[Label], moment: datetime, policy: LabelPolicy) -> Any:
    """Return the mature label of an event at a moment: fraud, genuine or None."""
    mature = [
        (label.label_time, label.is_fraud)
        for label in labels
        if label.transaction_id == event.transaction_id and label.label_time <= moment
    ]
    if mature:
        return max(mature)[1]
    if policy.maturity_days is None:
        return None
    return False if event.event_time + policy.maturity_days * DAY <= moment else None


def expected(
    feature: Feature, event: Event, events: list[Event], labels: list[Label], policy: LabelPolicy
) -> Any:
    """Return the value of a feature, computed directly from its definition."""
    moment = event.event_time
    if feature.parts:
        part, whole = (expected(part, event, events, labels, policy) for part in feature.parts)
        if feature.prior:
            rate, weight = feature.prior
            return (part + rate * weight) / (whole + weight)
        return part / whole if part is not None and whole else None
    if feature.window is None or feature.entity is None:
        return transaction_value(feature, event)
    if any(event.value(key) is None for key in feature.entity.keys):
        return None
    end = moment - timedelta(seconds=feature.window.delay_s)
    start = end - timedelta(seconds=feature.window.length_s)

    def same_entity(other: Event) -> bool:
        assert feature.entity is not None
        return all(other.value(key) == event.value(key) for key in feature.entity.keys)

    def not_after(other: Event) -> bool:
        if feature.window is not None and feature.window.delay_s:
            return other.event_time <= end
        return (other.event_time, other.transaction_id) <= (moment, event.transaction_id)

    inside = [e for e in events if same_entity(e) and start < e.event_time and not_after(e)]
    if feature.function in LABEL_FUNCTIONS:
        return label_value(feature, [label_at(e, labels, moment, policy) for e in inside])
    return event_value(feature, event, inside)


def transaction_value(feature: Feature, event: Event) -> Any:
    """Return the value of a feature of the transaction itself."""
    if feature.name == "transaction_kilometres_from_home":
        home = (event.value("card_latitude"), event.value("card_longitude"))
        return kilometres(None if None in home else home, event.place)
    if feature.attributes:
        return event.value(str(feature.measure))
    hour = None if event.time_of_day is None else event.time_of_day / 3_600_000_000
    return {
        "transaction_amount": float(event.amount),
        "transaction_hour_of_day": hour,
        "transaction_day_of_week": float(event.event_time.weekday()),
    }[feature.name]


def label_value(feature: Feature, labels: list[Any]) -> Any:
    """Return the value of a function of labels; None is an event without a mature label."""
    mature = [is_fraud for is_fraud in labels if is_fraud is not None]
    return {
        Function.FRAUD_COUNT: sum(mature),
        Function.LABEL_COUNT: len(mature),
        Function.FRAUD_RATE: sum(mature) / len(mature) if mature else feature.empty,
    }[feature.function]


def event_value(feature: Feature, event: Event, inside: list[Event]) -> Any:
    """Return the value of a function of the events in a window, in exact arithmetic."""
    counted = [e for e in inside if matches(e, feature.where)]
    numbers = [] if feature.function in TEXT_FUNCTIONS else [measured(e, feature) for e in counted]
    amounts = [amount for amount in numbers if amount is not None]
    before = [e for e in inside if e is not event]
    earlier = [e.event_time for e in before]
    last = max(before, key=lambda e: (e.event_time, e.transaction_id), default=None)
    way = kilometres(event.place, last.place) if last else None
    assert feature.window is not None
    number = len(counted)
    functions: dict[Function, Callable[[], Any]] = {
        **money_functions(feature, amounts),
        Function.SHARE: lambda: number / len(inside) if inside else feature.empty,
        Function.DISTINCT: lambda: len({e.value(str(feature.measure)) for e in inside} - {None}),
        Function.SAME_SHARE: lambda: same_share(
            event.value(str(feature.measure)), [e.value(str(feature.measure)) for e in before]
        ),
        Function.DEVIATION: lambda: deviation(
            measured(event, feature), [measured(e, feature) for e in before]
        ),
        Function.QUANTILE_RANK: lambda: quantile_rank(
            measured(event, feature), [measured(e, feature) for e in before]
        ),
        Function.HOUR_SHARE: lambda: hour_share(event.time_of_day, [e.time_of_day for e in before]),
        Function.KILOMETRES_SINCE_LAST: lambda: way,
        Function.SPEED_SINCE_LAST: lambda: (
            speed(way, (event.event_time - last.event_time).total_seconds()) if last else None
        ),
        Function.SECONDS_BETWEEN: lambda: (
            feature.window.length_s / number if number and feature.window else None
        ),
        Function.FIRST_TIME: lambda: float(not earlier),
        Function.SECONDS_SINCE_LAST: lambda: (
            (event.event_time - max(earlier)).total_seconds() if earlier else None
        ),
    }
    assert feature.function is not None
    return functions[feature.function]()


def measured(event: Event, feature: Feature) -> Fraction | None:
    """Return the exact value of a feature's measure; every event has an amount."""
    value = event.value(feature.measure or "amount")
    return None if value is None else Fraction(str(value))


def matches(event: Event, where: Condition | None) -> bool:
    if where is None:
        return True
    value, limit = event.value(where.column), where.value
    if value is None:
        return False
    if not isinstance(limit, str):
        value, limit = Fraction(value), Fraction(limit)
    return bool(COMPARE[where.operator](value, limit))


COMPARE = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


def check(
    spark: SparkSession,
    events: list[Event],
    labels: list[Label],
    policy: LabelPolicy = LabelPolicy(),  # noqa: B008
    features: Mapping[str, Feature] = FEATURES,
) -> dict[str, dict[str, Any]]:
    """Compare every feature of every row of the night with its definition; return the features."""
    actual = computed(spark, events, labels, policy, features)
    of_night = [event for event in events if event.row[2] == NIGHT]
    assert set(actual) == {event.transaction_id for event in of_night}
    for event in of_night:
        for name in actual[event.transaction_id]:
            feature = features[name]
            wanted = expected(feature, event, events, labels, policy)
            value = actual[event.transaction_id][name]
            if isinstance(wanted, float) and value is not None:
                wanted = pytest.approx(wanted, rel=1e-12, abs=1e-12)
            assert value == wanted, (event, name)
    return actual


def test_events_before_at_and_after_a_window_end_are_counted_exactly(spark: SparkSession) -> None:
    events = [Event("current", NOON)]
    for number, (length, delay) in enumerate((n, d) for n in (1, 7, 30) for d in (0, 7)):
        for side, shift in (("start", length + delay), ("end", delay)):
            edge = NOON - shift * DAY
            if edge == NOON:
                continue
            for name, moment in (
                ("before", edge - MICROSECOND),
                ("at", edge),
                ("after", edge + MICROSECOND),
            ):
                events.append(Event(f"{number}-{side}-{name}", moment, amount=f"{number + 1}.5"))
    events.append(Event("future", NOON + MICROSECOND, business_date=NIGHT))
    labels = [Label(e.transaction_id, n % 2 == 0, e.event_time) for n, e in enumerate(events)]
    check(spark, events, labels)


def test_events_at_one_instant_are_ordered_by_transaction_id(spark: SparkSession) -> None:
    events = [Event(name, NOON, amount=f"{n}.000") for n, name in enumerate("cabd", start=1)]
    values = computed(spark, events, [])
    counts = {name: values[name]["card_count_1d"] for name in "abcd"}
    assert counts == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert values["b"]["card_seconds_since_last_30d"] == 0
    assert values["a"]["card_seconds_since_last_30d"] is None


def test_label_counts_from_its_label_time_on(spark: SparkSession) -> None:
    """In time, exactly at the transaction, a microsecond too late, changed, withdrawn, none."""
    then = NOON - 8 * DAY
    names = ("in time", "exactly", "too late", "never", "changed", "withdrawn")
    events = [Event("current", NOON), *(Event(name, then) for name in names)]
    labels = [
        Label("in time", True, then + DAY),
        Label("exactly", True, NOON),
        Label("too late", True, NOON + MICROSECOND),
        Label("changed", False, then + DAY),
        Label("changed", True, then + 2 * DAY),
        Label("withdrawn", True, then + DAY),
        Label("withdrawn", False, then + 2 * DAY),
    ]
    values = computed(spark, events, labels)
    # Mature at noon: in time, exactly and changed are frauds; withdrawn is genuine.
    assert values["current"]["merchant_fraud_rate_7d_delay_7d"] == pytest.approx(3 / 4)
    assert values["current"]["merchant_count_7d_delay_7d"] == len(names)
    check(spark, events, labels)


def test_label_after_its_event_left_the_window_has_no_effect(spark: SparkSession) -> None:
    old = NOON - 9 * DAY
    events = [Event("current", NOON), Event("old", old)]
    labels = [Label("old", True, NOON - timedelta(hours=1))]
    values = computed(spark, events, labels)
    assert values["current"]["merchant_fraud_rate_1d_delay_7d"] == 0.0
    assert values["current"]["merchant_fraud_rate_7d_delay_7d"] == 1.0
    check(spark, events, labels)


def test_missing_label_counts_as_genuine_after_maturity_days(spark: SparkSession) -> None:
    events = [
        Event("current", NOON),
        Event("mature", NOON - 10 * DAY),
        Event("young", NOON - 8 * DAY),
    ]
    policy = LabelPolicy(maturity_days=9)
    labels = [Label("mature", True, NOON - DAY)]
    values = computed(spark, events, labels, policy)
    assert values["current"]["merchant_fraud_rate_7d_delay_7d"] == 1.0
    check(spark, events, [], policy)
    check(spark, events, labels, policy)


def test_labels_as_of_returns_mature_labels_only(spark: SparkSession) -> None:
    """Late, exactly in time, changed, withdrawn, two of one moment, none; with both policies."""
    from feature_defs.point_in_time.labels_as_of import labels_as_of

    then = NOON - 20 * DAY
    names = ("late", "exactly", "changed", "withdrawn", "both", "never")
    events = [Event(name, then) for name in names] + [Event("young", NOON - 2 * DAY)]
    labels = [
        Label("late", True, NOON + MICROSECOND),
        Label("exactly", True, NOON),
        Label("changed", False, then + DAY),
        Label("changed", True, then + 2 * DAY),
        Label("withdrawn", True, then + DAY),
        Label("withdrawn", False, then + 2 * DAY),
        Label("both", True, then + DAY),
        Label("both", False, then + DAY),
        Label("orphan", True, then),
    ]
    from_labels = {
        "exactly": (True, NOON), "changed": (True, then + 2 * DAY),
        "withdrawn": (False, then + 2 * DAY), "both": (True, then + DAY),
    }  # fmt: skip
    implied = {name: (False, then + 15 * DAY) for name in ("late", "exactly", "never")}
    for policy, wanted in (
        (LabelPolicy(), from_labels),
        (LabelPolicy(maturity_days=15), {**implied, **from_labels}),
    ):
        result = labels_as_of(feature_inputs(spark, events, labels, policy), NOON)
        rows = {
            row["transaction_id"]: (row["is_fraud"], row["label_time"].astimezone(UTC))
            for row in result.collect()
        }
        assert rows == wanted


def test_late_arriving_row_has_windows_at_its_event_time(spark: SparkSession) -> None:
    late = Event("late", NOON - 3 * DAY, business_date=NIGHT)
    events = [late, Event("older", NOON - 4 * DAY), Event("newer", NOON - 2 * DAY)]
    values = computed(spark, events, [])
    assert values["late"]["card_count_7d"] == 2
    check(spark, events, [])


PLACES = ((48.85, 2.35), (48.85, 2.35), (51.5074, -0.1278), (-33.9, 151.2), (0.0, 179.999))


def random_attributes(rng: random.Random) -> dict[str, Any]:
    """Return attributes of which each may be missing."""
    latitude, longitude = rng.choice(PLACES)
    home = rng.choice(PLACES)
    values = {
        "merchant_category": rng.choice("abc"),
        "merchant_country": rng.choice(("FR", "FR", "DE")),
        "account_id": f"a{rng.randrange(3)}",
        "cardholder_age": rng.choice((18.0, 40.5, 40.5, 71.25)),
        "loyalty_points": rng.choice((0.1, 0.2, -3.000001, 250_000.5, float("nan"))),
        "original_amount": Decimal(rng.randrange(1, 9999)) / 100,
        "merchant_latitude": latitude,
        "merchant_longitude": longitude,
        "card_latitude": home[0],
        "card_longitude": home[1],
        "has_time_of_day": rng.random() < 0.8,
    }
    return {name: None if rng.random() < 0.2 else value for name, value in values.items()}


def random_bank(seed: int, *, with_attributes: bool = False) -> tuple[list[Event], list[Label]]:
    """Return a bank with few keys and instants: ties, empty windows and late labels all occur."""
    rng = random.Random(seed)
    of_attributes = random.Random(seed)
    events = []
    for number in range(120):
        hours = rng.choice((0, 0, 1, 6, 24, 48, 168, 200, 400, 800))
        moment = NOON - timedelta(hours=hours, minutes=rng.choice((0, 0, 0, 36, 37)))
        late = rng.random() < 0.1 and NOON - moment < 7 * DAY
        events.append(
            Event(
                f"t{number:03d}",
                moment,
                card_id=f"c{rng.randrange(6)}",
                merchant_id=f"m{rng.randrange(4)}",
                amount=f"{rng.randrange(1, 99999)}.{rng.randrange(1000):03d}",
                business_date=NIGHT if late else None,
                attributes=random_attributes(of_attributes) if with_attributes else None,
            )
        )
    labels = [
        Label(event.transaction_id, rng.random() < 0.3, event.event_time + rng.randrange(15) * DAY)
        for event in events
        for _ in range(rng.choice((0, 1, 1, 2)))
    ]
    # Two labels of one moment would be a tie, which another test covers; keep one.
    moments = {(label.transaction_id, label.label_time): label for label in labels}
    return events, list(moments.values())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_features_of_random_banks_equal_the_definition(spark: SparkSession, seed: int) -> None:
    events, labels = random_bank(seed)
    check(spark, events, labels)


@pytest.mark.parametrize("hot_events", [None, 3])
def test_every_function_equals_its_definition(
    spark: SparkSession, hot_events: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a limit of three events every key is hot and is split into slices."""
    from every_function import EVERY_FUNCTION

    from feature_defs.point_in_time import hot_keys

    events, labels = random_bank(4, with_attributes=True)
    if hot_events:
        monkeypatch.setattr(hot_keys, "HOT_EVENTS", hot_events)
        times = [(e.merchant_id, micros(e)) for e in events]
        merchants = spark.createDataFrame(times, "merchant_id string, _t bigint")
        hot = hot_keys.HotKeys.find(merchants, ("merchant_id",), 40 * 86_400_000_000)
        assert len(hot.slices) == 4
        assert min(len(firsts) for firsts in hot.slices.values()) >= 3
    values = check(spark, events, labels, LabelPolicy(maturity_days=9), EVERY_FUNCTION)
    rows = list(values.values())
    assert [name for name in rows[0] if len({row[name] for row in rows}) == 1] == []
    assert [error for row in values.values() for error in gate_errors(row)] == []


def test_gaps_of_hot_keys_do_not_compute_another_entity_again(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    from feature_defs.point_in_time import hot_keys
    from feature_defs.point_in_time.compiler import compile_features

    monkeypatch.setattr(hot_keys, "HOT_EVENTS", 3)
    inputs = feature_inputs(spark, *random_bank(4), LabelPolicy())
    plan = compile_features(inputs, NIGHT, NIGHT, 7)._jdf.queryExecution().executedPlan().toString()
    # The features of a card compare single events, so only merchants are split.
    assert plan.count("posexplode") == 1, plan
    assert plan.count("ArrowEvalPython") == 2, plan


@pytest.mark.parametrize("seed", [6, 7])
def test_features_equal_the_spark_sql_oracle(spark: SparkSession, seed: int) -> None:
    """The oracle computes the same definitions in Spark SQL; integers are equal to the last bit."""
    from every_function import EVERY_FUNCTION
    from oracle import by_definition, differing

    from feature_defs.point_in_time.compiler import compile_features

    inputs = feature_inputs(spark, *random_bank(seed, with_attributes=True), LabelPolicy())
    features = available(EVERY_FUNCTION, dict(inputs.transactions.dtypes))
    assert len(features) > 60
    ours = compile_features(inputs, NIGHT, NIGHT, 7, EVERY_FUNCTION)
    theirs = by_definition(inputs, NIGHT, NIGHT, features)
    assert differing(ours, theirs, features) == {}
    moved = theirs.withColumn("card_count_1d", theirs["card_count_1d"] + 1)
    assert set(differing(ours, moved, features)) == {"card_count_1d"}
    odd = theirs.withColumn("transaction_amount", theirs["transaction_amount"] * (1 + 1e-13))
    assert set(differing(ours, odd, features)) == {"transaction_amount"}
    assert set(differing(ours, theirs.limit(3), features)) >= {"rows"}


def gate_errors(row: dict[str, Any]) -> list[str]:
    """Return what gate 2 reports about a correct row."""
    from every_function import EVERY_FUNCTION

    from jobs.quality.suites.features import _never_null, _range

    errors = []
    for name in row:
        feature = EVERY_FUNCTION[name]
        low, high = _range(feature)
        if row[name] is None:
            # Some rows of the bank have no time of day.
            required = _never_null(feature) and feature.kind is not Kind.HOUR_OF_DAY
            errors += [f"{name} is null"] if required else []
        elif feature.type == "string":
            continue
        elif row[name] < low or (high is not None and row[name] > high):
            errors.append(f"{name} is {row[name]}")
    return errors


def micros(event: Event) -> int:
    return int(event.event_time.timestamp()) * 1_000_000 + event.event_time.microsecond


def test_input_order_and_partitions_do_not_change_a_bit(spark: SparkSession) -> None:
    from every_function import EVERY_FUNCTION

    events, labels = random_bank(4, with_attributes=True)
    shuffled = random.Random(5).sample(events, len(events))
    first = computed(spark, events, labels, features=EVERY_FUNCTION)
    spark.conf.set("spark.sql.shuffle.partitions", "7")
    try:
        assert computed(spark, shuffled, labels, features=EVERY_FUNCTION) == first
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", "2")


def test_sums_of_money_are_exact(spark: SparkSession) -> None:
    """Ten times 0.1 is 1, and a large amount does not absorb small ones."""
    events = [Event(f"t{n}", NOON - n * timedelta(minutes=1), amount="0.100") for n in range(10)]
    events.append(Event("large", NOON - timedelta(hours=1), amount="9000000000.001"))
    values = computed(spark, events, [])
    assert values["t0"]["card_amount_mean_1d"] == (9_000_000_000_001 + 1000) / 11 / 1000
