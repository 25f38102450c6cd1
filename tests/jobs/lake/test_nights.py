"""Nights: pins, leases, fencing, finished jobs, and the number of commits."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from feature_defs.errors import InputMissing, NightHeld, UsageError

if TYPE_CHECKING:
    from jobs.lake.delta_io import Lake

pytestmark = pytest.mark.spark

DAY = date(2024, 3, 1)


def end_leases(lake: Lake) -> None:
    """Let all leases expire. Their owners are alive, so only the time decides."""
    from jobs.lake.tables import NIGHTS

    past = datetime.now(UTC) - timedelta(hours=1)
    lake.delta_table(NIGHTS).update(set={"lease_until": f"TIMESTAMP'{past:%Y-%m-%d %H:%M:%S}'"})


def test_lease_nights_pins_records_and_releases(lake: Lake) -> None:
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import NIGHTS, RUNS

    dates = Dates(DAY, DAY)
    with lease_nights(lake, dates) as night:
        assert night.pins == {"transactions": 0, "labels": 0, "features": 0, "scores": 0}
        with pytest.raises(InputMissing, match="`ingest` has not finished"):
            night.require_finished("ingest")
        with (
            pytest.raises(NightHeld, match="Another run has leased 1 of the nights"),
            lease_nights(lake, dates),
        ):
            pass
        with night.job("ingest", {"source": "x"}) as run:
            run.versions_out["transactions"] = 5
        with night.job("features") as run:
            run.versions_out["features"] = 6
        with pytest.raises(ValueError, match="boom"), night.job("score"):
            raise ValueError("boom")
        assert night.require_finished("ingest").arguments == {"source": "x"}
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
    # Commits: lease, `ingest` recorded, `features` recorded, release.
    assert lake.version(NIGHTS) == 4
    assert lake.version(RUNS) == 1

    with lease_nights(lake, dates) as night:
        assert night.pins["features"] == 6
        assert set(night.finished) == {"ingest", "features"}
        # After a new `ingest`, the jobs that read the old rows are unfinished again.
        with night.job("ingest") as run:
            run.versions_out["transactions"] = 7
        assert set(night.finished) == {"ingest"}


def test_resuming_run_copies_the_records_of_a_killed_run(lake: Lake) -> None:
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import NIGHTS, RUNS

    paused = lease_nights(lake, Dates(DAY, DAY))
    killed = paused.__enter__()
    with killed.job("ingest") as run:
        run.versions_out["transactions"] = 1
    assert lake.read(RUNS).count() == 0
    end_leases(lake)
    with lease_nights(lake, Dates(DAY, DAY)) as night:
        assert set(night.finished) == {"ingest"}
    assert [row["run_id"] for row in lake.read(RUNS).collect()] == [run.run_id]
    # The first run resumes: it has lost its lease and changes nothing.
    with pytest.raises(NightHeld, match="lost its lease"):
        paused.__exit__(None, None, None)
    row = lake.read(NIGHTS).collect()[0]
    assert (row["epoch"], row["holder"]) == (2, None)


def test_run_that_lost_its_lease_publishes_nothing(lake: Lake) -> None:
    """The lease may get lost before the write starts or during the write."""
    from pyspark.sql import functions as F

    from jobs.lake.dates import Dates
    from jobs.lake.delta_io import Commit
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import QUARANTINE

    dates = Dates(DAY, DAY)
    rows = lake.spark.createDataFrame([("s", "late", ["r"], "run", DAY)], QUARANTINE.ddl)
    with pytest.raises(NightHeld, match="lost its lease"), lease_nights(lake, dates) as slow:
        with slow.job("ingest") as run:
            slow.publish(QUARANTINE, rows, run)
        fence = slow.lease.fence()
        end_leases(lake)
        with lease_nights(lake, dates) as quick, quick.job("ingest") as other:
            quick.publish(QUARANTINE, rows.withColumn("raw", F.lit("new")), other)
        before = lake.version(QUARANTINE)
        # A high epoch: only the fence inside the write can stop this commit.
        commit = Commit("slow", slow.epoch + 9, fence)
        with pytest.raises(Exception, match="the lease of 2024-03-01 is lost"):
            lake.publish(QUARANTINE, rows, dates, commit)
        # No fence: the epoch alone stops this commit, because a higher one was committed before.
        with pytest.raises(InputMissing, match="Nothing was written to `quarantine`"):
            lake.publish(QUARANTINE, rows, dates, Commit("slow", slow.epoch, F.lit(True)))
        assert lake.version(QUARANTINE) == before
        with slow.job("ingest") as run:
            slow.publish(QUARANTINE, rows, run)
    assert {row["raw"] for row in lake.read(QUARANTINE).collect()} == {"new"}
    assert lake.version(QUARANTINE) == before


def test_publish_with_an_outdated_nights_table_is_refused(lake: Lake) -> None:
    """If `nights` was restored from a copy, a skipped write must not be recorded as done."""
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import NIGHTS, QUARANTINE

    dates = Dates(DAY, DAY)
    rows = lake.spark.createDataFrame([("s", "first", ["r"], "run", DAY)], QUARANTINE.ddl)
    for _ in range(2):
        with lease_nights(lake, dates) as night, night.job("ingest") as run:
            night.publish(QUARANTINE, rows, run)
    lake.delta_table(NIGHTS).update(set={"epoch": "epoch - 1"})
    other = rows.selectExpr("source", "'second' AS raw", "reasons", "run_id", "business_date")
    with (
        pytest.raises(InputMissing, match="restored from a copy"),
        lease_nights(lake, dates) as night,
        night.job("ingest") as run,
    ):
        night.publish(QUARANTINE, other, run)
    # The failed attempt has raised the epoch by one.
    with lease_nights(lake, dates) as night, night.job("ingest") as run:
        night.publish(QUARANTINE, other, run)
    assert [row["raw"] for row in lake.read(QUARANTINE).collect()] == ["second"]


def test_nights_of_a_range_publish_with_their_own_epochs(lake: Lake) -> None:
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import QUARANTINE

    often = DAY + timedelta(days=1)
    for _ in range(3):
        with lease_nights(lake, Dates(often, often)):
            pass

    def replace(night: Any, text: str) -> None:
        day = night.dates.first
        rows = lake.spark.createDataFrame([("s", text, ["r"], "run", day)], QUARANTINE.ddl)
        with night.job("alerts") as run:
            night.publish(QUARANTINE, rows, run)

    with lease_nights(lake, Dates(DAY, often)) as range_of_two:
        for night in range_of_two.each():
            replace(night, "in the range")
    with lease_nights(lake, Dates(DAY, DAY)) as alone:
        replace(alone, "alone")
    rows = lake.read(QUARANTINE).orderBy("business_date").collect()
    assert [row["raw"] for row in rows] == ["alone", "in the range"]


def test_new_night_pins_versions_after_its_lease_is_acquired(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.lake.dates import Dates
    from jobs.lake.leases import Lease
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import LABELS

    acquire, moment = Lease.acquire, datetime.now(UTC)
    label = lake.spark.createDataFrame([("t", True, moment, "s", moment, DAY)], LABELS.ddl)

    def acquire_after_another_run(lease: Lease, pins: dict[str, int]) -> Any:
        lake.append(LABELS, label, "another run")
        return acquire(lease, pins)

    monkeypatch.setattr(Lease, "acquire", acquire_after_another_run)
    with lease_nights(lake, Dates(DAY, DAY)) as night:
        assert night.pins["labels"] == lake.version(LABELS) == 1


def test_published_alerts_are_never_discarded(lake: Lake) -> None:
    from jobs.lake.dates import Dates
    from jobs.lake.nights import JOBS, lease_nights

    with lease_nights(lake, Dates(DAY, DAY)) as night:
        night.require_alerts_unpublished()
        for name in JOBS[:4]:
            with night.job(name):
                pass
            # Alerts are not published yet.
            night.require_alerts_unpublished()
        for name in JOBS[4:]:
            with night.job(name):
                pass
        # Features rebuilt for later nights do not invalidate the published results.
        with night.job("features"):
            pass
        assert set(night.finished) == set(JOBS)
        with pytest.raises(UsageError, match=r"already published.*2024-03-01.*backfill"):
            night.require_alerts_unpublished()
        with night.job("score"):
            pass
        assert set(night.finished) == {"ingest", "features", "score", "alerts"}
        night.restart_for_backfill((), {}, '{"reason": "again"}')
        assert set(night.finished) == {"alerts"}
        # During a backfill, `ingest` is allowed.
        night.require_alerts_unpublished()


def test_lease_is_renewed_while_its_run_is_alive(lake: Lake) -> None:
    from time import sleep

    from jobs.lake.dates import Dates
    from jobs.lake.delta_io import Lake
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import NIGHTS

    short = lake.settings.model_copy(update={"lease_minutes": 0.05})
    quick = Lake(lake.spark, short)
    with lease_nights(quick, Dates(DAY, DAY)) as night:
        first = lake.read(NIGHTS).collect()[0]["lease_until"]
        sleep(8)
        assert lake.read(NIGHTS).collect()[0]["lease_until"] > first
        night.lease.require()


def test_concurrent_acquire_gives_the_night_to_one_owner(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both runs see a free night before either of them merges, so the MERGE must decide."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    from jobs.lake.dates import Dates
    from jobs.lake.leases import Lease
    from jobs.lake.tables import NIGHTS

    both, merge = Barrier(2), Lease._merge
    merging: set[str] = set()

    def merge_together(lease: Lease, builder: Any) -> int:
        # The loser merges a second time to release nights it may have got.
        if lease.owner not in merging:
            merging.add(lease.owner)
            both.wait(120)
        return merge(lease, builder)

    monkeypatch.setattr(Lease, "_merge", merge_together)

    def acquire(owner: str) -> str:
        try:
            Lease(lake, Dates(DAY, DAY), owner).acquire({})
        except NightHeld:
            return ""
        return owner

    with ThreadPoolExecutor(2) as pool:
        owners = list(pool.map(acquire, ("a@elsewhere:1::1", "b@elsewhere:2::1")))
    row = lake.read(NIGHTS).collect()[0]
    assert sorted(owners) == ["", row["holder"]]
    assert row["epoch"] == 1


def test_is_dead_hidden_process_returns_false(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.lake import lease_owners

    owner = lease_owners.new_lease_owner()
    monkeypatch.setattr(lease_owners, "_PROC", tmp_path)
    monkeypatch.setattr(lease_owners, "_process_space", lambda: owner.rsplit(":", 2)[1])
    assert lease_owners.is_dead(owner)

    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(lease_owners.os, "kill", refuse)
    assert not lease_owners.is_dead(owner)


def test_lease_of_a_dead_process_is_taken_over_at_once(lake: Lake) -> None:
    from jobs.lake.dates import Dates
    from jobs.lake.lease_owners import is_dead, new_lease_owner
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import NIGHTS

    mine = new_lease_owner()
    assert not is_dead(mine)
    child = subprocess.run(
        [
            sys.executable,
            "-c",
            "from jobs.lake.lease_owners import new_lease_owner; print(new_lease_owner())",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    dead = child.stdout.strip()
    assert is_dead(dead)
    # The same process id on another machine or in another container proves nothing.
    assert not is_dead(dead.replace("@", "@other-"))
    assert not is_dead(re.sub(r"\.\d+:(\d+)$", r".1:\1", dead))
    with pytest.raises(KeyError), lease_nights(lake, Dates(DAY, DAY)):
        lake.delta_table(NIGHTS).update(set={"holder": f"'{dead}'"})
        raise KeyError
    with lease_nights(lake, Dates(DAY, DAY)) as night:
        assert night.epoch == 2


def test_lease_is_refused_while_an_earlier_night_is_leased(lake: Lake) -> None:
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights

    next_day, much_later = DAY + timedelta(days=1), DAY + timedelta(days=90)
    with lease_nights(lake, Dates(DAY, DAY)):
        with (
            pytest.raises(NightHeld, match=f"{DAY} by hold"),
            lease_nights(lake, Dates(next_day, next_day)),
        ):
            pass
        with lease_nights(lake, Dates(much_later, much_later)):
            pass
    with lease_nights(lake, Dates(next_day, next_day)), lease_nights(lake, Dates(DAY, DAY)):
        pass


def test_lease_dated_in_the_future_reports_a_wrong_clock(lake: Lake) -> None:
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import NIGHTS

    ahead = datetime.now(UTC) + timedelta(hours=30)
    text = f"TIMESTAMP'{ahead:%Y-%m-%d %H:%M:%S}'"
    with pytest.raises(KeyError), lease_nights(lake, Dates(DAY, DAY)):
        lake.delta_table(NIGHTS).update(
            set={"holder": "'a@b'", "updated_at": text, "lease_until": text}
        )
        raise KeyError
    with pytest.raises(NightHeld, match="a clock is wrong"), lease_nights(lake, Dates(DAY, DAY)):
        pass


def test_range_is_leased_completely_or_not_at_all(lake: Lake) -> None:
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import NIGHTS

    with lease_nights(lake, Dates(DAY, DAY)):
        before = DAY - timedelta(days=2)
        with pytest.raises(NightHeld, match=str(DAY)), lease_nights(lake, Dates(before, DAY)):
            pass
        leased = lake.read(NIGHTS).where("holder IS NOT NULL").collect()
        assert [row["business_date"] for row in leased] == [DAY]


def test_night_starts_with_its_first_successful_ingest(lake: Lake) -> None:
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights, require_ingested
    from jobs.lake.tables import LABELS, NIGHTS

    dates = Dates(DAY, DAY)
    with pytest.raises(InputMissing, match=f"`ingest` has not finished .* {DAY}"):
        require_ingested(lake, dates)
    assert lake.read(NIGHTS).count() == 0
    # A failed `ingest` pins nothing: the next attempt reads the newest versions.
    with lease_nights(lake, dates) as night, pytest.raises(ValueError), night.job("ingest"):
        raise ValueError("no")
    moment = datetime.now(UTC)
    label = ("t", True, moment, "source", moment, DAY)
    lake.append(LABELS, lake.spark.createDataFrame([label], LABELS.ddl), "run")
    with lease_nights(lake, dates) as night:
        assert night.pin("labels") == lake.version(LABELS) > 0
        with night.job("ingest") as run:
            run.versions_out["transactions"] = 1
    require_ingested(lake, dates)


def test_scores_staged_for_several_nights_are_unusable_for_one(lake: Lake) -> None:
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import SCORES
    from jobs.score import staged_scores_unusable

    both = Dates(DAY, DAY + timedelta(days=1))
    with lease_nights(lake, both) as night:
        with night.job("score") as run:
            lake.stage(lake.read(SCORES), run.run_id, SCORES.name)
        assert not staged_scores_unusable(night)
    with lease_nights(lake, Dates(DAY, DAY)) as night:
        assert staged_scores_unusable(night)
