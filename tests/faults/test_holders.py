"""A holder that is paused while another publishes, and commands that want the same nights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from commands import run, start
from lakes import BEFORE_EVE, EVE, LAST, Picture, end_leases, picture, run_again
from races import race
from victim import Trap

from feature_defs.errors import InputMissing, NightHeld

if TYPE_CHECKING:
    from jobs.lake.delta_io import Lake

pytestmark = [pytest.mark.faults, pytest.mark.spark, pytest.mark.slow]

# The job at whose beginning the lake stands, and where its night falls asleep.
PAUSES = (
    ("ingest", Trap("publish", "transactions", "within", act="stop")),
    ("ingest", Trap("publish", "labels", "before", act="stop")),
    ("features", Trap("publish", "features", "within", act="stop")),
    ("publish", Trap("publish", "scores", "within", act="stop")),
    ("publish", Trap("publish", "scores", "before", act="stop")),
    ("alerts", Trap("publish", "alerts", "within", act="stop")),
    ("report", Trap("append", "runs", "before", act="stop")),
)


@pytest.mark.parametrize(("stage", "trap"), PAUSES, ids=[f"{s}: {t}" for s, t in PAUSES])
def test_a_paused_holder_wakes_after_another_has_published(
    stage: str,
    trap: Trap,
    lake_at: Callable[[str], Lake],
    undisturbed: Picture,
    outcome: Callable[[str], Any],
) -> None:
    lake = lake_at(stage)
    place = Path(lake.uri)
    with outcome(f"{stage}: {trap}, woken after another") as line:
        line.before = picture(lake).brief()
        slow = start(place, "nightly", "--date", LAST, trap=trap)
        try:
            slow.until_stopped()
            line.after_fault = picture(lake).brief()
            with pytest.raises(NightHeld):
                run_again(lake)
            end_leases(lake)
            run_again(lake)
            between = picture(lake)
            slow.wake()
            woken = slow.end()
        finally:
            slow.kill()
        assert woken.code == 5, woken.words[-3000:]
        assert "has lost its lease" in woken.words
        whole = picture(lake)
        line.after_rerun = whole.brief()
        # Its own failure it may record, and nothing else.
        changed = {name for name, v in whole.versions.items() if v != between.versions[name]}
        assert changed <= {"runs"}
        assert not whole.differences(undisturbed)


def test_a_paused_range_wakes_after_another_has_published(
    lake_at: Callable[[str], Lake], undisturbed: Picture, outcome: Callable[[str], Any]
) -> None:
    from jobs import features
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights

    lake = lake_at("score")
    place = Path(lake.uri)
    nights = ("--from", EVE, "--to", LAST)
    trap = Trap("publish", "features", "within", act="stop")
    with outcome(f"features of two nights: {trap}, woken after another") as line:
        line.before = picture(lake).brief()
        slow = start(place, "features", *nights, trap=trap)
        try:
            slow.until_stopped()
            line.after_fault = picture(lake).brief()
            end_leases(lake)
            with lease_nights(lake, Dates(EVE, LAST)) as quick:
                features.run(quick)
            between = picture(lake)
            slow.wake()
            woken = slow.end()
        finally:
            slow.kill()
        assert woken.code == 5, woken.words[-3000:]
        after = picture(lake)
        assert {n for n, v in after.versions.items() if v != between.versions[n]} <= {"runs"}
        assert not after.half_shown(undisturbed)
        run_again(lake)
        whole = picture(lake)
        line.after_rerun = whole.brief()
        assert not whole.differences(undisturbed)


def test_spark_outlives_its_killed_driver(
    lake_at: Callable[[str], Lake], undisturbed: Picture, outcome: Callable[[str], Any]
) -> None:
    """The holder is dead and is not waited for, and yet its write may still be under way."""
    lake = lake_at("publish")
    place = Path(lake.uri)
    trap = Trap("publish", "scores", "within", act="orphan")
    with outcome(f"publish: {trap}, Spark woken after another") as line:
        line.before = picture(lake).brief()
        orphaned = start(place, "nightly", "--date", LAST, trap=trap)
        try:
            assert orphaned.until_ended() == -9
            line.after_fault = picture(lake).brief()
            run_again(lake)
            between = picture(lake)
            orphaned.wake()
            orphaned.until_gone()
        finally:
            orphaned.kill()
        whole = picture(lake)
        line.after_rerun = whole.brief()
        assert whole.versions == between.versions
        assert not whole.differences(undisturbed)


@pytest.mark.parametrize("together", [True, False], ids=["at the claim", "at the start"])
def test_two_nightlies_of_one_date(
    together: bool,
    lake_at: Callable[[str], Lake],
    undisturbed: Picture,
    outcome: Callable[[str], Any],
) -> None:
    lake = lake_at("ingest")
    place = Path(lake.uri)
    with outcome(f"two nightlies of one date, {'met' if together else 'started'} at once") as line:
        line.before = picture(lake).brief()
        ended = race(place, LAST, together=together)
        line.after_fault = " and ".join(map(str, ended))
        assert sorted(one.code for one in ended) == [0, 5], [one.words[-2000:] for one in ended]
        run_again(lake)
        whole = picture(lake)
        line.after_rerun = whole.brief()
        assert not whole.differences(undisturbed)


def test_nightlies_of_two_neighbouring_dates(
    lake_at: Callable[[str], Lake], undisturbed: Picture, outcome: Callable[[str], Any]
) -> None:
    """The later one needs the rows of the earlier one."""
    lake = lake_at(BEFORE_EVE)
    with outcome("nightlies of two neighbouring dates started at once") as line:
        line.before = picture(lake).brief()
        earlier, later = (start(Path(lake.uri), "nightly", "--date", day) for day in (EVE, LAST))
        codes = earlier.end().code, later.end().code
        line.after_fault = f"exit {codes[0]} and {codes[1]}; {picture(lake).brief()}"
        assert codes[0] == 0
        assert codes[1] in (4, 5)
        line.after_rerun = _run_both(lake, undisturbed)


def test_the_night_before_was_killed(
    lake_at: Callable[[str], Lake], undisturbed: Picture, outcome: Callable[[str], Any]
) -> None:
    """A night that was left in the middle goes first, whoever has died of it."""
    lake = lake_at(BEFORE_EVE)
    place = Path(lake.uri)
    trap = Trap("publish", "labels", "after")
    with outcome(f"night before: {trap}, then this night") as line:
        line.before = picture(lake).brief()
        assert run(place, "nightly", "--date", EVE, trap=trap).code == -9
        with pytest.raises(InputMissing, match=str(EVE)):
            run_again(lake)
        line.after_fault = f"refused; {picture(lake).brief()}"
        line.after_rerun = _run_both(lake, undisturbed)


def _run_both(lake: Lake, undisturbed: Picture) -> str:
    for day in (EVE, LAST):
        run_again(lake, day)
    whole = picture(lake)
    assert not whole.differences(undisturbed)
    return whole.brief()
