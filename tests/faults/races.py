"""Start two nightlies of one date together, many times: one publishes, the other exits with 5.

    python tests/faults/races.py --rounds 20

In every other round both also wait at a barrier just before they acquire the lease, so that they
ask for it at the same moment however long their starts took.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[2]))
from commands import SPARK, RunningCommand, start
from lake_snapshot import LakeSnapshot, take_snapshot
from lakes import LAST_NIGHT, Template, build_template, open_lake
from target_process import FaultPoint

from tests.processes import CommandResult

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BARRIER = FaultPoint("acquire", action="wait_at_barrier")


def run_two_nightlies(
    lake: Path, day: date, *, at_barrier: bool
) -> tuple[CommandResult, CommandResult]:
    """Run two nightlies of a date at once, with or without a barrier before the lease."""
    signals = Path(tempfile.mkdtemp(prefix="signals-", dir=lake.parent))
    fault = BARRIER if at_barrier else None
    both = [start(lake, "nightly", "--date", day, fault=fault, signals=signals) for _ in range(2)]
    try:
        if at_barrier:
            _release(both)
        first, second = (command.wait() for command in both)
    finally:
        for command in both:
            command.kill()
    return first, second


def _release(both: list[RunningCommand]) -> None:
    for command in both:
        command.wait_until_at_barrier()
    (both[0].signals / "go").touch()


def run_round(
    spark: SparkSession, template: Template, reference: LakeSnapshot, *, at_barrier: bool
) -> tuple[str, str]:
    """Race on a copy of the lake; return the outcome, and what is wrong with it."""
    with tempfile.TemporaryDirectory(dir=template.folder) as folder:
        lake = template.copy("ingest", Path(folder) / "lake")
        results = run_two_nightlies(lake, LAST_NIGHT, at_barrier=at_barrier)
        snapshot = take_snapshot(open_lake(spark, lake))
    wrong = snapshot.differences(reference)
    if sorted(result.code for result in results) != [0, 5]:
        wrong += [f"{result}: {result.output[-1000:]}" for result in results]
    return f"{results[0]}, {results[1]} | {snapshot.summary()}", "; ".join(wrong)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    from jobs.runtime.settings import load_settings
    from jobs.runtime.spark_session import open_session

    folder = Path(tempfile.mkdtemp(prefix="race-"))
    spark = open_session(load_settings(None, {"lake": str(folder), "spark": SPARK}))
    passed: Counter[bool] = Counter()
    try:
        template = build_template(spark, folder)
        reference = take_snapshot(open_lake(spark, template.folder / "done"))
        print("round | started | first, second | the night: jobs, rows t/l/q/f/s/a | verdict")
        for number in range(1, rounds + 1):
            at_barrier = number % 2 == 0
            outcome, wrong = run_round(spark, template, reference, at_barrier=at_barrier)
            how = "at the barrier" if at_barrier else "at once"
            print(f"{number:5} | {how} | {outcome} | {wrong or 'as reference'}", flush=True)
            passed[not wrong] += 1
    finally:
        spark.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{passed[True]} of {rounds} races: one published, the other exited with 5, "
        "and all tables equal those of the reference lake"
    )
    return 0 if passed[True] == rounds else 1


if __name__ == "__main__":
    sys.exit(main())
