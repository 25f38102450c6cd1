"""Context periods: which days a context of events spans."""

from __future__ import annotations

from datetime import date, timedelta


def period_of(day: date, period_days: int) -> int:
    """Number of the context period that holds a day, counted from 1970-01-01.

    >>> period_of(date(1970, 1, 28), 28), period_of(date(1970, 1, 29), 28)
    (0, 1)
    """
    return (day - date(1970, 1, 1)).days // period_days


def period_start(period: int, period_days: int) -> date:
    """First day of a context period.

    >>> period_start(period_of(date(2018, 8, 8), 28), 28)
    datetime.date(2018, 7, 12)
    """
    return date(1970, 1, 1) + timedelta(days=period * period_days)


def context_start(day: date, period_days: int) -> date:
    """First day of the context of a night: the start of the period before its own.

    >>> context_start(date(2018, 8, 8), 28)
    datetime.date(2018, 6, 14)
    """
    return period_start(period_of(day, period_days) - 1, period_days)
