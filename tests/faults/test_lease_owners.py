"""A lease owner that is paused while another one publishes, and commands for the same nights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from commands import paused, run, start
from injection import FaultyLake
from lake_snapshot import LakeSnapshot, take_snapshot
from lakes import (
    BEFORE_PREVIOUS_NIGHT,
    LAST_NIGHT,
    PREVIOUS_NIGHT,
    expire_leases,
    rerun_night,
)
from races import run_two_nightlies
from target_process import FaultPoint

from feature_defs.errors import InputMissing, NightHeld

pytestmark = [pytest.mark.faults, pytest.mark.spark, pytest.mark.slow]

# The job before which the lake was copied, and where its night is paused.
PAUSES = (
    ("ingest", FaultPoint("publish", "transactions", "within", action="stop")),
    ("ingest", FaultPoint("publish", "labels", "before", action="stop")),
    ("features", FaultPoint("publish", "features", "within", action="stop")),
    ("publish", FaultPoint("publish", "scores", "within", action="stop")),
    ("publish", FaultPoint("publish", "scores", "before", action="stop")),
    ("alerts", FaultPoint("publish", "alerts", "within", action="stop")),
    ("report", FaultPoint("append", "runs", "before", action="stop")),
)


def resume_while_another_publishes(
    faulty: FaultyLake, fault: FaultPoint, publish: Callable[[], None], *command: object
) -> LakeSnapshot:
    """Pause a command, let another one publish its nights, and resume the first.

    The first must exit with 5 and change nothing but record its own failure. Returns the lake as
    the other one left it.
    """
    with paused(faulty.folder, *command, fault=fault) as slow:
        faulty.report_fault()
        publish()
        published = take_snapshot(faulty.lake)
        slow.resume()
        resumed = slow.wait()
    assert resumed.code == 5, resumed.output[-3000:]
    assert "has lost its lease" in resumed.output
    assert faulty.changed_tables(since=published) <= {"runs"}
    return published


@pytest.mark.parametrize(("stage", "fault"), PAUSES, ids=[f"{s}: {f}" for s, f in PAUSES])
def test_paused_nightly_publishes_nothing_after_losing_its_lease(
    stage: str, fault: FaultPoint, inject: Callable[..., Any]
) -> None:
    with inject(f"{stage}: {fault}, resumed after another run", stage) as faulty:
        faulty.rerun_nights = []

        def publish() -> None:
            with pytest.raises(NightHeld):
                rerun_night(faulty.lake)
            expire_leases(faulty.lake)
            rerun_night(faulty.lake)

        command = ("nightly", "--date", LAST_NIGHT)
        resume_while_another_publishes(faulty, fault, publish, *command)


def test_paused_range_publishes_nothing_after_losing_its_lease(inject: Callable[..., Any]) -> None:
    from jobs import features
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights

    fault = FaultPoint("publish", "features", "within", action="stop")
    title = f"features of two nights: {fault}, resumed after another run"
    with inject(title, "score") as faulty:

        def publish() -> None:
            expire_leases(faulty.lake)
            with lease_nights(faulty.lake, Dates(PREVIOUS_NIGHT, LAST_NIGHT)) as nights:
                features.run(nights)

        command = ("features", "--from", PREVIOUS_NIGHT, "--to", LAST_NIGHT)
        resume_while_another_publishes(faulty, fault, publish, *command)
        assert not take_snapshot(faulty.lake).partial_nights(faulty.reference)


def test_spark_of_a_killed_driver_changes_nothing_when_resumed(
    inject: Callable[..., Any],
) -> None:
    """A dead owner's lease is taken over at once, yet its Spark may still be writing."""
    fault = FaultPoint("publish", "scores", "within", action="orphan_spark")
    with inject(f"publish: {fault}, Spark resumed after another run", "publish") as faulty:
        faulty.rerun_nights = []
        orphaned = start(faulty.folder, "nightly", "--date", LAST_NIGHT, fault=fault)
        try:
            assert orphaned.wait_for_exit() == -9
            faulty.report_fault()
            rerun_night(faulty.lake)
            published = take_snapshot(faulty.lake)
            orphaned.resume()
            orphaned.wait_until_group_ended()
        finally:
            orphaned.kill()
        assert not faulty.changed_tables(since=published)


@pytest.mark.parametrize("at_barrier", [True, False], ids=["at the barrier", "at once"])
def test_two_nightlies_of_one_date_publish_once(
    at_barrier: bool, inject: Callable[..., Any]
) -> None:
    how = "at the barrier" if at_barrier else "at once"
    with inject(f"two nightlies of one date started {how}", "ingest") as faulty:
        results = run_two_nightlies(faulty.folder, LAST_NIGHT, at_barrier=at_barrier)
        faulty.report.after_fault = " and ".join(map(str, results))
        assert sorted(r.code for r in results) == [0, 5], [r.output[-2000:] for r in results]


def test_nightlies_of_neighbouring_dates_run_in_order(inject: Callable[..., Any]) -> None:
    """The later night needs the rows of the earlier one."""
    title = "nightlies of two neighbouring dates started at once"
    with inject(title, BEFORE_PREVIOUS_NIGHT) as faulty:
        faulty.rerun_nights = [PREVIOUS_NIGHT, LAST_NIGHT]
        nights = (PREVIOUS_NIGHT, LAST_NIGHT)
        earlier, later = (start(faulty.folder, "nightly", "--date", day) for day in nights)
        codes = earlier.wait().code, later.wait().code
        faulty.report_fault(f"exit {codes[0]} and {codes[1]}")
        assert codes[0] == 0
        assert codes[1] in (4, 5)


def test_killed_previous_night_must_be_completed_first(inject: Callable[..., Any]) -> None:
    fault = FaultPoint("publish", "labels", "after")
    with inject(f"previous night: {fault}, then this night", BEFORE_PREVIOUS_NIGHT) as faulty:
        faulty.rerun_nights = [PREVIOUS_NIGHT, LAST_NIGHT]
        assert run(faulty.folder, "nightly", "--date", PREVIOUS_NIGHT, fault=fault).code == -9
        with pytest.raises(InputMissing, match=str(PREVIOUS_NIGHT)):
            rerun_night(faulty.lake)
        faulty.report_fault("refused")
