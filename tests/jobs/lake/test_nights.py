"""Nights: pins, leases, what is finished, and how few commits that takes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from feature_defs.problems import InputMissing, NightHeld

if TYPE_CHECKING:
    from jobs.lake.delta_io import Lake

pytestmark = pytest.mark.spark

DAY = date(2024, 3, 1)


def test_a_night_is_pinned_recorded_and_let_go(lake: Lake) -> None:
    from jobs.lake.delta_io import Dates
    from jobs.lake.nights import hold
    from jobs.lake.tables import NIGHTS, RUNS

    dates = Dates(DAY, DAY)
    with hold(lake, dates) as night:
        assert night.pins == {"transactions": 0, "labels": 0, "features": 0, "scores": 0}
        with pytest.raises(InputMissing, match="`ingest` has not finished"):
            night.need("ingest")
        with pytest.raises(NightHeld, match="Another run holds 1 of the nights"), hold(lake, dates):
            pass
        with night.job("ingest", {"source": "x"}) as run:
            run.versions_out["transactions"] = 5
        with night.job("features") as run:
            run.versions_out["features"] = 6
        with pytest.raises(ValueError, match="boom"), night.job("score"):
            raise ValueError("boom")
        assert night.need("ingest").arguments == {"source": "x"}
    row = lake.read(NIGHTS).collect()[0]
    assert (row["holder"], row["state"], row["epoch"]) == (None, "open", 1)
    assert row["pins"]["transactions"] == 5
    assert row["pins"]["features"] == 6
    assert set(row["jobs"]) == {"ingest", "features"}
    runs = {row["job"]: row for row in lake.read(RUNS).collect()}
    assert {job: row["status"] for job, row in runs.items()} == {
        "ingest": "done",
        "features": "done",
        "score": "failed",
    }
    assert "boom" in runs["score"]["error"]
    # Taken, ingest recorded, features recorded, let go.
    assert lake.version(NIGHTS) == 4
    assert lake.version(RUNS) == 1

    with hold(lake, dates) as night:
        assert night.pins["features"] == 6
        assert set(night.finished) == {"ingest", "features"}
        # Ingested again: what was built on the old rows is no longer finished.
        with night.job("ingest") as run:
            run.versions_out["transactions"] = 7
        assert set(night.finished) == {"ingest"}


def test_the_records_of_a_killed_run_are_copied_by_the_next(lake: Lake) -> None:
    from jobs.lake.delta_io import Dates
    from jobs.lake.nights import _claim, hold
    from jobs.lake.tables import NIGHTS, RUNS

    killed = _claim(lake, Dates(DAY, DAY))
    with killed.job("ingest") as run:
        run.versions_out["transactions"] = 1
    assert lake.read(RUNS).count() == 0
    # Its lease ends by itself.
    past = datetime.now(UTC) - timedelta(hours=1)
    lake.delta_table(NIGHTS).update(set={"lease_until": f"TIMESTAMP'{past:%Y-%m-%d %H:%M:%S}'"})
    with hold(lake, Dates(DAY, DAY)) as night:
        assert set(night.finished) == {"ingest"}
    assert [row["run_id"] for row in lake.read(RUNS).collect()] == [run.run_id]
    # The dead run comes back: it holds the night no more, and changes nothing.
    killed.close()
    assert lake.read(NIGHTS).collect()[0]["epoch"] == 2


def test_a_range_is_held_as_a_whole_or_not_at_all(lake: Lake) -> None:
    from jobs.lake.delta_io import Dates
    from jobs.lake.nights import hold
    from jobs.lake.tables import NIGHTS

    with hold(lake, Dates(DAY, DAY)):
        before = DAY - timedelta(days=2)
        with pytest.raises(NightHeld, match=str(DAY)), hold(lake, Dates(before, DAY)):
            pass
        held = lake.read(NIGHTS).where("holder IS NOT NULL").collect()
        assert [row["business_date"] for row in held] == [DAY]


def test_only_ingest_begins_a_night(lake: Lake) -> None:
    from jobs.lake.delta_io import Dates
    from jobs.lake.nights import hold, require_ingested
    from jobs.lake.tables import LABELS, NIGHTS

    dates = Dates(DAY, DAY)
    with pytest.raises(InputMissing, match=f"`ingest` has not finished .* {DAY}"):
        require_ingested(lake, dates)
    assert lake.read(NIGHTS).count() == 0
    # An ingest that failed has pinned nothing: the next one reads what is there then.
    with hold(lake, dates) as night, pytest.raises(ValueError), night.job("ingest"):
        raise ValueError("no")
    moment = datetime.now(UTC)
    label = ("t", True, moment, "source", moment, DAY)
    lake.append(LABELS, lake.spark.createDataFrame([label], LABELS.ddl), "run")
    with hold(lake, dates) as night:
        assert night.pin("labels") == lake.version(LABELS) > 0
        with night.job("ingest") as run:
            run.versions_out["transactions"] = 1
    require_ingested(lake, dates)
