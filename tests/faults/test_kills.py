"""Kill `nightly` (`kill -9`) inside every job, and between every commit and its record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from lakes import LAST_NIGHT
from target_process import FaultPoint

pytestmark = [pytest.mark.faults, pytest.mark.spark, pytest.mark.slow]

# The job before which the lake was copied, and where its night is killed.
KILLS = (
    ("ingest", FaultPoint("acquire")),
    ("ingest", FaultPoint("acquire", when="after")),
    ("ingest", FaultPoint("stage", "validated_transactions", "within")),
    ("ingest", FaultPoint("stage", "validated_labels", "after")),
    ("ingest", FaultPoint("publish", "quarantine", "within")),
    ("ingest", FaultPoint("publish", "quarantine", "after")),
    ("ingest", FaultPoint("publish", "labels", "after")),
    ("ingest", FaultPoint("publish", "transactions", "within")),
    ("ingest", FaultPoint("publish", "transactions", "after")),
    ("ingest", FaultPoint("save", when="after")),
    ("features", FaultPoint("stage", "features", "within")),
    ("features", FaultPoint("publish", "features", "within")),
    ("features", FaultPoint("publish", "features", "after")),
    ("features", FaultPoint("save", when="after")),
    ("score", FaultPoint("stage", "scores", "within")),
    ("score", FaultPoint("stage", "scores", "after")),
    ("publish", FaultPoint("publish", "scores", "within")),
    ("publish", FaultPoint("publish", "scores", "after")),
    ("publish", FaultPoint("save", when="after")),
    ("publish", FaultPoint("discard", when="after")),
    ("alerts", FaultPoint("publish", "alerts", "within")),
    ("alerts", FaultPoint("publish", "alerts", "after")),
    ("monitor", FaultPoint("drift", when="within")),
    ("report", FaultPoint("write", "alerts.csv", "after")),
    ("report", FaultPoint("write", "report.html", "after")),
    ("report", FaultPoint("append", "runs", "within")),
    ("report", FaultPoint("append", "runs", "after")),
    ("report", FaultPoint("save", when="after")),
)


@pytest.mark.parametrize(("stage", "fault"), KILLS, ids=[f"{s}: {f}" for s, f in KILLS])
def test_killed_night_is_completed_by_a_rerun(
    stage: str, fault: FaultPoint, inject: Callable[..., Any]
) -> None:
    with inject(f"{stage}: {fault}", stage) as faulty:
        result = faulty.run_nightly(fault)
        assert result.code == -9, result.output[-3000:]
        faulty.report_fault()
    pages = (faulty.folder / "_reports" / str(LAST_NIGHT)).glob("[!.]*")
    assert {page.name for page in pages} == {"report.html", "alerts.csv"}
