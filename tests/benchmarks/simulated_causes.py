"""What a card's history is worth, and whether reasons are right, where the causes are known.

A bank is simulated, whose frauds each have a cause (`jobs/simulation/frauds.py` says what gives
each away), and goes through the jobs of a night. Each model is trained as of one day and scores
the two weeks after it. Printed for every model and cause: AUC ROC of its payments against all
genuine ones, the share of its incidents of which at least one payment became an alert, and for the
alerts that are frauds, how often one of the first two reasons names what gave the cause away.

Window features already tell of a card's past. What a memory is worth without them is told by two
more models, which read of each event its amount, its time and how long after the last it came:
one remembers earlier events, one does not. (A merchant is none of their reasons.)

    python tests/benchmarks/simulated_causes.py --num-cards 2000

The last line is one JSON object: all of it by model; `reasons_right` over all causes.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from fraud_models.config import ModelConfig
    from jobs.lake.dates import Dates
    from jobs.lake.delta_io import Lake

FIRST_DAY = date(2024, 1, 1)
NUM_DAYS, JUDGED_DAYS, SEED = 77, 14, 11
# Cards that people look at each night, of a hundred.
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
# What gives a cause away, as features say it. "merchant" stands for all that is known of one.
TELLING = {
    "stolen_card": (*AMOUNTS, *PACE),
    "card_testing": (*PACE, *AMOUNTS),
    "takeover": (*AMOUNTS, "transaction_hour_of_day", "merchant"),
    "compromised_merchant": ("merchant",),
}


@dataclass(frozen=True)
class Nights:
    """The judged nights of a model: scores with causes, and the alerts among them."""

    scores: DataFrame
    alerts: DataFrame

    def by_cause(self, cause: str, budget: int) -> dict[str, Any]:
        """Figures of one cause."""
        from pyspark.sql import functions as F

        from jobs.evaluation.ranking_metrics import figures

        mine = F.col("cause") == cause
        rows = self.scores.where(F.col("cause").isNull() | mine)
        found = figures(
            rows.withColumn("is_fraud", F.coalesce(mine, F.lit(False))), "ranking_value", budget
        )
        num_incidents = self.scores.where(mine).select("incident_id").distinct().count()
        alerts = self.alerts.where(mine)
        caught = alerts.select("incident_id").distinct().count()
        num_alerts, right = alerts.agg(F.count("*"), F.sum(_is_right(cause).cast("int"))).first()
        return {
            "auc_roc": round(found.roc_auc, 3),
            "num_incidents": num_incidents,
            "caught": round(caught / num_incidents, 3) if num_incidents else None,
            "num_alerts": num_alerts,
            "right": right or 0,
        }


def _is_right(cause: str) -> Any:
    """Whether one of an alert's first two reasons is what gives the cause away."""
    from pyspark.sql import functions as F

    def names(reason: Any) -> Any:
        feature = reason["feature"]
        exact = [name for name in TELLING[cause] if name != "merchant"]
        of_merchant = feature.startswith("merchant_") & F.lit("merchant" in TELLING[cause])
        return feature.isin(exact) | of_merchant

    return F.exists(F.slice("reasons", 1, 2), names)


def bring_in(lake: Lake, num_cards: int) -> Dates:
    """Simulate a bank, ingest it and build its features; returns its nights."""
    from jobs import features, ingest
    from jobs.deliveries.mapping import load_mapping
    from jobs.deliveries.source import Delivery
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.simulate import SimulationPlan, simulate

    lake.create()
    bank = lake.path("_deliveries")
    simulate(lake.spark, SimulationPlan(bank, num_cards, NUM_DAYS, SEED, FIRST_DAY))
    nights = Dates(FIRST_DAY, FIRST_DAY + timedelta(days=NUM_DAYS - 1))
    with lease_nights(lake, nights) as night:
        ingest.run(night, Delivery(bank, "parquet", load_mapping("simulated")))
        features.run(night)
    return nights


def config_of(name: str) -> ModelConfig:
    """A recipe, or one that reads events alone."""
    from fraud_models.recipes import recipe

    base = recipe(name.removesuffix(EVENTS_ALONE))
    if not name.endswith(EVENTS_ALONE):
        return base
    network = replace(base.network, code_width=len(EVENT_COLUMNS) // 2)
    return replace(base, recipe=name, columns=EVENT_COLUMNS, network=network)


def judged(lake: Lake, dates: Dates, name: str) -> Nights:
    """Train a model as of the first of these nights, and score them."""
    from jobs import train
    from jobs.alerts import choose
    from jobs.lake.tables import FEATURES_TABLE
    from jobs.models.contexts import score_nights
    from jobs.models.model_store import open_registry, read_checkpoint
    from jobs.models.training_plan import TrainingPlan

    plan = TrainingPlan(dates.first, name, config_of(name), 1)
    model = open_registry(lake).resolve(train.register(lake, plan))
    version = lake.versions((FEATURES_TABLE,))[FEATURES_TABLE.name]
    scores = score_nights(lake, dates, version, model)
    truth = lake.spark.read.parquet(lake.path("_deliveries", "truth"))
    known = lake.stage(scores.join(truth, "transaction_id", "left"), f"causes-{name}", "scores")
    calibration = read_checkpoint(model).calibration
    assert calibration is not None
    budget = lake.settings.alert_budget
    alerts = choose(known, calibration.threshold_for(budget), budget)
    return Nights(known, alerts.join(truth, "transaction_id"))


def main(
    num_cards: Annotated[int, typer.Option(help="Cards of the bank.")] = 2000,
    models: Annotated[str, typer.Option(help="Names of them, with commas.")] = ",".join(MODELS),
) -> None:
    """Simulate, train, judge and print."""
    from jobs.lake.dates import Dates
    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import load_settings
    from jobs.runtime.spark_session import open_session
    from jobs.simulation.frauds import CAUSES

    budget = max(1, num_cards * ALERTS_PER_100_CARDS // 100)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        settings = load_settings(None, {"lake": f"{place}/lake", "alert_budget": budget})
        lake = Lake(open_session(settings), settings)
        nights = bring_in(lake, num_cards)
        dates = Dates(nights.last - timedelta(days=JUDGED_DAYS - 1), nights.last)
        for name in models.split(","):
            of_model = judged(lake, dates, name)
            by_cause = {cause: of_model.by_cause(cause, budget) for cause in CAUSES}
            num_alerts = sum(found["num_alerts"] for found in by_cause.values())
            right = sum(found["right"] for found in by_cause.values())
            result[name] = {
                "by_cause": by_cause,
                "reasons_right": round(right / num_alerts, 3) if num_alerts else None,
            }
            for cause, found in by_cause.items():
                typer.echo(f"{name:<42}{cause:<22}{found}")
        lake.spark.stop()
    typer.echo(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
