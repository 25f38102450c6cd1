"""The simulated bank is reproducible, and its frauds have the pattern of their cause."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from feature_defs.errors import UsageError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.spark

NUM_DAYS = 28


def small_plan(out: Path, **changes: Any) -> Any:
    from jobs.simulate import SimulationPlan

    plan = SimulationPlan(
        out=str(out),
        num_cards=60,
        num_days=NUM_DAYS,
        seed=3,
        num_merchants=90,
        late_share=0.05,
        defect_share=0.0,
    )
    return replace(plan, **changes)


@dataclass
class Bank:
    plan: Any
    transactions: pd.DataFrame
    labels: pd.DataFrame
    truth: pd.DataFrame

    def frauds(self, cause: str) -> pd.DataFrame:
        """Return the delivered frauds of a cause, with typical amount and hour of their cards."""
        genuine = self.transactions[
            ~self.transactions.transaction_id.isin(self.truth.transaction_id)
        ]
        typical = genuine.groupby("card_id").agg(
            typical_amount=("amount", "median"), typical_hour=("hour", circular_mean)
        )
        frauds = self.transactions.merge(self.truth[self.truth.cause == cause], on="transaction_id")
        return frauds.join(typical, on="card_id")


def circular_mean(hours: pd.Series[float]) -> float:
    angles = [hour * math.tau / 24 for hour in hours]
    mean = math.atan2(sum(map(math.sin, angles)), sum(map(math.cos, angles)))
    return mean * 24 / math.tau % 24


@pytest.fixture(scope="module")
def bank(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    from jobs.simulate import simulate

    plan = small_plan(tmp_path_factory.mktemp("simulated") / "bank")
    simulate(spark, plan)

    def read(table: str) -> pd.DataFrame:
        return spark.read.parquet(f"{plan.out}/{table}").toPandas()

    transactions = read("transactions")
    transactions["amount"] = transactions.amount.astype(float)
    time = transactions.event_time.dt
    transactions["hour"] = time.hour + time.minute / 60
    return Bank(plan, transactions, read("labels"), read("truth"))


def fingerprint(frame: DataFrame) -> tuple[int, int]:
    """Return the number of rows and the sum of their hashes, independent of their order."""
    from pyspark.sql import functions as F

    value = F.xxhash64(*frame.columns).cast("decimal(38,0)")
    row = frame.agg(F.count("*").alias("rows"), F.sum(value).alias("hashes")).collect()[0]
    return int(row["rows"]), int(row["hashes"])


def all_rows(spark: SparkSession, plan: Any) -> list[tuple[int, int]]:
    from jobs.simulation.deliveries import delivered_payments, labels, transactions, truth

    payments = delivered_payments(spark, plan)
    tables = (transactions(payments, plan), labels(payments, plan), truth(payments))
    return [fingerprint(table) for table in tables]


def test_rows_do_not_depend_on_partitions_or_time_zone(
    spark: SparkSession, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.simulation import payments
    from jobs.simulation.places import PLACE_COLUMNS

    written = [
        fingerprint(spark.read.parquet(f"{bank.plan.out}/{table}").select(*columns))
        for table, columns in (
            (
                "transactions",
                [
                    *("transaction_id", "event_time", "card_id", "merchant_id", "amount"),
                    *("channel", "merchant_category", *PLACE_COLUMNS, "business_date"),
                ],
            ),
            (
                "labels",
                ["transaction_id", "is_fraud", "label_time", "source", "business_date"],
            ),
            ("truth", ["transaction_id", "cause", "incident_id"]),
        )
    ]
    other_session = spark.newSession()
    other_session.conf.set("spark.sql.leafNodeDefaultParallelism", "7")
    other_session.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    monkeypatch.setattr(payments, "CARD_DAYS_PER_TASK", 60 * NUM_DAYS // 7)
    assert all_rows(other_session, bank.plan) == written


def test_another_seed_gives_other_transactions(spark: SparkSession, bank: Bank) -> None:
    from jobs.simulation.deliveries import delivered_payments

    other = replace(bank.plan, seed=4)
    ids = {row[0] for row in delivered_payments(spark, other).select("transaction_id").collect()}
    assert ids.isdisjoint(bank.transactions.transaction_id)
    assert len(ids) == pytest.approx(len(bank.transactions), rel=0.3)


def test_longer_plan_contains_the_rows_of_the_shorter_one(spark: SparkSession, bank: Bank) -> None:
    from jobs.simulation.deliveries import delivered_payments, transactions

    longer = replace(bank.plan, num_days=NUM_DAYS + 7)
    rows = transactions(delivered_payments(spark, longer), longer)
    same_days = rows.filter(f"business_date <= DATE'{bank.plan.last_day}'")
    written = spark.read.parquet(f"{bank.plan.out}/transactions").select(*rows.columns)
    assert fingerprint(same_days) == fingerprint(written)


def test_ids_are_unique_and_unlike_card_numbers(bank: Bank) -> None:
    assert bank.transactions.transaction_id.is_unique
    assert bank.transactions.card_id.str.fullmatch(r"card-\d{9}").all()
    assert bank.transactions.card_id.nunique() == bank.plan.num_cards
    assert (bank.transactions.amount > 0).all()


def test_every_week_has_frauds_of_every_cause(bank: Bank) -> None:
    from jobs.simulation.frauds import CAUSES

    frauds = bank.transactions.merge(bank.truth, on="transaction_id")
    incidents = frauds.groupby("cause").incident_id.nunique()
    # One incident per week and cause; that of the last week can start too late to be delivered.
    assert set(incidents.index) == set(CAUSES)
    assert (incidents >= NUM_DAYS // 7 - 1).all()
    assert (incidents <= NUM_DAYS // 7).all()


def test_stolen_cards_pay_large_amounts_for_days(bank: Bank) -> None:
    frauds = bank.frauds("stolen_card")
    assert ((frauds.amount / frauds.typical_amount).groupby(frauds.incident_id).median() > 3).all()
    spans = frauds.groupby("incident_id").event_time.agg(lambda times: times.max() - times.min())
    assert (spans < timedelta(days=4)).all()
    assert spans.max() > timedelta(days=1)


def test_card_testing_is_a_burst_of_tiny_online_payments(bank: Bank) -> None:
    frauds = bank.frauds("card_testing")
    assert (frauds.channel == "online").all()
    tiny = frauds[frauds.amount < 3].groupby("incident_id").event_time
    bursts = tiny.agg(["count", "min", "max"])
    whole = bursts[bursts["max"] < pd.Timestamp(bank.plan.last_day)]
    assert len(whole) >= 2
    assert (whole["count"] >= 5).all()
    assert (whole["max"] - whole["min"] < timedelta(hours=2)).all()
    assert (frauds.amount > 2 * frauds.typical_amount).any()


def test_a_card_test_shows_in_the_windows_of_an_hour(spark: SparkSession, bank: Bank) -> None:
    from pyspark.sql import functions as F

    from feature_defs.catalogue import FEATURES
    from feature_defs.labels import LabelPolicy
    from feature_defs.point_in_time.compiler import compile_features
    from feature_defs.point_in_time.labels_as_of import FeatureInputs
    from feature_defs.sources import MONEY
    from jobs.lake.tables import LABELS
    from jobs.report_pages.wording import sentence

    rows = spark.read.parquet(f"{bank.plan.out}/transactions").dropna(subset=["card_id"])
    rows = rows.dropDuplicates(["transaction_id"]).withColumn("amount", F.col("amount").cast(MONEY))
    inputs = FeatureInputs(rows, spark.createDataFrame([], LABELS.ddl), LabelPolicy())
    features = {name: FEATURES[name] for name in ("card_count_1h", "card_count_1d")}
    first = rows.agg(F.min("business_date")).first()[0]
    built = compile_features(inputs, first, bank.plan.last_day, 7, features).toPandas()
    tests = built.merge(bank.truth[bank.truth.cause == "card_testing"], on="transaction_id")
    tests = tests[tests.amount.astype(float) < 3]
    incidents = tests.groupby("incident_id").agg(
        num_payments=("transaction_id", "count"), in_an_hour=("card_count_1h", "max")
    )
    assert (incidents.in_an_hour >= incidents.num_payments).all()
    assert incidents.in_an_hour.max() >= 12
    ordinary = built[~built.transaction_id.isin(bank.truth.transaction_id)]
    assert ordinary.card_count_1h.quantile(0.99) <= 3
    text = sentence("card_count_1h", float(incidents.in_an_hour.max()), 1.0)
    assert text.startswith("the card's number of transactions over 1 hour was 1")


def test_takeovers_happen_at_unusual_hours_and_merchants(bank: Bank) -> None:
    frauds = bank.frauds("takeover")
    apart = (frauds.hour - frauds.typical_hour).abs()
    distance = apart.where(apart <= 12, 24 - apart)
    assert (distance.groupby(frauds.incident_id).median() > 7).all()
    genuine = bank.transactions[~bank.transactions.transaction_id.isin(bank.truth.transaction_id)]
    habits = set(zip(genuine.card_id, genuine.merchant_id, strict=True))
    usual = [pair in habits for pair in zip(frauds.card_id, frauds.merchant_id, strict=True)]
    assert sum(usual) < len(usual) / 4


def test_compromised_merchants_clone_payments_of_the_day_before(bank: Bank) -> None:
    frauds = bank.frauds("compromised_merchant")
    assert (frauds.groupby("incident_id").merchant_id.nunique() == 1).all()
    days = frauds.groupby("incident_id").event_time.agg(lambda times: times.max() - times.min())
    assert (days <= timedelta(days=22)).all()
    genuine = bank.transactions[~bank.transactions.transaction_id.isin(bank.truth.transaction_id)]
    pairs = frauds.merge(genuine, on=["card_id", "merchant_id"], suffixes=("", "_before"))
    day_before = (pairs.event_time.dt.normalize() - pairs.event_time_before.dt.normalize()).dt.days
    # The original payment can be delivered after the last day and is missing then.
    assert pairs[day_before == 1].transaction_id.nunique() >= 0.9 * len(frauds)
    assert (frauds.amount / frauds.typical_amount).median() < 3


def with_causes(bank: Bank) -> pd.DataFrame:
    """Return every transaction once, with its cause; null for a payment of the card holder."""
    rows = bank.transactions.drop_duplicates("transaction_id").dropna(subset=["card_id"])
    return rows.merge(bank.truth, how="left", on="transaction_id")


def test_travellers_pay_abroad_and_so_do_thieves(bank: Bank) -> None:
    rows = with_causes(bank)
    rows["abroad"] = rows.merchant_country != "DE"
    shops = rows[rows.channel != "online"]
    own = shops[shops.cause.isna()]
    # Abroad alone is no fraud: most payments abroad in a shop are the card holder's own.
    assert 0.005 < own.abroad.mean() < 0.06
    assert shops[shops.abroad].cause.isna().mean() > 0.5
    # A card travels to few countries.
    assert own[own.abroad].groupby("card_id").merchant_country.nunique().max() <= 3


def test_half_of_the_thieves_are_abroad(spark: SparkSession, bank: Bank) -> None:
    from jobs.simulation.frauds import incident_payments
    from jobs.simulation.places import with_places
    from jobs.simulation.randomness import Draws

    plan = replace(bank.plan, num_cards=10_000)
    rows = with_places(incident_payments(spark, plan), Draws(plan.seed)).toPandas()
    shares = (rows.merchant_country != "DE").groupby(rows.cause).mean()
    assert shares["stolen_card"] == pytest.approx(0.5, abs=0.15)
    assert shares["card_testing"] == pytest.approx(0.7, abs=0.15)
    assert shares["takeover"] == pytest.approx(0.5, abs=0.1)


def test_places_are_near_home_unless_the_card_is_away(bank: Bank) -> None:
    rows = with_causes(bank)
    online = rows.channel == "online"
    assert rows[online].merchant_latitude.isna().all()
    assert rows[~online].merchant_latitude.notna().all()
    assert (rows.groupby("card_id").card_latitude.nunique() == 1).all()
    degrees = (rows.merchant_latitude - rows.card_latitude).abs()
    at_home = ~online & (rows.merchant_country == "DE")
    assert degrees[at_home & rows.cause.isna()].max() < 0.6
    assert degrees[at_home & (rows.cause == "stolen_card")].median() > 0.6


def test_stolen_cards_are_read_by_their_magnetic_stripe(bank: Bank) -> None:
    rows = with_causes(bank)
    by_stripe = rows.entry_mode == "magnetic_stripe"
    assert by_stripe[rows.cause.isna()].mean() < 0.04
    in_shops = (rows.cause == "stolen_card") & (rows.channel != "online")
    assert by_stripe[in_shops].mean() > 0.4
    assert ((rows.entry_mode == "ecommerce") == (rows.channel == "online")).all()


def test_labels_arrive_after_the_event_on_their_own_date(bank: Bank) -> None:
    both = bank.labels.merge(bank.transactions, on="transaction_id", suffixes=("", "_event"))
    assert len(both) == len(bank.labels)
    delay = both.label_time - both.event_time
    assert (delay[~both.is_fraud] == timedelta(days=7)).all()
    assert delay[both.is_fraud].between(timedelta(days=1), timedelta(days=7)).all()
    assert (delay[both.is_fraud] <= timedelta(days=6)).mean() > 0.8
    assert (both.label_time.dt.date == both.business_date).all()
    assert (both.source == both.is_fraud.map({True: "chargeback", False: "confirmed"})).all()
    old = bank.transactions.event_time < pd.Timestamp(bank.plan.last_day) - timedelta(days=7)
    assert set(bank.transactions.transaction_id[old]) <= set(bank.labels.transaction_id)


def test_truth_contains_exactly_the_frauds(bank: Bank) -> None:
    labelled_fraud = set(bank.labels.transaction_id[bank.labels.is_fraud])
    labelled_genuine = set(bank.labels.transaction_id[~bank.labels.is_fraud])
    frauds = set(bank.truth.transaction_id)
    assert labelled_fraud <= frauds <= set(bank.transactions.transaction_id)
    assert frauds.isdisjoint(labelled_genuine)
    assert bank.truth.transaction_id.is_unique
    assert (bank.truth.cause != "").all()


def test_planned_share_of_rows_arrives_late(bank: Bank) -> None:
    days = pd.to_datetime(bank.transactions.business_date) - (
        bank.transactions.event_time.dt.normalize()
    )
    assert days.dt.days.between(0, 3).all()
    assert (days.dt.days > 0).mean() == pytest.approx(0.05, abs=0.015)


def test_every_delivery_has_a_marker_and_one_file(bank: Bank) -> None:
    out = Path(bank.plan.out)
    dates = {str(day) for day in bank.plan.days}
    assert {marker.name for marker in (out / "_complete").iterdir()} == dates
    for day in dates:
        assert len(list((out / "transactions" / f"business_date={day}").glob("*.parquet"))) == 1
    description = json.loads((out / "simulation.json").read_text())
    assert description["seed"] == bank.plan.seed
    assert "out" not in description


def test_planned_share_of_rows_has_each_defect(spark: SparkSession, bank: Bank) -> None:
    from jobs.simulation.deliveries import Defect, delivered_payments, transactions

    plan = replace(bank.plan, defect_share=0.3)
    rows = transactions(delivered_payments(spark, plan), plan).toPandas()
    rows["amount"] = rows.amount.astype(float)
    per_id = rows.groupby("transaction_id").amount.agg(["count", "nunique"])
    future = rows.event_time > pd.to_datetime(rows.business_date) + timedelta(days=7)
    found = {
        Defect.MISSING_CARD: rows.card_id.isna().sum(),
        Defect.NEGATIVE_AMOUNT: (rows.amount < 0).sum(),
        Defect.ZERO_AMOUNT: (rows.amount == 0).sum(),
        Defect.FUTURE_EVENT: future.sum(),
        Defect.IDENTICAL_COPY: ((per_id["count"] == 2) & (per_id["nunique"] == 1)).sum(),
        Defect.CONFLICTING_COPY: ((per_id["count"] == 2) & (per_id["nunique"] == 2)).sum(),
    }
    each = 0.3 * len(per_id) / len(Defect)
    for defect in Defect:
        assert found[defect] == pytest.approx(each, rel=0.35), defect
    assert set(per_id.index) == set(bank.transactions.transaction_id)


def test_rerun_replaces_all_rows_and_days(spark: SparkSession, tmp_path: Path) -> None:
    from jobs.simulate import simulate

    plan = small_plan(tmp_path / "bank", num_cards=20, num_days=12)
    simulate(spark, replace(plan, num_days=13))
    simulate(spark, plan)
    rows = spark.read.parquet(f"{plan.out}/transactions")
    assert rows.count() == rows.select("transaction_id").distinct().count()
    assert str(rows.agg({"business_date": "max"}).collect()[0][0]) == str(plan.last_day)
    assert not (Path(plan.out) / "_complete" / str(plan.last_day + timedelta(days=1))).exists()


def test_mapping_simulated_fits_the_columns(bank: Bank) -> None:
    from jobs.deliveries.mapping import load_mapping

    mapping = load_mapping("simulated")
    columns = mapping.transactions.columns.model_dump(exclude_none=True)
    wanted = {*columns.values(), *mapping.transactions.attributes}
    assert wanted | {mapping.transactions.business_date} <= set(bank.transactions.columns)
    assert mapping.labels is not None
    assert set(mapping.labels.columns.model_dump().values()) <= set(bank.labels.columns)
    assert mapping.readiness is not None
    marker = mapping.readiness.marker.format(business_date=bank.plan.last_day)
    assert (Path(bank.plan.out) / marker).exists()


def test_foreign_folder_is_refused_and_unchanged(spark: SparkSession, tmp_path: Path) -> None:
    from jobs.simulate import simulate

    (tmp_path / "accounts.csv").write_text("precious")
    with pytest.raises(UsageError, match="was not made by simulate"):
        simulate(spark, small_plan(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["accounts.csv"]


def test_folder_of_another_bank_is_refused_and_unchanged(
    spark: SparkSession, tmp_path: Path
) -> None:
    from jobs.simulate import simulate

    plan = small_plan(tmp_path / "bank", num_cards=20, num_days=12)
    simulate(spark, plan)
    other = replace(plan, num_cards=21, seed=plan.seed + 1, num_days=13)
    with pytest.raises(UsageError, match="another bank: num_cards 20, not 21; seed"):
        simulate(spark, other)
    assert (Path(plan.out) / "_complete" / str(plan.last_day)).exists()
