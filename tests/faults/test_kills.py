"""`kill -9` of `nightly` in the middle of every job, and between every commit and its record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from commands import run
from lakes import LAST, Picture, picture, run_again
from victim import Trap

if TYPE_CHECKING:
    from jobs.lake.delta_io import Lake

pytestmark = [pytest.mark.faults, pytest.mark.spark, pytest.mark.slow]

# The job at whose beginning the lake stands, and where its night is killed.
KILLS = (
    ("ingest", Trap("claim")),
    ("ingest", Trap("claim", when="after")),
    ("ingest", Trap("stage", "judged_transactions", "within")),
    ("ingest", Trap("stage", "judged_labels", "after")),
    ("ingest", Trap("publish", "quarantine", "within")),
    ("ingest", Trap("publish", "quarantine", "after")),
    ("ingest", Trap("publish", "labels", "after")),
    ("ingest", Trap("publish", "transactions", "within")),
    ("ingest", Trap("publish", "transactions", "after")),
    ("ingest", Trap("record", when="after")),
    ("features", Trap("stage", "features", "within")),
    ("features", Trap("publish", "features", "within")),
    ("features", Trap("publish", "features", "after")),
    ("features", Trap("record", when="after")),
    ("score", Trap("stage", "scores", "within")),
    ("score", Trap("stage", "scores", "after")),
    ("publish", Trap("publish", "scores", "within")),
    ("publish", Trap("publish", "scores", "after")),
    ("publish", Trap("record", when="after")),
    ("publish", Trap("discard", when="after")),
    ("alerts", Trap("publish", "alerts", "within")),
    ("alerts", Trap("publish", "alerts", "after")),
    ("monitor", Trap("drift", when="within")),
    ("report", Trap("file", "alerts.csv", "after")),
    ("report", Trap("file", "report.html", "after")),
    ("report", Trap("append", "runs", "within")),
    ("report", Trap("append", "runs", "after")),
    ("report", Trap("record", when="after")),
)


@pytest.mark.parametrize(("stage", "trap"), KILLS, ids=[f"{s}: {t}" for s, t in KILLS])
def test_a_night_that_is_killed_and_run_again(
    stage: str,
    trap: Trap,
    lake_at: Callable[[str], Lake],
    undisturbed: Picture,
    before: Callable[[str], str],
    outcome: Callable[[str], Any],
) -> None:
    lake = lake_at(stage)
    place = Path(lake.uri)
    with outcome(f"{stage}: {trap}") as line:
        line.before = before(stage)
        hit = run(place, "nightly", "--date", LAST, trap=trap)
        assert hit.code == -9, hit.words[-3000:]
        after = picture(lake)
        line.after_fault = after.brief()
        assert not after.half_shown(undisturbed)
        run_again(lake)
        whole = picture(lake)
        line.after_rerun = whole.brief()
        assert not whole.differences(undisturbed)
        assert {page.name for page in (place / "_reports" / str(LAST)).glob("[!.]*")} == {
            "report.html",
            "alerts.csv",
        }
