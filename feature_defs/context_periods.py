"""Context periods: the days that the context of a night spans.

Days are counted from 1970-01-01 and grouped into periods of equal length. The context of a night
starts with the period before the one that contains the night. Labels are in `labels.py`.
"""

from __future__ import annotations

from datetime import date, timedelta


def period_of(day: date, period_days: int) -> int:
    """Return the number of the period that contains a day; period 0 starts on 1970-01-01.

    >>> period_of(date(1970, 1, 28), 28), period_of(date(1970, 1, 29), 28)
    (0, 1)
    """
    return (day - date(1970, 1, 1)).days // period_days


def period_start(period: int, period_days: int) -> date:
    """Return the first day of a period.

    >>> period_start(period_of(date(2018, 8, 8), 28), 28)
    datetime.date(2018, 7, 12)
    """
    return date(1970, 1, 1) + timedelta(days=period * period_days)


def context_start(day: date, period_days: int) -> date:
    """Return the first day of a night's context: the start of the period before the night's own.

    >>> context_start(date(2018, 8, 8), 28)
    datetime.date(2018, 6, 14)
    """
    return period_start(period_of(day, period_days) - 1, period_days)
