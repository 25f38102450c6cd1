"""Every notebook runs from top to bottom; notebooks that read a lake run on a small one."""

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
    """Return a lake with a bank's history, two models and one finished night."""
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

    folder = tmp_path_factory.mktemp("notebooks")
    bank, last = str(folder / "bank"), FIRST + timedelta(days=NUM_DAYS - 1)
    simulate(spark, SimulationPlan(bank, NUM_CARDS, NUM_DAYS, seed=5, first_day=FIRST))
    options = {"lake": str(folder / "lake"), "alert_budget": NUM_ALERTS}
    lake = Lake(spark, load_settings(None, options))
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
    return folder / "lake"


def run_notebook(path: Path) -> list[str]:
    """Run a notebook; return the outputs of its cells."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    executed = NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources=resources
    ).execute()
    return [
        str(output.get("data", output.get("text", "")))
        for cell in executed.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]


def reads_a_lake(path: Path) -> bool:
    return "FRAUD_LAKE" in path.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [p for p in NOTEBOOKS if not reads_a_lake(p)], ids=lambda path: path.stem
)
def test_notebook_without_lake_runs(path: Path) -> None:
    assert run_notebook(path)


@pytest.mark.spark
@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [p for p in NOTEBOOKS if reads_a_lake(p)], ids=lambda path: path.stem
)
def test_notebook_runs_on_a_small_lake(
    path: Path, finished_lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUD_LAKE", str(finished_lake))
    monkeypatch.setenv("FRAUD_ALERT_BUDGET", str(NUM_ALERTS))
    outputs = run_notebook(path)
    assert any("image/png" in text or "%" in text for text in outputs)


def test_at_least_four_notebooks_read_a_lake() -> None:
    assert len([path for path in NOTEBOOKS if reads_a_lake(path)]) >= 4
