"""Run the whole product once: a small bank, a model, five nights and the morning's report.

Reads   nothing; `simulate` generates the deliveries of a bank of 400 cards
Writes  a lake of its own (default: `./demo-lake`)
Fails   when one of the jobs that it runs fails

All jobs run in one process and one Spark session. A second run skips every step that is done.

    fraud-scoring demo
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

from rich.console import Console

from fraud_models.recipes import recipe
from fraud_models.registry.mlflow_registry import CHALLENGER, CHAMPION
from jobs import evaluate, features, ingest, nightly, promote, simulate, train
from jobs.deliveries.mapping import load_mapping
from jobs.deliveries.readiness import check_ready
from jobs.deliveries.source import Delivery
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.nights import lease_nights
from jobs.lake.run_history import night_records
from jobs.models.model_store import open_registry
from jobs.models.training_plan import TrainingPlan
from jobs.runtime.logs import log_event
from jobs.simulation.plan import SimulationPlan

DEFAULT_LAKE = "demo-lake"
NUM_CARDS, NUM_DAYS, SEED = 400, 75, 11
FIRST_DAY = date(2024, 1, 1)
NUM_NIGHTS = 5
# The model is evaluated on a week of nights whose labels, up to a week late, have all arrived. So
# its training data end two weeks before the first night.
EVALUATION_DAYS, LABEL_DAYS = 7, 7
# A tenth of the default budget, because the bank has only 400 cards.
ALERT_BUDGET = 10
RECIPE, NUM_WORKERS = "lstm_autoencoder", 2


def run(lake: Lake) -> str:
    """Run the demo and return the path of the last night's report."""
    if "alert_budget" not in lake.settings.model_fields_set:
        small = lake.settings.model_copy(update={"alert_budget": ALERT_BUDGET})
        lake = replace(lake, settings=small)
    lake.create()
    bank = lake.path("_deliveries")
    last_day = FIRST_DAY + timedelta(days=NUM_DAYS - 1)
    history = Dates(FIRST_DAY, last_day - timedelta(days=NUM_NIGHTS))
    delivery = Delivery(bank, "parquet", load_mapping("simulated"))

    log_event("1 of 5: simulate the deliveries of a bank")
    if not lake.files.exists(f"{bank}/_complete/{last_day}"):
        simulate.simulate(lake.spark, SimulationPlan(bank, NUM_CARDS, NUM_DAYS, SEED, FIRST_DAY))
    log_event("2 of 5: ingest the history and compute its features")
    _ingest_history(lake, delivery, history)
    log_event("3 of 5: train, evaluate and promote a model")
    _promote_model(lake, history)
    log_event(f"4 of 5: run {NUM_NIGHTS} nights")
    page = ""
    for number in range(NUM_NIGHTS):
        page = nightly.run(lake, history.last + timedelta(days=1 + number))
    log_event("5 of 5: the report is ready")
    _print_locations(lake, page)
    return page


def _ingest_history(lake: Lake, delivery: Delivery, history: Dates) -> None:
    records = night_records(lake, history).values()
    ingested = sum("ingest" in jobs for jobs in records) == history.num_nights
    built = sum("features" in jobs for jobs in records) == history.num_nights
    if ingested and built:
        log_event("the history is already ingested and has features")
        return
    if not ingested:
        check_ready(lake, delivery, history)
    with lease_nights(lake, history) as night:
        if not ingested:
            ingest.run(night, delivery)
        features.run(night)


def _promote_model(lake: Lake, history: Dates) -> None:
    registry = open_registry(lake)
    if CHAMPION in registry.list_aliases():
        log_event("the lake already has a champion")
        return
    as_of = history.last - timedelta(days=EVALUATION_DAYS + LABEL_DAYS - 1)
    train.run(lake, TrainingPlan(as_of, RECIPE, recipe(RECIPE), NUM_WORKERS))
    evaluation_nights = Dates(as_of, as_of + timedelta(days=EVALUATION_DAYS - 1))
    evaluate.show(evaluate.run(lake, evaluation_nights, CHALLENGER))
    promote.run(lake, CHALLENGER)


def _print_locations(lake: Lake, page: str) -> None:
    console = Console(stderr=True)
    for name, location in (
        ("report of the last night", page),
        ("alerts as CSV", page.replace("report.html", "alerts.csv")),
        ("tables", lake.uri),
        ("models", lake.path("_models")),
        ("registry", lake.path("_registry")),
        ("deliveries", lake.path("_deliveries")),
        (
            "alert budget",
            f"{lake.settings.alert_budget} cards; set FRAUD_ALERT_BUDGET to change it",
        ),
    ):
        console.print(f"{name:>24}  {location}", soft_wrap=True, markup=False)
