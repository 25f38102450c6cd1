"""Two nightlies of one date started together, many times: one publishes, the other exits 5.

    python tests/faults/races.py --rounds 20

Every other round the two also meet at a barrier just before they ask for the night, so that
they ask in the same moment whatever their start has cost.
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

from commands import SPARK, Ended, Started, start
from lakes import LAST, Picture, Template, build, open_at, picture
from victim import Trap

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MEET = Trap("claim", act="meet")


def race(place: Path, day: date, *, together: bool) -> tuple[Ended, Ended]:
    """Run two nightlies of a date at once; `together`: they meet before they ask for it."""
    meeting = Path(tempfile.mkdtemp(prefix="meeting-", dir=place.parent))
    trap = MEET if together else None
    both = [start(place, "nightly", "--date", day, trap=trap, meeting=meeting) for _ in range(2)]
    try:
        if together:
            _release(both)
        first, second = (one.end() for one in both)
    finally:
        for one in both:
            one.kill()
    return first, second


def _release(both: list[Started]) -> None:
    for one in both:
        one.until_arrived()
    (both[0].meeting / "go").touch()


def one_round(
    spark: SparkSession, template: Template, whole: Picture, *, together: bool
) -> tuple[str, str]:
    """Race on a copy of the lake; what came out, and what is wrong with it."""
    with tempfile.TemporaryDirectory(dir=template.folder) as folder:
        place = template.copy("ingest", Path(folder) / "lake")
        ended = race(place, LAST, together=together)
        found = picture(open_at(spark, place))
    wrong = found.differences(whole)
    if sorted(one.code for one in ended) != [0, 5]:
        wrong += [f"{one}: {one.words[-1000:]}" for one in ended]
    return f"{ended[0]}, {ended[1]} | {found.brief()}", "; ".join(wrong)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    from jobs.runtime.settings import load_settings
    from jobs.runtime.spark_session import open_session

    folder = Path(tempfile.mkdtemp(prefix="race-"))
    spark = open_session(load_settings(None, {"lake": str(folder), "spark": SPARK}))
    results: Counter[bool] = Counter()
    try:
        template = build(spark, folder)
        whole = picture(open_at(spark, template.folder / "done"))
        print("round | started | first, second | the night: jobs, rows t/l/q/f/s/a | verdict")
        for number in range(1, rounds + 1):
            together = number % 2 == 0
            came_out, wrong = one_round(spark, template, whole, together=together)
            how = "at the claim" if together else "at the start"
            print(f"{number:5} | {how} | {came_out} | {wrong or 'as undisturbed'}", flush=True)
            results[not wrong] += 1
    finally:
        spark.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{results[True]} of {rounds} races: one published, the other exited 5, "
        "and the tables are those of an undisturbed night"
    )
    return 0 if results[True] == rounds else 1


if __name__ == "__main__":
    sys.exit(main())
