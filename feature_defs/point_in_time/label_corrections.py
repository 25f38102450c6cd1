"""What labels add to a stream, and at which moment.

A label that arrives within the delay of a window is known when its event enters the window. Its
event's row adds it to the sums. A later label corrects the window: one row adds it at its
`label_time`, and another row subtracts it when the event leaves the window.
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
    PREVIOUS_LABEL,
    FeatureInputs,
    fraud_bit,
    implied_label,
    label_micros,
    with_labels,
)
from feature_defs.point_in_time.stream_plan import MICROS_PER_SECOND, NO_WINDOW, Sum

_CORRECTION = "_correction"


@dataclass(frozen=True)
class _LabelChange:
    """From `moment` on (null: never) an event adds these numbers to the labelled and fraud sums."""

    moment: Column
    labelled: Column
    fraud: Column


@dataclass(frozen=True)
class LabelCorrections:
    """What labels add to the sums of label windows; no output row is after `last`."""

    inputs: FeatureInputs
    windows: tuple[Window, ...]
    last: int

    def add_rows(self, events: DataFrame) -> DataFrame:
        """Return one row per event and label at the event's time, and two per late label.

        `events` has `transaction_id` and `_t`. For each row, `time` is its time, `corrected_window`
        is the window that it corrects, and `is_event` says whether it stands for the event.
        """
        labelled = with_labels(events, self.inputs.labels)
        return labelled.withColumn(_CORRECTION, self._corrections)

    @cached_property
    def _corrections(self) -> Column:
        """Return the corrections of a row; the first one is empty and stands for the row itself."""
        corrections = [
            correction
            for index in range(len(self.windows))
            for correction in self._late_corrections(index)
        ]
        if not corrections:
            return _no_correction()
        # Nearly all labels arrive within the delay; their rows then carry no array through the
        # plan.
        is_late = reduce(or_, (correction.isNotNull() for correction in corrections))
        late = F.concat(F.array(_no_correction()), F.array_compact(F.array(*corrections)))
        return F.explode_outer(F.when(is_late, late))

    @property
    def time(self) -> Column:
        """Return the time of a row, in microseconds."""
        return F.coalesce(F.col(f"{_CORRECTION}.time"), F.col("_t"))

    @property
    def corrected_window(self) -> Column:
        """Return the index of the window that a row corrects, or `NO_WINDOW`."""
        return F.coalesce(F.col(f"{_CORRECTION}.corrected_window"), F.lit(NO_WINDOW))

    @property
    def is_event(self) -> Column:
        """Return whether a row stands for its event: only the first row of an event does."""
        return (self.corrected_window == NO_WINDOW) & F.col(PREVIOUS_LABEL).isNull()

    def added(self, summed: Sum) -> Column:
        """Return what a row adds to a sum over labels."""
        assert summed.seconds is not None
        at_event = reduce(
            lambda total, change: total + self._added_in_time(summed, change),
            self._label_changes,
            _bigint(0),
        )
        indices = [i for i, w in enumerate(self.windows) if w.delay_s == summed.seconds]
        correction = F.col(f"{_CORRECTION}.{summed.quantity}")
        return (
            F.when(self.corrected_window == NO_WINDOW, at_event)
            .when(self.corrected_window.isin(indices), correction)
            .otherwise(_bigint(0))
        )

    def _added_in_time(self, summed: Sum, change: _LabelChange) -> Column:
        """Return what a change adds at the event's time: 0 if it comes after the delay."""
        assert summed.seconds is not None
        adds = change.labelled if summed.quantity == "labelled" else change.fraud
        in_time = change.moment <= _after_event(summed.seconds)
        return F.when(in_time, adds).otherwise(_bigint(0))

    def _late_corrections(self, index: int) -> list[Column]:
        """Return a pair of corrections for each change that comes while the event is in the window.

        For other changes both are null.
        """
        window = self.windows[index]
        leaves = _after_event(window.lookback_s)
        # A change has no effect after its event has left the window, or after the last output row.
        end = F.least(leaves, _bigint(self.last + 1))
        corrections = []
        for change in self._label_changes:
            entered = change.moment > _after_event(window.delay_s)
            late = entered & (change.moment < end)
            for time, sign in ((change.moment, 1), (leaves, -1)):
                correction = _correction(time, index, change.labelled * sign, change.fraud * sign)
                corrections.append(F.when(late, correction))
        return corrections

    @cached_property
    def _label_changes(self) -> list[_LabelChange]:
        """Return the changes of a row: by its label and, once per event, by a missing label."""
        label, previous = F.col(LABEL), F.col(PREVIOUS_LABEL)
        moment, first = label_micros(label), previous.isNull()
        fraud = fraud_bit(label) - F.coalesce(fraud_bit(previous), _bigint(0))
        if self.inputs.policy.maturity_days is None:
            return [_LabelChange(moment, first.cast("bigint"), fraud)]
        matures = label_micros(implied_label(self.inputs.policy))
        # A missing label implies genuine after `maturity_days`, unless a label arrived before.
        implied = first & (label.isNull() | (moment > matures))
        return [
            _LabelChange(F.when(implied, matures), _bigint(1), _bigint(0)),
            _LabelChange(moment, (first & ~implied).cast("bigint"), fraud),
        ]


def _correction(time: Column, index: int, labelled: Column, frauds: Column) -> Column:
    return F.struct(
        time.alias("time"),
        F.lit(index).alias("corrected_window"),
        labelled.alias("labelled"),
        frauds.alias("frauds"),
    )


def _no_correction() -> Column:
    nothing = F.lit(None).cast("bigint")
    return F.when(F.lit(False), _correction(nothing, NO_WINDOW, nothing, nothing))


def _bigint(number: int) -> Column:
    return F.lit(number).cast("bigint")


def _after_event(seconds: int) -> Column:
    return F.col("_t") + seconds * MICROS_PER_SECOND
