"""Throw mutated deliveries at a real lake and account for every row.

CSV, Parquet and Delta deliveries of mutated rows are ingested by the real job, features are built
of what was accepted, and pages are written of every night. Prints the seed, the rows tried,
accepted and refused by rule, and what crashed; ends with 1 when anything is wrong.

    make fuzz-test ROWS=100000 SEED=7
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fuzz_deliveries import PLANS, Plan, Row, rows_of
from fuzz_files import write
from fuzz_ledger import complaints, read_ledger
from fuzz_pages import live_content
from fuzz_times import LATE_DAYS

if TYPE_CHECKING:
    from jobs.lake.delta_io import Lake

KEY = "a-marker-key-that-nobody-may-ever-see"
MOST_NAMED = 20


@dataclass
class Outcome:
    """What became of a whole run."""

    tried: int = 0
    accepted: int = 0
    refused: int = 0
    elsewhere: int = 0
    by_reason: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def run(lake: Lake, deliveries: Path, num_rows: int, seed: int) -> Outcome:
    """All plans, each with its share of the rows; then features and pages."""
    outcome = Outcome()
    for plan in PLANS:
        started = time.monotonic()
        rows = rows_of(plan, -(-num_rows // len(PLANS)), seed)
        place = deliveries / plan.name
        write(plan, rows, place, lake.spark, seed)
        made = time.monotonic()
        try:
            _ingest(lake, plan, place)
        except Exception as error:
            outcome.crashes.append(f"{plan.name}: {_told(error)}")
            continue
        _account(lake, plan, rows, outcome)
        took = f"{made - started:.0f} s to make, {time.monotonic() - made:.0f} s to take in"
        print(f"{plan.name}: {len(rows)} rows, {took}", flush=True)
    try:
        _go_on(lake, outcome)
    except Exception as error:
        outcome.crashes.append(f"after ingest: {_told(error)}")
    return outcome


def _told(error: Exception) -> str:
    traceback.print_exc()
    told = f"{type(error).__name__}: {str(error)[:2000]}"
    print(f"CRASH {told}", flush=True)
    return told


def _ingest(lake: Lake, plan: Plan, place: Path) -> None:
    from jobs import ingest
    from jobs.deliveries.mapping import Mapping
    from jobs.deliveries.readiness import check_ready
    from jobs.deliveries.source import Delivery
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights

    mapping = Mapping.model_validate(plan.mapping)
    delivery = Delivery(str(place), plan.format, mapping)  # type: ignore[arg-type]
    dates = Dates(plan.nights[0], plan.nights[-1])
    check_ready(lake, delivery, dates)
    with lease_nights(lake, dates) as night:
        ingest.run(night, delivery)


def _account(lake: Lake, plan: Plan, rows: list[Row], outcome: Outcome) -> None:
    ledger = read_ledger(lake, plan)
    wrong = [f"{plan.name}: {text}" for text in complaints(ledger, rows)]
    outcome.wrong += wrong
    for text in wrong[:MOST_NAMED]:
        print(f"WRONG {text}", flush=True)
    outcome.tried += len(rows)
    outcome.accepted += ledger.num_accepted
    outcome.refused += ledger.num_refused
    outcome.elsewhere += len(rows) - ledger.num_accepted - ledger.num_refused
    outcome.by_reason += ledger.by_reason()


def _go_on(lake: Lake, outcome: Outcome) -> None:
    """Features of all nights, and the page of each."""
    from jobs import features, report
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import FEATURES_TABLE

    dates = Dates(PLANS[0].nights[0], PLANS[-1].nights[-1])
    with lease_nights(lake, dates) as night:
        features.run(night)
    built = lake.read(FEATURES_TABLE).count()
    if built != outcome.accepted:
        outcome.wrong.append(f"{outcome.accepted} rows accepted, and features of {built}")
    for plan in PLANS:
        page = Path(report.write(lake, plan.nights[0]))
        live = live_content(lake, plan.nights[0], page)
        outcome.wrong += live
        for text in live[:MOST_NAMED]:
            print(f"WRONG {text}", flush=True)


def _show(outcome: Outcome, seed: int, seconds: float) -> None:
    print(f"\nseed {seed}, {seconds:.0f} s")
    print(f"{outcome.tried:>10,} rows tried")
    print(f"{outcome.accepted:>10,} accepted")
    print(f"{outcome.refused:>10,} refused, by rule (a row may break several):")
    for reason, count in outcome.by_reason.most_common():
        print(f"{count:>16,} {reason}")
    print(f"{outcome.elsewhere:>10,} of other nights, left alone")
    print(f"{len(outcome.crashes):>10,} crashes")
    print(f"{len(outcome.wrong):>10,} rows or pages that are not as they should be")


def main() -> int:
    """Read the arguments, run, print; 0 when all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(10**6)
    print(f"seed {seed}", flush=True)
    logging.getLogger("hypothesis").setLevel(logging.ERROR)
    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import load_settings
    from jobs.runtime.spark_session import open_session

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "lake"
        settings = load_settings(
            None,
            {
                "lake": str(place), "late_days": LATE_DAYS, "max_quarantined_share": 1.0,
                "pseudonym_key": KEY,
            },
        )  # fmt: skip
        spark = open_session(settings)
        lake = Lake(spark, settings)
        lake.create()
        started = time.monotonic()
        outcome = run(lake, Path(folder) / "deliveries", arguments.rows, seed)
        spark.stop()
        if any(KEY.encode() in file.read_bytes() for file in place.rglob("*") if file.is_file()):
            outcome.wrong.append("the key of the pseudonyms is in the lake")
    _show(outcome, seed, time.monotonic() - started)
    return 1 if outcome.crashes or outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
