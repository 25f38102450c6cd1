"""A clock that is set back, and a delivery that grows while it is read."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from injection import FaultyLake
from lake_snapshot import take_snapshot
from lakes import LAST_NIGHT, Template
from target_process import FaultPoint

if TYPE_CHECKING:
    from jobs.lake.delta_io import Lake
    from tests.processes import CommandResult

pytestmark = [pytest.mark.faults, pytest.mark.spark, pytest.mark.slow]

AHEAD = timedelta(days=1)


def set_clock_ahead(lake: Lake) -> None:
    """Change all times in a lake as if the clock had been a day ahead when it was written."""
    from jobs.lake.tables import NIGHTS, RUNS

    today = datetime.now(UTC).date()
    pattern = f'(started_at|finished_at)": "{today}T'
    later = f'$1": "{today + AHEAD}T'
    lake.delta_table(NIGHTS).update(
        set={
            "updated_at": "updated_at + INTERVAL 1 DAY",
            "jobs": f"transform_values(jobs, (k, v) -> regexp_replace(v, '{pattern}', '{later}'))",
        }
    )
    one_day = {name: f"{name} + INTERVAL 1 DAY" for name in ("started_at", "finished_at")}
    lake.delta_table(RUNS).update(set=one_day)
    shift_ms = int(AHEAD.total_seconds() * 1000)
    for file in Path(lake.uri).rglob("*"):
        if file.suffix == ".json" and file.parent.name == "_delta_log":
            text = re.sub(
                r'"timestamp":(\d+)',
                lambda match: f'"timestamp":{int(match[1]) + shift_ms}',
                file.read_text(),
            )
            file.write_text(text)
            (file.parent / f".{file.name}.crc").unlink(missing_ok=True)
        if file.is_file():
            modified = file.stat().st_mtime + AHEAD.total_seconds()
            os.utime(file, (modified, modified))


@pytest.mark.parametrize("stage", ["ingest", "features", "alerts"])
def test_clock_set_back_by_a_day_changes_no_result(stage: str, inject: Callable[..., Any]) -> None:
    with inject(f"{stage}: the clock is set back by a day", stage) as faulty:
        set_clock_ahead(faulty.lake)
        assert faulty.run_nightly(FaultPoint("append", "runs")).code == -9
        faulty.report_fault()


def test_lease_owner_with_clock_ahead_is_reported(inject: Callable[..., Any]) -> None:
    from jobs.lake.tables import NIGHTS

    this_night = f"business_date = DATE'{LAST_NIGHT}'"
    with inject("leased by another machine whose clock is ahead", "features") as faulty:
        nights = faulty.lake.delta_table(NIGHTS)
        ahead = "current_timestamp() + INTERVAL 1 DAY"
        nights.update(
            this_night,
            {"holder": "'hold-1@elsewhere:1::1'", "lease_until": ahead, "updated_at": ahead},
        )
        before = take_snapshot(faulty.lake)
        faulty.report.before = before.summary()
        result = faulty.run_nightly()
        assert result.code == 5, result.output[-3000:]
        assert "a clock is wrong" in result.output
        after = faulty.report_fault(result)
        assert after.versions == before.versions
        nights.update(this_night, {"holder": "CAST(NULL AS string)"})


# -- growing deliveries --------------------------------------------------------------------------


@pytest.fixture
def bank(template: Template, tmp_path: Path) -> Path:
    """Copy the deliveries, because the test changes them."""
    return Path(shutil.copytree(template.bank, tmp_path / "bank"))


def largest_file(bank: Path) -> Path:
    """Return a file of the last night's transactions."""
    folder = bank / "transactions" / f"business_date={LAST_NIGHT}"
    return max(folder.glob("*.parquet"), key=lambda file: file.stat().st_size)


def delivery_settings(bank: Path) -> dict[str, str]:
    """Return the environment variables that make a command read its delivery from a folder."""
    settings = {"SOURCE": str(bank), "SOURCE_FORMAT": "parquet", "MAPPING": "simulated"}
    return {f"FRAUD_{name}": value for name, value in settings.items()}


def write_more_rows(file: Path, folder: Path, *, with_old: bool) -> Path:
    """Write further rows for a delivery to a new file, with or without the old rows."""
    old = pq.ParquetFile(file).read()
    at = old.schema.get_field_index("transaction_id")
    ids = pc.binary_join_element_wise(old.column(at), pa.scalar("grown"), "-")
    new = old.set_column(at, old.schema.field(at), ids)
    grown = folder / "grown.parquet"
    pq.write_table(pa.concat_tables([old, new]) if with_old else new, grown)
    return grown


def run_with_growing_delivery(
    faulty: FaultyLake, bank: Path, grown: Path, target: Path
) -> CommandResult:
    """Run the night; a file is copied into the delivery after its rows have been counted."""
    signals = bank.with_name("signals")
    signals.mkdir()
    (signals / "replacements").write_text(json.dumps({str(grown): str(target)}))
    fault = FaultPoint("stage_transactions", action="replace_files")
    return faulty.run_nightly(fault, signals=signals, env=delivery_settings(bank))


def test_file_added_while_delivery_is_read_is_ignored(
    bank: Path, tmp_path: Path, inject: Callable[..., Any]
) -> None:
    """The night consists of the files that exist when it begins."""
    file = largest_file(bank)
    with inject("a file is added to the delivery while it is read", "ingest") as faulty:
        faulty.rerun_nights = []
        grown = write_more_rows(file, tmp_path, with_old=False)
        target = file.with_name("part-added.parquet")
        result = run_with_growing_delivery(faulty, bank, grown, target)
        assert result.code == 0, result.output[-3000:]
        faulty.report_fault(result)


def test_file_that_grows_while_delivery_is_read_fails_the_gate(
    bank: Path, tmp_path: Path, inject: Callable[..., Any]
) -> None:
    file = largest_file(bank)
    original = file.read_bytes()
    # Only Hadoop writes a checksum beside its files.
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
    with inject("a file of the delivery grows while it is read", "ingest") as faulty:
        faulty.rerun_nights = []
        grown = write_more_rows(file, tmp_path, with_old=True)
        result = run_with_growing_delivery(faulty, bank, grown, file)
        assert result.code == 3, result.output[-3000:]
        after = faulty.report_fault(result)
        assert LAST_NIGHT not in after.rows["transactions"]
        file.write_bytes(original)
        faulty.run_nightly(env=delivery_settings(bank)).checked()
