"""Ingest mutated deliveries into a real lake and account for every row.

The real jobs ingest CSV, Parquet and Delta deliveries of mutated rows, build features of the
accepted rows, and write a page per night. Prints the seed, the number of rows tried, accepted and
quarantined by reason, and all crashes. Exits with 1 when anything is wrong.

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
from fuzz_ledger import read_ledger, violations
from fuzz_pages import active_content
from fuzz_times import LATE_DAYS

if TYPE_CHECKING:
    from jobs.lake.delta_io import Lake

KEY = "a-marker-key-that-must-not-be-stored"
MAX_PRINTED = 20


@dataclass
class FuzzReport:
    """Counts and errors of a whole run."""

    tried: int = 0
    accepted: int = 0
    quarantined: int = 0
    other_nights: int = 0
    by_reason: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def run(lake: Lake, deliveries: Path, num_rows: int, seed: int) -> FuzzReport:
    """Run all plans, each with its share of the rows; then build features and pages."""
    report = FuzzReport()
    for plan in PLANS:
        started = time.monotonic()
        rows = rows_of(plan, -(-num_rows // len(PLANS)), seed)
        folder = deliveries / plan.name
        write(plan, rows, folder, lake.spark, seed)
        written = time.monotonic()
        try:
            _ingest(lake, plan, folder)
        except Exception as error:
            report.crashes.append(f"{plan.name}: {_log_crash(error)}")
            continue
        _account(lake, plan, rows, report)
        took = f"{written - started:.0f} s to write, {time.monotonic() - written:.0f} s to ingest"
        print(f"{plan.name}: {len(rows)} rows, {took}", flush=True)
    try:
        _build_features_and_pages(lake, report)
    except Exception as error:
        report.crashes.append(f"after ingest: {_log_crash(error)}")
    return report


def _log_crash(error: Exception) -> str:
    traceback.print_exc()
    text = f"{type(error).__name__}: {str(error)[:2000]}"
    print(f"CRASH {text}", flush=True)
    return text


def _ingest(lake: Lake, plan: Plan, folder: Path) -> None:
    from jobs import ingest
    from jobs.deliveries.mapping import Mapping
    from jobs.deliveries.readiness import check_ready
    from jobs.deliveries.source import Delivery
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights

    mapping = Mapping.model_validate(plan.mapping)
    delivery = Delivery(str(folder), plan.format, mapping)  # type: ignore[arg-type]
    dates = Dates(plan.nights[0], plan.nights[-1])
    check_ready(lake, delivery, dates)
    with lease_nights(lake, dates) as night:
        ingest.run(night, delivery)


def _account(lake: Lake, plan: Plan, rows: list[Row], report: FuzzReport) -> None:
    ledger = read_ledger(lake, plan)
    wrong = [f"{plan.name}: {text}" for text in violations(ledger, rows)]
    report.wrong += wrong
    for text in wrong[:MAX_PRINTED]:
        print(f"WRONG {text}", flush=True)
    report.tried += len(rows)
    report.accepted += ledger.num_accepted
    report.quarantined += ledger.num_quarantined
    report.other_nights += len(rows) - ledger.num_accepted - ledger.num_quarantined
    report.by_reason += ledger.by_reason()


def _build_features_and_pages(lake: Lake, report: FuzzReport) -> None:
    """Build the features of all nights, and the page of each."""
    from jobs import features
    from jobs import report as pages
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import FEATURES_TABLE

    dates = Dates(PLANS[0].nights[0], PLANS[-1].nights[-1])
    with lease_nights(lake, dates) as night:
        features.run(night)
    built = lake.read(FEATURES_TABLE).count()
    if built != report.accepted:
        report.wrong.append(f"{report.accepted} rows accepted, but {built} rows with features")
    for plan in PLANS:
        page = Path(pages.write(lake, plan.nights[0]))
        active = active_content(lake, plan.nights[0], page)
        report.wrong += active
        for text in active[:MAX_PRINTED]:
            print(f"WRONG {text}", flush=True)


def _show(report: FuzzReport, seed: int, seconds: float) -> None:
    print(f"\nseed {seed}, {seconds:.0f} s")
    print(f"{report.tried:>10,} rows tried")
    print(f"{report.accepted:>10,} accepted")
    print(f"{report.quarantined:>10,} quarantined, by reason (a row may have several):")
    for reason, count in report.by_reason.most_common():
        print(f"{count:>16,} {reason}")
    print(f"{report.other_nights:>10,} of other nights, not ingested")
    print(f"{len(report.crashes):>10,} crashes")
    print(f"{len(report.wrong):>10,} errors in rows or pages")


def main() -> int:
    """Read the arguments, run, and print; return 0 when nothing is wrong."""
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
        stored = Path(folder) / "lake"
        settings = load_settings(
            None,
            {
                "lake": str(stored), "late_days": LATE_DAYS, "max_quarantined_share": 1.0,
                "pseudonym_key": KEY,
            },
        )  # fmt: skip
        spark = open_session(settings)
        lake = Lake(spark, settings)
        lake.create()
        started = time.monotonic()
        report = run(lake, Path(folder) / "deliveries", arguments.rows, seed)
        spark.stop()
        if any(KEY.encode() in file.read_bytes() for file in stored.rglob("*") if file.is_file()):
            report.wrong.append("the pseudonym key is stored in the lake")
    _show(report, seed, time.monotonic() - started)
    return 1 if report.crashes or report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
