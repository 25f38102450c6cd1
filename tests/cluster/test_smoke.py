"""Smoke test of a cluster: executors import the wheel, and write and read a Delta table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cluster.standalone import Driver
from tests.cluster.worker_environment import ROOT, site_packages

pytestmark = [pytest.mark.spark, pytest.mark.distributed, pytest.mark.slow]


# Slow: builds the wheel and starts a master and two workers.
def test_executors_with_the_wheel_write_and_read_a_table(
    on_cluster: Driver, worker_python: Path, tmp_path: Path
) -> None:
    script = Path(__file__).with_name("round_trip.py")
    output = on_cluster.start_script(script, str(tmp_path / "table")).wait().checked()
    result = json.loads(output.strip().splitlines()[-1])
    assert result["ids"] == list(range(100))
    installed = site_packages(worker_python).resolve()
    assert result["folders"] == [str(installed)]
    assert not installed.is_relative_to(ROOT)
    assert (tmp_path / "table" / "_delta_log").is_dir()
