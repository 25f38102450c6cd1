"""A clock that goes back, and a delivery that grows while it is read."""

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
from commands import Ended, run
from lakes import LAST, Picture, Template, picture, run_again
from victim import Trap

if TYPE_CHECKING:
    from jobs.lake.delta_io import Lake

pytestmark = [pytest.mark.faults, pytest.mark.spark, pytest.mark.slow]

AHEAD = timedelta(days=1)


def set_ahead(lake: Lake) -> None:
    """Make all that was written look as if the clock had been a day ahead then."""
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
                lambda found: f'"timestamp":{int(found[1]) + shift_ms}',
                file.read_text(),
            )
            file.write_text(text)
            (file.parent / f".{file.name}.crc").unlink(missing_ok=True)
        if file.is_file():
            moment = file.stat().st_mtime + AHEAD.total_seconds()
            os.utime(file, (moment, moment))


@pytest.mark.parametrize("stage", ["ingest", "features", "alerts"])
def test_the_clock_goes_back(
    stage: str,
    lake_at: Callable[[str], Lake],
    undisturbed: Picture,
    outcome: Callable[[str], Any],
) -> None:
    lake = lake_at(stage)
    place = Path(lake.uri)
    with outcome(f"{stage}: the clock goes back by a day") as line:
        set_ahead(lake)
        line.before = picture(lake).brief()
        assert run(place, "nightly", "--date", LAST, trap=Trap("append", "runs")).code == -9
        line.after_fault = picture(lake).brief()
        run_again(lake)
        whole = picture(lake)
        line.after_rerun = whole.brief()
        assert not whole.differences(undisturbed)


def test_a_holder_whose_clock_is_ahead(
    lake_at: Callable[[str], Lake], undisturbed: Picture, outcome: Callable[[str], Any]
) -> None:
    from jobs.lake.tables import NIGHTS

    lake = lake_at("features")
    place = Path(lake.uri)
    with outcome("held from another machine whose clock is ahead") as line:
        ahead = "current_timestamp() + INTERVAL 1 DAY"
        lake.delta_table(NIGHTS).update(
            f"business_date = DATE'{LAST}'",
            {"holder": "'hold-1@elsewhere:1::1'", "lease_until": ahead, "updated_at": ahead},
        )
        before = picture(lake)
        line.before = before.brief()
        hit = run(place, "nightly", "--date", LAST)
        assert hit.code == 5, hit.words[-3000:]
        assert "a clock is wrong" in hit.words
        after = picture(lake)
        line.after_fault = f"{hit}; {after.brief()}"
        assert after.versions == before.versions
        lake.delta_table(NIGHTS).update(
            f"business_date = DATE'{LAST}'", {"holder": "CAST(NULL AS string)"}
        )
        run_again(lake)
        whole = picture(lake)
        line.after_rerun = whole.brief()
        assert not whole.differences(undisturbed)


# -- growing deliveries --------------------------------------------------------------------------


@pytest.fixture
def bank(template: Template, tmp_path: Path) -> Path:
    """Deliveries of this test's own, for it changes them."""
    return Path(shutil.copytree(template.bank, tmp_path / "bank"))


def delivered(bank: Path) -> Path:
    """A file of the last night's transactions."""
    folder = bank / "transactions" / f"business_date={LAST}"
    return max(folder.glob("*.parquet"), key=lambda file: file.stat().st_size)


def read_from(bank: Path) -> dict[str, str]:
    """What tells a command to take its delivery from here."""
    named = {"SOURCE": str(bank), "SOURCE_FORMAT": "parquet", "MAPPING": "simulated"}
    return {f"FRAUD_{name}": value for name, value in named.items()}


def more_rows(file: Path, place: Path, *, with_old: bool) -> Path:
    """Further rows for a delivery, with the old ones or without."""
    old = pq.ParquetFile(file).read()
    at = old.schema.get_field_index("transaction_id")
    ids = pc.binary_join_element_wise(old.column(at), pa.scalar("grown"), "-")
    new = old.set_column(at, old.schema.field(at), ids)
    grown = place / "grown.parquet"
    pq.write_table(pa.concat_tables([old, new]) if with_old else new, grown)
    return grown


def grow(lake: Lake, bank: Path, grown: Path, target: Path) -> Ended:
    """Run the night; a file is put into the delivery between counting and judging."""
    meeting = bank.with_name("meeting")
    meeting.mkdir()
    (meeting / "growth").write_text(json.dumps({str(grown): str(target)}))
    trap = Trap("judge", act="grow")
    told = {"trap": trap, "meeting": meeting, "env": read_from(bank)}
    return run(Path(lake.uri), "nightly", "--date", LAST, **told)


def test_a_file_is_added_while_a_delivery_is_read(
    lake_at: Callable[[str], Lake],
    bank: Path,
    undisturbed: Picture,
    tmp_path: Path,
    outcome: Callable[[str], Any],
) -> None:
    """What was not there when the night began is not of the night."""
    lake = lake_at("ingest")
    file = delivered(bank)
    with outcome("a file is added to the delivery while it is read") as line:
        line.before = picture(lake).brief()
        grown = more_rows(file, tmp_path, with_old=False)
        hit = grow(lake, bank, grown, file.with_name("part-added.parquet"))
        assert hit.code == 0, hit.words[-3000:]
        whole = picture(lake)
        line.after_fault = f"{hit}; {whole.brief()}"
        line.after_rerun = "(not needed)"
        assert not whole.differences(undisturbed)


def test_a_file_grows_while_a_delivery_is_read(
    lake_at: Callable[[str], Lake],
    bank: Path,
    undisturbed: Picture,
    tmp_path: Path,
    outcome: Callable[[str], Any],
) -> None:
    lake = lake_at("ingest")
    file = delivered(bank)
    kept = file.read_bytes()
    # Other writers leave no checksum beside their files.
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
    with outcome("a file of the delivery grows while it is read") as line:
        line.before = picture(lake).brief()
        hit = grow(lake, bank, more_rows(file, tmp_path, with_old=True), file)
        assert hit.code == 3, hit.words[-3000:]
        after = picture(lake)
        line.after_fault = f"{hit}; {after.brief()}"
        assert not after.half_shown(undisturbed)
        assert LAST not in after.parts["transactions"]
        file.write_bytes(kept)
        again = run(Path(lake.uri), "nightly", "--date", LAST, env=read_from(bank))
        assert again.code == 0, again.words[-3000:]
        whole = picture(lake)
        line.after_rerun = whole.brief()
        assert not whole.differences(undisturbed)
