"""Windows: their length and delay in days, hours or minutes, and the part of a name they give.

>>> [window.suffix for window in (*minutes(10), *hours(1), *days(7, delay=7))]
['10m', '1h', '7d_delay_7d']
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from feature_defs.errors import DefinitionError

MINUTES_PER_HOUR, MINUTES_PER_DAY, SECONDS_PER_MINUTE = 60, 1440, 60


@dataclass(frozen=True)
class Window:
    """The window `(t - delay - length, t - delay]` of a transaction at `t`.

    A length or delay of whole days is in the fields of days, any other one in those of minutes.
    `days`, `hours` and `minutes` of `language.py` make windows.
    """

    length_days: int = 0
    delay_days: int = 0
    length_minutes: int = 0
    delay_minutes: int = 0

    def __post_init__(self) -> None:
        for days, minutes in (
            (self.length_days, self.length_minutes),
            (self.delay_days, self.delay_minutes),
        ):
            for value, unit in ((days, "days"), (minutes, "minutes")):
                if not isinstance(value, int) or isinstance(value, bool):
                    raise DefinitionError(f"a window has whole {unit}: {value!r} is not an integer")
            # Otherwise two windows could be equal and have different names.
            if (days and minutes) or (minutes and minutes % MINUTES_PER_DAY == 0):
                raise DefinitionError(
                    f"a length or delay of {days} days and {minutes} minutes: write whole days as "
                    "days, and anything else as minutes"
                )
        if self.length_s <= 0:
            least = f"{self.length_minutes} minutes" if self.length_minutes else self.length_days
            raise DefinitionError(f"a window must be at least 1 day or 1 minute long, not {least}")
        if self.delay_s < 0:
            least = f"{self.delay_minutes} minutes" if self.delay_minutes else self.delay_days
            raise DefinitionError(f"a delay must be 0 days or more, not {least}")

    @property
    def suffix(self) -> str:
        """Return the part of a feature's name that stands for this window.

        >>> Window(7).suffix, Window(30, delay_days=7).suffix, Window(length_minutes=360).suffix
        ('7d', '30d_delay_7d', '6h')
        """
        delay = f"_delay_{_short(self.delay_s)}" if self.delay_s else ""
        return f"{_short(self.length_s)}{delay}"

    @property
    def length_s(self) -> int:
        """Return the length in seconds."""
        return (self.length_days * MINUTES_PER_DAY + self.length_minutes) * SECONDS_PER_MINUTE

    @property
    def delay_s(self) -> int:
        """Return the delay in seconds."""
        return (self.delay_days * MINUTES_PER_DAY + self.delay_minutes) * SECONDS_PER_MINUTE

    @property
    def lookback_s(self) -> int:
        """Return how many seconds before the transaction the window starts."""
        return self.length_s + self.delay_s

    @property
    def lookback_days(self) -> int:
        """Return how many days before the transaction the window starts, rounded up.

        >>> Window(7, delay_days=7).lookback_days, Window(length_minutes=10).lookback_days
        (14, 1)
        """
        return -(-self.lookback_s // (MINUTES_PER_DAY * SECONDS_PER_MINUTE))

    @property
    def identity(self) -> dict[str, int]:
        """Return the fields for a fingerprint; minutes are left out where there are none."""
        named = asdict(self)
        return {name: named[name] for name in named if named[name] or name.endswith("_days")}


def in_whole_units(seconds: int) -> tuple[int, str]:
    """Return a length of whole minutes as a number of the largest unit that divides it.

    >>> in_whole_units(172_800), in_whole_units(21_600), in_whole_units(5400)
    ((2, 'day'), (6, 'hour'), (90, 'minute'))
    """
    minutes = seconds // SECONDS_PER_MINUTE
    for unit, length in (("day", MINUTES_PER_DAY), ("hour", MINUTES_PER_HOUR)):
        if minutes % length == 0:
            return minutes // length, unit
    return minutes, "minute"


def _short(seconds: int) -> str:
    number, unit = in_whole_units(seconds)
    return f"{number}{unit[0]}"


def days(*lengths: int, delay: int = 0) -> tuple[Window, ...]:
    """Return windows of these lengths in days, all with the same delay in days.

    >>> [window.suffix for window in days(1, 7, delay=7)]
    ['1d_delay_7d', '7d_delay_7d']
    """
    return tuple(Window(length, delay) for length in lengths)


def hours(*lengths: int, delay: int = 0) -> tuple[Window, ...]:
    """Return windows of these lengths in hours, all with the same delay in hours.

    >>> [window.suffix for window in hours(1, 6, delay=1)]
    ['1h_delay_1h', '6h_delay_1h']
    """
    return tuple(_window_of_minutes(length, delay, MINUTES_PER_HOUR) for length in lengths)


def minutes(*lengths: int, delay: int = 0) -> tuple[Window, ...]:
    """Return windows of these lengths in minutes, all with the same delay in minutes.

    Equal windows are equal in any unit: `minutes(60)` is `hours(1)`, `hours(24)` is `days(1)`.

    >>> [window.suffix for window in minutes(10, 60)], minutes(1440) == days(1)
    (['10m', '1h'], True)
    """
    return tuple(_window_of_minutes(length, delay, 1) for length in lengths)


def _window_of_minutes(length: int, delay: int, minutes_per_unit: int) -> Window:
    for value in (length, delay):
        if not isinstance(value, int) or isinstance(value, bool):
            unit = "minutes" if minutes_per_unit == 1 else "hours"
            raise DefinitionError(f"a window has whole {unit}: {value!r} is not an integer")

    def split(value: int) -> tuple[int, int]:
        days, rest = divmod(value * minutes_per_unit, MINUTES_PER_DAY)
        return (0, value * minutes_per_unit) if rest else (days, 0)

    (length_days, length_minutes), (delay_days, delay_minutes) = split(length), split(delay)
    return Window(length_days, delay_days, length_minutes, delay_minutes)
