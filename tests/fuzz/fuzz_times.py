"""Generate times and delivery dates with the outcome that a row with them must have."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from fuzz_values import ACCEPTED, INVALID_UTF8, OTHER_NIGHT, Value, Values, invalid_utf8, texts
from hypothesis import strategies as st

LATE_DAYS = 7


@dataclass(frozen=True)
class Clock:
    """The zone of local times, and the nights of a delivery."""

    zone: ZoneInfo
    nights: tuple[date, ...]

    def local_value(self, local: datetime, content: Any, night: date) -> Value:
        """Return a local time of a night's row: the first of two, refused when skipped."""
        moment = local.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
        if moment.astimezone(self.zone).replace(tzinfo=None) != local:
            return Value(content, "nonexistent_local_time")
        return self.value_at(moment, content, night)

    def value_at(self, moment: datetime, content: Any, night: date) -> Value:
        """Return a moment of a night's row with its expected outcome."""
        if moment.date() > night:
            return Value(content, "event_after_delivery")
        if moment.date() < night - timedelta(days=LATE_DAYS):
            return Value(content, "too_late")
        return Value(content, ACCEPTED, moment)


IMPOSSIBLE = (
    "2024-02-30 10:00:00", "2024-13-01 00:00:00", "2023-02-29T12:00:00Z", "2024-04-01 24:00:01",
    "2024-04-01 10:60:00", "2024-04-01 10:00:61", "10:00:00", "12:30", "now", "1711929600",
    "31/03/2024 10:00", "03-31-2024", "20240401", "yesterday", "2024-04-01T10:00:00+99:00",
    "2024-04-01 10:00:00 Mars/Olympus", "0000-00-00 00:00:00", "1899-12-31 23:59:59Z",
    "10000-01-01 00:00:00", "-2024-04-01 00:00:00", "99999999-01-01", "2024-W14-1",
    "\uff12\uff10\uff12\uff14-04-01",
)  # fmt: skip


def local_times(clock: Clock) -> st.SearchStrategy[datetime]:
    """Generate local times around the nights, in microseconds, often near clock changes."""
    first, last = clock.nights[0] - timedelta(days=9), clock.nights[-1] + timedelta(days=2)
    around = st.datetimes(
        datetime.combine(first, datetime.min.time()), datetime.combine(last, datetime.min.time())
    )
    changes = _clock_changes(clock.zone, first, last)
    if not changes:
        return around
    near = st.tuples(st.sampled_from(changes), st.integers(-5400, 5400)).map(
        lambda pair: pair[0] + timedelta(seconds=pair[1])
    )
    return st.one_of(around, near)


def _clock_changes(zone: ZoneInfo, first: date, last: date) -> list[datetime]:
    """Return the local hours after which the zone's UTC offset changes."""
    start = datetime.combine(first, datetime.min.time(), UTC)
    hours = [start + timedelta(hours=n) for n in range(24 * (last - first).days)]
    return [
        now.astimezone(zone).replace(tzinfo=None)
        for now, then in itertools.pairwise(hours)
        if now.astimezone(zone).utcoffset() != then.astimezone(zone).utcoffset()
    ]


TimesOfNight = Callable[[date], Values]


def time_texts(clock: Clock) -> TimesOfNight:
    """Return generators of times as text, by night of the row."""

    def of_night(night: date) -> Values:
        local = local_times(clock)
        texts_of_times = st.tuples(local, st.sampled_from((" ", "T")), st.booleans()).map(
            lambda made: clock.local_value(
                made[0], made[0].isoformat(made[1]) if made[2] else f"  {made[0]} ", night
            )
        )
        minutes = st.integers(-18 * 60, 18 * 60)
        zoned = st.tuples(local, minutes).map(lambda made: _zoned(clock, *made, night))
        return st.one_of(
            texts_of_times, texts_of_times, zoned,
            st.sampled_from(IMPOSSIBLE).map(lambda text: Value(text, "unparsable_event_time")),
            st.sampled_from(("", "  ", None)).map(lambda v: Value(v, "missing_event_time")),
            texts().map(Value), invalid_utf8(),
        )  # fmt: skip

    return of_night


def _zoned(clock: Clock, local: datetime, minutes: int, night: date) -> Value:
    away = timedelta(minutes=minutes)
    sign, size = ("-", -minutes) if minutes < 0 else ("+", minutes)
    offset = "Z" if minutes == 0 else f"{sign}{size // 60:02}:{size % 60:02}"
    return clock.value_at((local - away).replace(tzinfo=UTC), f"{local.isoformat()}{offset}", night)


EXTREME = (datetime(1, 1, 1), datetime(1899, 12, 31, 23, 59), datetime(9999, 12, 31, 23, 59))


def time_stamps(clock: Clock, *, with_zone: bool) -> TimesOfNight:
    """Return generators of timestamps, with or without a zone, by night of the row."""

    def value(local: datetime, night: date) -> Value:
        if not with_zone:
            return clock.local_value(local, local, night)
        moment = local.replace(tzinfo=UTC)
        return clock.value_at(moment, moment, night)

    def of_night(night: date) -> Values:
        usual = local_times(clock).map(lambda local: value(local, night))
        zone = UTC if with_zone else None
        odd = st.sampled_from(EXTREME).map(
            lambda local: Value(local.replace(tzinfo=zone), "unparsable_event_time")
        )
        return st.one_of(usual, usual, odd, st.just(Value(None, "missing_event_time")))

    return of_night


def day_texts(nights: tuple[date, ...]) -> Values:
    """Generate delivery dates as text; rows of other nights are not ingested."""
    unreadable = (
        "",
        "soon",
        "2024-04-31",
        "2024-00-10",
        "20240401",
        "1",
        "\u0662\u0660\u0662\u0664-\u0660\u0664-\u0660\u0661",
    )
    others = ("9999-12-31", "1970-01-01", str(nights[-1] + timedelta(days=1)))
    return st.one_of(
        st.sampled_from(unreadable).map(lambda text: Value(text, "unreadable_business_date")),
        st.sampled_from(others).map(lambda text: Value(text, OTHER_NIGHT)),
        st.just(Value(None, "unreadable_business_date")),
        st.sampled_from(INVALID_UTF8).map(lambda content: Value(content, "unreadable_text")),
    )


def day_dates(nights: tuple[date, ...]) -> Values:
    """Generate delivery dates as dates."""
    others = (date(1, 1, 1), date(9999, 12, 31), nights[0] - timedelta(days=1))
    return st.one_of(
        st.just(Value(None, "unreadable_business_date")),
        st.sampled_from(others).map(lambda day: Value(day, OTHER_NIGHT)),
    )
