"""What features cost: against the floor, against Spark's windows, with busy keys, over history.

All ratios are of medians of alternating runs in this process, on two cores; the last line is one
JSON object:

- `floor_ratio`: all features of all rows, over the same rows through the same shuffles and sorts
  with a function that computes nothing;
- `range_between_speedup`: Spark's `rangeBetween` over ours, with even keys over 90 days;
- `hot_key_speedup`: the same, where one card has 50,000 rows in a day, as one that is tried out by
  a machine; `spread_card_speedup`: where it has them in all of the days that a night reads, the
  lookback of its features; `hot_merchant_speedup`: where one merchant has so many in those days;
- `skew_ratio`: 60 % of the rows at one merchant, over even keys, on two one-core workers, over 90
  days; `short_skew_ratio`: the same in 30 days, which all lie in its windows' reach;
  `cut_skew_ratio`: there with twice the rows, so many that the merchant is cut;
- `history_ratio`: one night in a lake of 360 days, over the same night in one of 60;
- `lookback_ratio`: one night, over the night's rows alone without what lies before them;
- `lookback_ratio_bound`: the same, if the whole days between the ends of windows cost nothing:
  what daily partial aggregates could reach at best, as only days with an end are read at all;
- `memory_ratio`: peak of a Python worker with one key of 5 M rows, over one of 50,000;
  `whole_key_memory_ratio`: the same with one of a million, about the largest that is not cut.

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
from feature_timing import NUM_DAYS, all_rows, in_a_session, instead, medians, run, timed, written

from feature_defs import point_in_time
from feature_defs.catalogue import LOOKBACK_DAYS
from feature_defs.point_in_time import entity_stream
from feature_defs.point_in_time.hot_keys import HotKeys
from feature_defs.point_in_time.labels_as_of import FeatureInputs
from feature_defs.point_in_time.stream_plan import StreamPlan

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# What the features of one night are made from.
READ_DAYS = LOOKBACK_DAYS + 1
HOT_ROWS, HOT_DAYS = 50_000, 1


@dataclass(frozen=True)
class PassThrough:
    """The floor: takes the same columns and gives back zeros for features."""

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


class NoHotKeys:
    """The floor looks for no busy keys."""

    @staticmethod
    def find(events: DataFrame, keys: tuple[str, ...], reach: int) -> HotKeys:
        return HotKeys(keys, {})


def floor(known: FeatureInputs, bank: Bank) -> None:
    """The same shuffles and sorts, computing nothing."""
    with (
        instead(entity_stream, "WindowStream", PassThrough),
        instead(point_in_time, "HotKeys", NoHotKeys),
    ):
        all_rows(known, bank)()


def throughput(spark: SparkSession, place: Path, num_rows: int) -> dict[str, float]:
    """Floor, Spark's windows, hot keys."""
    even, read = Bank(num_rows, NUM_DAYS), Bank(num_rows, READ_DAYS)
    hot = {
        "a hot card": replace(read, busy_card_rows=HOT_ROWS, busy_card_days=HOT_DAYS),
        "a hot card, spread": replace(read, busy_card_rows=HOT_ROWS),
        "a hot merchant": replace(read, busy_merchant_rows=HOT_ROWS),
    }
    banks = {"even keys": even, **hot}
    known = {name: written(spark, place / name, bank) for name, bank in banks.items()}
    taken = medians(
        {
            "floor": lambda: floor(known["even keys"], even),
            **{name: all_rows(known[name], bank) for name, bank in banks.items()},
            "rangeBetween": lambda: run(by_range_between(known["even keys"])),
        }
    )
    # They take minutes, which no warm-up changes much.
    slow = {name: timed(lambda name=name: run(by_range_between(known[name]))) for name in hot}
    for name, seconds in slow.items():
        print(f"rangeBetween, {name:<26}{seconds:>8.2f} s")
    speedups = ("hot_key_speedup", "spread_card_speedup", "hot_merchant_speedup")
    return {
        "floor_ratio": taken["even keys"] / taken["floor"],
        "range_between_speedup": taken["rangeBetween"] / taken["even keys"],
        **{key: slow[name] / taken[name] for key, name in zip(speedups, hot, strict=True)},
    }


PARTS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "throughput": in_a_session(throughput),
    "nights": in_a_session(nights),
    "skew": skew,
    "memory": memory,
}


def main(
    num_rows: Annotated[int, typer.Option("--num-rows", help="Rows of a bank.")] = 1_000_000,
    only: Annotated[str, typer.Option(help=f"One of: {', '.join(PARTS)}; else all.")] = "",
) -> None:
    """Run all of it, or a part, and print the ratios."""
    ratios: dict[str, float] = {}
    for name in [only] if only else PARTS:
        with tempfile.TemporaryDirectory() as folder:
            ratios |= PARTS[name](Path(folder), num_rows)
    print(json.dumps({name: round(ratio, 3) for name, ratio in ratios.items()}))


if __name__ == "__main__":
    typer.run(main)
