"""Every notebook runs from top to bottom, those about a lake on a small one."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbclient import NotebookClient

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
FIRST, NUM_DAYS, NUM_CARDS, NUM_ALERTS = date(2024, 1, 1), 56, 60, 5


@pytest.fixture(scope="module")
def finished_lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank's history, two models, and one night."""
    from fraud_models.recipes import recipe
    from fraud_models.registry.mlflow_registry import CHAMPION
    from jobs import features, ingest, nightly, train
    from jobs.deliveries.mapping import load_mapping
    from jobs.deliveries.source import Delivery
    from jobs.lake.dates import Dates
    from jobs.lake.delta_io import Lake
    from jobs.lake.nights import lease_nights
    from jobs.models.model_store import open_registry
    from jobs.models.training_plan import TrainingPlan
    from jobs.runtime.settings import load_settings
    from jobs.simulate import SimulationPlan, simulate

    place = tmp_path_factory.mktemp("notebooks")
    bank, last = str(place / "bank"), FIRST + timedelta(days=NUM_DAYS - 1)
    simulate(spark, SimulationPlan(bank, NUM_CARDS, NUM_DAYS, seed=5, first_day=FIRST))
    named = {"lake": str(place / "lake"), "alert_budget": NUM_ALERTS}
    lake = Lake(spark, load_settings(None, named))
    lake.create()
    with lease_nights(lake, Dates(FIRST, last - timedelta(days=1))) as night:
        ingest.run(night, Delivery(bank, "parquet", load_mapping("simulated")))
        features.run(night)
    for name in ("feed_forward_autoencoder", "lstm_autoencoder"):
        config = recipe(name)
        short = replace(config.optimisation, epochs=1, batch_size=16)
        config = replace(config, train_days=21, optimisation=short)
        plan = TrainingPlan(last - timedelta(days=21), name, config, num_workers=1)
        version = train.register(lake, plan)
    open_registry(lake).set_alias(CHAMPION, version)
    nightly.run(lake, last)
    return place / "lake"


def ran(path: Path) -> list[str]:
    """Run a notebook; returns what its cells show."""
    notebook = nbformat.read(path, as_version=4)
    folder = {"metadata": {"path": str(path.parent)}}
    done = NotebookClient(notebook, timeout=240, kernel_name="python3", resources=folder).execute()
    return [
        str(output.get("data", output.get("text", "")))
        for cell in done.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]


def reads_a_lake(path: Path) -> bool:
    return "FRAUD_LAKE" in path.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [p for p in NOTEBOOKS if not reads_a_lake(p)], ids=lambda path: path.stem
)
def test_it_runs(path: Path) -> None:
    assert ran(path)


@pytest.mark.spark
@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [p for p in NOTEBOOKS if reads_a_lake(p)], ids=lambda path: path.stem
)
def test_it_runs_on_a_lake(
    path: Path, finished_lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUD_LAKE", str(finished_lake))
    monkeypatch.setenv("FRAUD_ALERT_BUDGET", str(NUM_ALERTS))
    shown = ran(path)
    assert any("image/png" in text or "%" in text for text in shown)


def test_there_are_notebooks() -> None:
    assert len([path for path in NOTEBOOKS if reads_a_lake(path)]) >= 4
