"""Every notebook runs from top to bottom; notebooks that read a lake run on a small one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from tests.quick_spark import quick_environment
from tests.quick_training import training_in_this_process

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
        with training_in_this_process():
            version = train.register(lake, plan)
    open_registry(lake).set_alias(CHAMPION, version)
    nightly.run(lake, last)
    return folder / "lake"


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelManager]:
    """Start one kernel, and so one Java, for all notebooks that read a lake."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in quick_environment().items():
            patch.setenv(name, value)
        manager = KernelManager(kernel_name="python3")
        manager.start_kernel(cwd=str(NOTEBOOKS[0].parent))
    yield manager
    manager.shutdown_kernel(now=True)


def run_notebook(path: Path, kernel: KernelManager, environment: dict[str, str]) -> list[str]:
    """Run a notebook in an empty namespace; return the outputs of its cells."""
    notebook = nbformat.read(path, as_version=4)
    prepare = f"%reset -f\nimport os\nos.environ.update({environment!r})\ndel os"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(prepare))
    executed = NotebookClient(notebook, timeout=240, km=kernel).execute()
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
def test_notebook_without_lake_runs(path: Path, kernel: KernelManager) -> None:
    assert run_notebook(path, kernel, {})


# Slow: the first one waits for a bank, two models and a night; each bootstraps or scores.
@pytest.mark.spark
@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [p for p in NOTEBOOKS if reads_a_lake(p)], ids=lambda path: path.stem
)
def test_notebook_runs_on_a_small_lake(
    path: Path, finished_lake: Path, kernel: KernelManager
) -> None:
    environment = {"FRAUD_LAKE": str(finished_lake), "FRAUD_ALERT_BUDGET": str(NUM_ALERTS)}
    outputs = run_notebook(path, kernel, environment)
    assert any("image/png" in text or "%" in text for text in outputs)


def test_at_least_four_notebooks_read_a_lake() -> None:
    assert len([path for path in NOTEBOOKS if reads_a_lake(path)]) >= 4
