"""What labels add to a stream, and when.

A label that keeps to the delay of a window is known when the window reaches its event, so it adds
to the sums at the event's moment. A later one corrects the window at the moment it becomes known,
and takes the correction back when the event leaves the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from feature_defs.feature import Window
from feature_defs.point_in_time.labels_as_of import (
    LABEL,
    LABEL_BEFORE,
    FeatureInputs,
    fraud_of,
    implied_label,
    moment_of,
    with_labels,
)
from feature_defs.point_in_time.stream_plan import MICROS_PER_DAY, NO_WINDOW, Sum

_STEP = "_step"


@dataclass(frozen=True)
class _Change:
    """From `moment` on (null: never) an event counts by so much more as judged, as fraud."""

    moment: Column
    judged: Column
    fraud: Column


@dataclass(frozen=True)
class LabelChanges:
    """What the labels of events change in the sums of windows; nobody asks after `last`."""

    known: FeatureInputs
    windows: tuple[Window, ...]
    last: int

    def steps(self, events: DataFrame) -> DataFrame:
        """One row for each event and label at the event's moment, and two per late correction.

        `events` has `transaction_id` and `_t`. `time`, `corrects` and `is_event` say of a row when
        it happens, which window it corrects, and whether it stands for the event itself.
        """
        return with_labels(events, self.known.labels).withColumn(_STEP, self._steps)

    @cached_property
    def _steps(self) -> Column:
        """The corrections of a row, after an empty one for the row itself."""
        corrections = [step for place in range(len(self.windows)) for step in self._late(place)]
        if not corrections:
            return _no_step()
        # Nearly all labels keep to their delay: such a row is passed on without an array.
        some = reduce(or_, (step.isNotNull() for step in corrections))
        steps = F.concat(F.array(_no_step()), F.array_compact(F.array(*corrections)))
        return F.explode_outer(F.when(some, steps))

    @property
    def time(self) -> Column:
        """When a row happens, in microseconds."""
        return F.coalesce(F.col(f"{_STEP}.time"), F.col("_t"))

    @property
    def corrects(self) -> Column:
        """Place of the window that a row corrects, or `NO_WINDOW`."""
        return F.coalesce(F.col(f"{_STEP}.corrects"), F.lit(NO_WINDOW))

    @property
    def is_event(self) -> Column:
        """Whether a row stands for its event: of an event's labels only the first does."""
        return (self.corrects == NO_WINDOW) & F.col(LABEL_BEFORE).isNull()

    def added(self, summed: Sum) -> Column:
        """What a row adds to a sum over labels."""
        assert summed.num_days is not None
        at_event = reduce(
            lambda total, change: total + self._kept_to(summed, change), self._changes, _whole(0)
        )
        places = [p for p, w in enumerate(self.windows) if w.delay_days == summed.num_days]
        correction = F.col(f"{_STEP}.{summed.what}")
        return (
            F.when(self.corrects == NO_WINDOW, at_event)
            .when(self.corrects.isin(places), correction)
            .otherwise(_whole(0))
        )

    def _kept_to(self, summed: Sum, change: _Change) -> Column:
        """What a change adds at the event's moment: nothing when it comes after the delay."""
        assert summed.num_days is not None
        adds = change.judged if summed.what == "judged" else change.fraud
        return F.when(change.moment <= _later(summed.num_days), adds).otherwise(_whole(0))

    def _late(self, place: int) -> list[Column]:
        """Pairs of steps, or nulls: a change that comes while the window holds the event."""
        window = self.windows[place]
        leaves = _later(window.lookback_days)
        # What comes after the event has left changes nothing, nor what no asked row comes after.
        end = F.least(leaves, _whole(self.last + 1))
        steps = []
        for change in self._changes:
            late = (change.moment > _later(window.delay_days)) & (change.moment < end)
            for time, sign in ((change.moment, 1), (leaves, -1)):
                step = _step(time, place, change.judged * sign, change.fraud * sign)
                steps.append(F.when(late, step))
        return steps

    @cached_property
    def _changes(self) -> list[_Change]:
        """What a row of `with_labels` changes: its label, and on the first what silence implies."""
        label, before = F.col(LABEL), F.col(LABEL_BEFORE)
        moment, first = moment_of(label), before.isNull()
        fraud = fraud_of(label) - F.coalesce(fraud_of(before), _whole(0))
        if self.known.policy.maturity_days is None:
            return [_Change(moment, first.cast("bigint"), fraud)]
        matures = moment_of(implied_label(self.known.policy))
        # Absence means genuine once the label would have come, unless one came before.
        implied = first & (label.isNull() | (moment > matures))
        return [
            _Change(F.when(implied, matures), _whole(1), _whole(0)),
            _Change(moment, (first & ~implied).cast("bigint"), fraud),
        ]


def _step(time: Column, corrects: int, judged: Column, frauds: Column) -> Column:
    return F.struct(
        time.alias("time"),
        F.lit(corrects).alias("corrects"),
        judged.alias("judged"),
        frauds.alias("frauds"),
    )


def _no_step() -> Column:
    nothing = F.lit(None).cast("bigint")
    return F.when(F.lit(False), _step(nothing, NO_WINDOW, nothing, nothing))


def _whole(number: int) -> Column:
    return F.lit(number).cast("bigint")


def _later(num_days: int) -> Column:
    """So many days after an event."""
    return F.col("_t") + num_days * MICROS_PER_DAY
