"""The layer contracts of `make lint` notice a wrong import in every package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A module of each package or layer, and a module of a higher or a sibling layer.
WRONG_IMPORTS = {
    "feature_defs.errors": "feature_defs.catalogue",
    "feature_defs.feature": "feature_defs.card",
    "feature_defs.card": "feature_defs.merchant",
    "feature_defs.catalogue": "feature_defs.point_in_time.compiler",
    "feature_defs.point_in_time.hot_keys": "fraud_models.config",
    "fraud_models.storage": "fraud_models.recipes",
    "fraud_models.recipes": "fraud_models.networks.autoencoder",
    "fraud_models.evaluation.splits": "fraud_models.scoring.scorer",
    "fraud_models.sequences.encoding": "fraud_models.networks.autoencoder",
    "fraud_models.networks.autoencoder": "fraud_models.scoring.rarity",
    "fraud_models.scoring.scorer": "fraud_models.registry.checkpoint",
    "fraud_models.registry.promotion": "fraud_models.training.loop",
    "fraud_models.training.passes": "jobs.runtime.logs",
    "jobs.runtime.paths": "jobs.lake.dates",
    "jobs.lake.dates": "jobs.deliveries.mapping",
    "jobs.simulation.plan": "jobs.lake.dates",
    "jobs.deliveries.mapping": "jobs.models.contexts",
    "jobs.models.model_store": "jobs.quality.gate",
    "jobs.quality.drift": "jobs.lineage.audit",
    "jobs.lineage.audit": "jobs.evaluation.candidates",
    "jobs.evaluation.candidates": "jobs.health.check_result",
    "jobs.health.check_result": "jobs.report_pages.wording",
    "jobs.report_pages.wording": "jobs.report",
    "jobs.score": "jobs.features",
    "jobs.nightly": "jobs.backfill",
    "jobs.backfill": "jobs.demo",
    "jobs.demo": "jobs.cli.options",
}


@pytest.mark.slow
def test_wrong_import_in_each_package_breaks_a_contract(tmp_path: Path) -> None:
    for package in ("feature_defs", "fraud_models", "jobs"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy2(ROOT / "setup.cfg", tmp_path)
    for importer, imported in WRONG_IMPORTS.items():
        file = tmp_path / Path(*importer.split(".")).with_suffix(".py")
        with file.open("a", encoding="utf-8") as source:
            source.write(f"\nimport {imported}\n")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "400"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    unnoticed = [
        f"{importer} -> {imported}"
        for importer, imported in WRONG_IMPORTS.items()
        if f"{importer} -> {imported} " not in done.stdout
    ]
    assert not unnoticed, done.stdout[-5000:]


def test_every_package_has_a_wrong_import_here() -> None:
    packages = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for root in ("feature_defs", "fraud_models", "jobs")
        for path in (ROOT / root).glob("*/__init__.py")
    }
    tried = {importer.rpartition(".")[0] for importer in WRONG_IMPORTS}
    # The command line is the top layer: it may import everything.
    assert packages - tried == {"jobs.cli"}
