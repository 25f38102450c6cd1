"""Measure the worth of card history, and whether reasons are right, on frauds of known causes.

A simulated bank has a cause for each fraud (`jobs/simulation/frauds.py` says which features show
it) and runs through the jobs of a night. Each model is trained as of one day and scores the two
weeks after it. Printed for every model and cause: AUC ROC of its payments against all genuine ones,
the share of incidents with at least one alert, and how many of the alerts that are frauds name a
feature of the cause in their first two reasons.

Window features already contain a card's past. Two more models show what a memory is worth without
them: they read only amount, time and the time since the last event, one with a memory and one
without. (Merchants cannot be among their reasons.)

    python tests/benchmarks/simulated_causes.py --num-cards 2000

The last line is one JSON object with all results by model; `reasons_right` is over all causes.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from benchmark_lake import open_lake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from fraud_models.config import ModelConfig
    from jobs.lake.dates import Dates
    from jobs.lake.delta_io import Lake

FIRST_DAY = date(2024, 1, 1)
NUM_DAYS, SCORED_DAYS, SEED = 77, 14, 11
# Alert budget per night, for every hundred cards.
ALERTS_PER_100_CARDS = 1
RECIPES = (
    "lstm_autoencoder",
    "feed_forward_autoencoder",
    "rarity_autoencoder",
    "semi_supervised_autoencoder",
)
EVENTS_ALONE = "_on_events_alone"
EVENT_COLUMNS = (
    "transaction_amount",
    "transaction_hour_of_day",
    "transaction_day_of_week",
    "card_seconds_since_last_30d",
)
MODELS = (*RECIPES, *(f"{name}{EVENTS_ALONE}" for name in RECIPES[:2]))
AMOUNTS = (
    "transaction_amount",
    "transaction_amount_over_card_amount_mean_30d_delay_14d",
    "card_amount_mean_7d_over_card_amount_mean_30d_delay_14d",
    "card_amount_mean_1d",
    "card_amount_mean_7d",
)
PACE = ("card_count_1d", "card_count_7d", "card_seconds_since_last_30d")
# Features that show a cause; "merchant" stands for every merchant feature.
FEATURES_OF_CAUSE = {
    "stolen_card": (*AMOUNTS, *PACE),
    "card_testing": (*PACE, *AMOUNTS),
    "takeover": (*AMOUNTS, "transaction_hour_of_day", "merchant"),
    "compromised_merchant": ("merchant",),
}


@dataclass(frozen=True)
class ScoredNights:
    """Scores of a model with their causes, and the alerts among them."""

    scores: DataFrame
    alerts: DataFrame

    def by_cause(self, cause: str, budget: int) -> dict[str, Any]:
        """Return the metrics of one cause."""
        from pyspark.sql import functions as F

        from jobs.evaluation.ranking_metrics import ranking_metrics

        of_cause = F.col("cause") == cause
        rows = self.scores.where(F.col("cause").isNull() | of_cause)
        metrics = ranking_metrics(
            rows.withColumn("is_fraud", F.coalesce(of_cause, F.lit(False))), "ranking_value", budget
        )
        num_incidents = self.scores.where(of_cause).select("incident_id").distinct().count()
        alerts = self.alerts.where(of_cause)
        caught = alerts.select("incident_id").distinct().count()
        num_alerts, right = alerts.agg(F.count("*"), F.sum(_is_right(cause).cast("int"))).first()
        return {
            "auc_roc": round(metrics.roc_auc, 3),
            "num_incidents": num_incidents,
            "caught": round(caught / num_incidents, 3) if num_incidents else None,
            "num_alerts": num_alerts,
            "right": right or 0,
        }


def _is_right(cause: str) -> Any:
    """Return whether one of an alert's first two reasons is a feature of the cause."""
    from pyspark.sql import functions as F

    def is_of_cause(reason: Any) -> Any:
        feature = reason["feature"]
        exact = [name for name in FEATURES_OF_CAUSE[cause] if name != "merchant"]
        of_merchant = feature.startswith("merchant_") & F.lit(
            "merchant" in FEATURES_OF_CAUSE[cause]
        )
        return feature.isin(exact) | of_merchant

    return F.exists(F.slice("reasons", 1, 2), is_of_cause)


def ingest_simulated_bank(lake: Lake, num_cards: int) -> Dates:
    """Simulate a bank, ingest it and build its features; return its nights."""
    from jobs import features, ingest
    from jobs.deliveries.mapping import load_mapping
    from jobs.deliveries.source import Delivery
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.simulate import simulate
    from jobs.simulation.plan import SimulationPlan

    lake.create()
    bank = lake.path("_deliveries")
    simulate(lake.spark, SimulationPlan(bank, num_cards, NUM_DAYS, SEED, FIRST_DAY))
    nights = Dates(FIRST_DAY, FIRST_DAY + timedelta(days=NUM_DAYS - 1))
    with lease_nights(lake, nights) as night:
        ingest.run(night, Delivery(bank, "parquet", load_mapping("simulated")))
        features.run(night)
    return nights


def config_of(name: str) -> ModelConfig:
    """Return a recipe, or its variant that reads only the columns of single events."""
    from fraud_models.recipes import recipe

    base = recipe(name.removesuffix(EVENTS_ALONE))
    if not name.endswith(EVENTS_ALONE):
        return base
    network = replace(base.network, code_width=len(EVENT_COLUMNS) // 2)
    return replace(base, recipe=name, columns=EVENT_COLUMNS, network=network)


def train_and_score(lake: Lake, dates: Dates, name: str) -> ScoredNights:
    """Train a model as of the first of these nights, and score them."""
    from jobs import train
    from jobs.alerts import select_alerts
    from jobs.lake.tables import FEATURES_TABLE
    from jobs.models.contexts import score_nights
    from jobs.models.model_store import open_registry, read_checkpoint
    from jobs.models.training_plan import TrainingPlan

    plan = TrainingPlan(dates.first, name, config_of(name), 1)
    model = open_registry(lake).resolve(train.register(lake, plan))
    version = lake.versions((FEATURES_TABLE,))[FEATURES_TABLE.name]
    scores = score_nights(lake, dates, version, model)
    truth = lake.spark.read.parquet(lake.path("_deliveries", "truth"))
    with_causes = lake.stage(
        scores.join(truth, "transaction_id", "left"), f"causes-{name}", "scores"
    )
    calibration = read_checkpoint(model).calibration
    assert calibration is not None
    budget = lake.settings.alert_budget
    alerts = select_alerts(with_causes, calibration.threshold_for(budget), budget)
    return ScoredNights(with_causes, alerts.join(truth, "transaction_id"))


def main(
    num_cards: Annotated[int, typer.Option(help="Number of cards.")] = 2000,
    models: Annotated[str, typer.Option(help="Model names, separated by commas.")] = ",".join(
        MODELS
    ),
) -> None:
    """Simulate, train, score and print."""
    from jobs.lake.dates import Dates
    from jobs.simulation.frauds import CAUSES

    budget = max(1, num_cards * ALERTS_PER_100_CARDS // 100)
    result: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        open_lake(f"{folder}/lake", alert_budget=budget) as lake,
    ):
        nights = ingest_simulated_bank(lake, num_cards)
        dates = Dates(nights.last - timedelta(days=SCORED_DAYS - 1), nights.last)
        for name in models.split(","):
            scored = train_and_score(lake, dates, name)
            by_cause = {cause: scored.by_cause(cause, budget) for cause in CAUSES}
            num_alerts = sum(metrics["num_alerts"] for metrics in by_cause.values())
            right = sum(metrics["right"] for metrics in by_cause.values())
            result[name] = {
                "by_cause": by_cause,
                "reasons_right": round(right / num_alerts, 3) if num_alerts else None,
            }
            for cause, metrics in by_cause.items():
                typer.echo(f"{name:<42}{cause:<22}{metrics}")
    typer.echo(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
