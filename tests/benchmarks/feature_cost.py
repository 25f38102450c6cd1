"""Measure the cost of features: against a floor, Spark's windows, hot keys, and long histories.

All ratios are of medians of runs by turns in this process, on two cores. The last line is one JSON
object:

- `floor_ratio`: all features of all rows, over the same shuffles and sorts of the same rows with a
  function that computes nothing;
- `range_between_speedup`: time of Spark's `rangeBetween` over ours, with even keys over 90 days;
- `hot_key_speedup`: the same, with one card that has 50,000 rows in a day, as in automated card
  testing; `spread_card_speedup`: with these rows spread over the lookback of a night's features;
  `hot_merchant_speedup`: with one merchant that has as many rows in these days;
- `minutes_ratio`: the whole catalogue, over the same without windows of minutes and hours;
- `skew_ratio`: 60 % of the rows at one merchant, over even keys, on two one-core workers, over 90
  days; `short_skew_ratio`: the same in 30 days, which the longest windows contain entirely;
  `cut_skew_ratio`: the same with twice the rows, so many that the merchant is cut into slices;
- `history_ratio`: one night in a lake of 360 days, over the same night in one of 60;
- `lookback_ratio`: one night, over the night's rows without any history;
- `lookback_ratio_bound`: the same, if whole days inside windows cost nothing: the best that daily
  partial aggregates could reach, since only days with a window end are read;
- `memory_ratio`: peak of a Python worker with one key of 5 M rows, over one of 50,000;
  `whole_key_memory_ratio`: the same with a key of a million, about the largest that is not cut.

    python tests/benchmarks/feature_cost.py --num-rows 1000000
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pandas as pd
import typer
from feature_busy_keys import memory, skew
from feature_nights import nights
from feature_rows import Bank, by_range_between
from feature_timing import (
    NUM_DAYS,
    all_rows,
    in_a_session,
    medians,
    replaced,
    run,
    timed,
    write_and_read,
)

from feature_defs.catalogue import FEATURES, LOOKBACK_DAYS
from feature_defs.feature import Feature
from feature_defs.point_in_time import entity_stream
from feature_defs.point_in_time.hot_keys import HotKeys
from feature_defs.point_in_time.labels_as_of import FeatureInputs
from feature_defs.point_in_time.stream_plan import StreamPlan

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# Days that the features of one night read.
READ_DAYS = LOOKBACK_DAYS + 1
HOT_ROWS, HOT_DAYS = 50_000, 1


@dataclass(frozen=True)
class PassThrough:
    """The floor: read the same columns and return zeros as features."""

    plan: StreamPlan

    def __call__(self, batches: Iterable[tuple[pd.Series, ...]]) -> Iterator[pd.DataFrame]:
        for columns in batches:
            zeros = np.zeros(len(columns[0]))
            yield pd.DataFrame(
                {
                    f.name: zeros.astype(np.int64) if f.type == "bigint" else zeros
                    for f in self.plan.features
                },
                copy=False,
            )


class NoHotKeys(HotKeys):
    """The floor does not look for hot keys."""

    @staticmethod
    def find(events: DataFrame, keys: tuple[str, ...], reach: int) -> HotKeys:
        return HotKeys(keys, {})


def floor(inputs: FeatureInputs, bank: Bank) -> None:
    """Run the same shuffles and sorts, computing nothing."""
    with (
        replaced(entity_stream, "WindowStream", PassThrough),
        replaced(entity_stream, "HotKeys", NoHotKeys),
    ):
        all_rows(inputs, bank)()


def throughput(spark: SparkSession, folder: Path, num_rows: int) -> dict[str, float]:
    """Compare with the floor and with Spark's windows, also with hot keys."""
    even, read = Bank(num_rows, NUM_DAYS), Bank(num_rows, READ_DAYS)
    hot = {
        "a hot card": replace(read, busy_card_rows=HOT_ROWS, busy_card_days=HOT_DAYS),
        "a hot card, spread": replace(read, busy_card_rows=HOT_ROWS),
        "a hot merchant": replace(read, busy_merchant_rows=HOT_ROWS),
    }
    banks = {"even keys": even, **hot}
    inputs = {name: write_and_read(spark, folder / name, bank) for name, bank in banks.items()}
    seconds = medians(
        {
            "floor": lambda: floor(inputs["even keys"], even),
            **{name: all_rows(inputs[name], bank) for name, bank in banks.items()},
            "rangeBetween": lambda: run(by_range_between(inputs["even keys"])),
        }
    )
    # These take minutes, so a warm-up would hardly change them.
    slow = {name: timed(lambda name=name: run(by_range_between(inputs[name]))) for name in hot}
    for name, taken in slow.items():
        print(f"rangeBetween, {name:<26}{taken:>8.2f} s")
    speedups = ("hot_key_speedup", "spread_card_speedup", "hot_merchant_speedup")
    return {
        "floor_ratio": seconds["even keys"] / seconds["floor"],
        "range_between_speedup": seconds["rangeBetween"] / seconds["even keys"],
        **{key: slow[name] / seconds[name] for key, name in zip(speedups, hot, strict=True)},
    }


def _has_minutes(feature: Feature) -> bool:
    """Return whether a window of the feature is not of whole days."""
    own = feature.window is not None and bool(feature.window.length_minutes)
    return own or any(_has_minutes(part) for part in feature.parts)


def minutes(spark: SparkSession, folder: Path, num_rows: int) -> dict[str, float]:
    """Compare the catalogue with the same catalogue without windows of minutes and hours."""
    bank = Bank(num_rows, NUM_DAYS)
    inputs = write_and_read(spark, folder / "even", bank)
    whole_days = {name: f for name, f in FEATURES.items() if not _has_minutes(f)}
    seconds = medians(
        {
            "the whole catalogue": all_rows(inputs, bank),
            "windows of whole days": all_rows(inputs, bank, whole_days),
        }
    )
    return {"minutes_ratio": seconds["the whole catalogue"] / seconds["windows of whole days"]}


PARTS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "throughput": in_a_session(throughput),
    "minutes": in_a_session(minutes),
    "nights": in_a_session(nights),
    "skew": skew,
    "memory": memory,
}


def main(
    num_rows: Annotated[int, typer.Option("--num-rows", help="Number of rows.")] = 1_000_000,
    only: Annotated[str, typer.Option(help=f"Run one part: {', '.join(PARTS)}.")] = "",
) -> None:
    """Run all parts, or one, and print the ratios."""
    ratios: dict[str, float] = {}
    for name in [only] if only else PARTS:
        with tempfile.TemporaryDirectory() as folder:
            ratios |= PARTS[name](Path(folder), num_rows)
    print(json.dumps({name: round(ratio, 3) for name, ratio in ratios.items()}))


if __name__ == "__main__":
    typer.run(main)
