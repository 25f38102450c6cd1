"""Error translation: full, read-only or damaged storage, and a Spark process that ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from feature_defs.errors import FraudScoringError, InputMissing
from jobs.lake.errors import is_infrastructure_error, translate
from tests.command_line import run_command_on

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from jobs.lake.delta_io import Lake

DAY = date(2024, 3, 1)
ENTRY = "00000000000000000002.json"


def rows(lake: Lake, number: int) -> DataFrame:
    """Return rows for `quarantine` that do not compress."""
    from pyspark.sql import functions as F

    noise = F.sha2(F.col("id").cast("string"), 512)
    return lake.spark.range(number).select(
        F.lit("s").alias("source"),
        noise.alias("raw"),
        F.array(noise).alias("reasons"),
        F.lit("run").alias("run_id"),
        F.lit(DAY).alias("business_date"),
    )


@pytest.fixture
def lake_with_commits(lake: Lake) -> Lake:
    """A lake whose table `quarantine` has three more commits after its creation."""
    from jobs.lake.tables import QUARANTINE

    for number in range(3):
        lake.append(QUARANTINE, rows(lake, 3).coalesce(1), f"run-{number}")
    return lake


def copy_lake(lake: Lake, place: Path) -> Lake:
    """Copy a lake to a path whose logs Delta has not read (and cached) yet."""
    from jobs.lake.delta_io import Lake

    shutil.copytree(lake.uri, place)
    return Lake(lake.spark, lake.settings.model_copy(update={"lake": str(place)}))


def translated_error(action: Callable[[], object]) -> FraudScoringError:
    with pytest.raises(Exception) as raised:
        action()
    translated = translate(raised.value)
    assert translated is not None, str(raised.value)[:2000]
    return translated


def delete_checksums(log: Path) -> None:
    """Delete Hadoop's checksum files; many file systems have none."""
    for path in log.glob("*.crc"):
        path.unlink()
    for path in log.glob(".*.crc"):
        path.unlink()


def truncate_log_entry(log: Path) -> None:
    delete_checksums(log)
    (log / ENTRY).write_text('{"add": {"path": "busin')


def truncate_log_entry_but_not_its_checksum(log: Path) -> None:
    (log / ENTRY).write_text('{"add": {"path": "busin')


def write_binary_log_entry(log: Path) -> None:
    delete_checksums(log)
    (log / ENTRY).write_bytes(b"\x00\xff\n")


def delete_log_entry(log: Path) -> None:
    delete_checksums(log)
    (log / ENTRY).unlink()


def delete_first_log_entry(log: Path) -> None:
    delete_checksums(log)
    (log / "00000000000000000000.json").unlink()


def first_data_file(log: Path) -> Path:
    return min(log.parent.rglob("part-*.parquet"))


def delete_data_file(log: Path) -> None:
    first_data_file(log).unlink()


def truncate_data_file(log: Path) -> None:
    file = first_data_file(log)
    file.with_name(f".{file.name}.crc").unlink()
    file.write_bytes(file.read_bytes()[:60])


def empty_data_file(log: Path) -> None:
    file = first_data_file(log)
    file.with_name(f".{file.name}.crc").unlink()
    file.write_bytes(b"")


def overwrite_data_file(log: Path) -> None:
    file = first_data_file(log)
    content = bytearray(file.read_bytes())
    content[10:100] = b"\x99" * 90
    file.write_bytes(bytes(content))


@pytest.mark.spark
@pytest.mark.parametrize(
    ("damage", "expected_parts"),
    [
        (truncate_log_entry, ("Delta's log is damaged", "`quarantine`", ENTRY)),
        (
            truncate_log_entry_but_not_its_checksum,
            ("Delta's log is damaged", "`quarantine`", ENTRY),
        ),
        (write_binary_log_entry, ("Delta's log is damaged", "`quarantine`", ENTRY)),
        (delete_log_entry, ("Delta's log is damaged", "`quarantine`", "not contiguous")),
        (delete_first_log_entry, ("Delta's log is damaged", "`quarantine`")),
        (delete_data_file, ("damaged or missing", "`quarantine`", ".parquet")),
        (truncate_data_file, ("damaged or missing", "`quarantine`", ".parquet")),
        (empty_data_file, ("damaged or missing", "`quarantine`", ".parquet")),
        (overwrite_data_file, ("damaged or missing", "`quarantine`", ".parquet")),
    ],
)
def test_reading_a_damaged_table_names_the_table(
    lake_with_commits: Lake,
    tmp_path: Path,
    damage: Callable[[Path], None],
    expected_parts: tuple[str, ...],
) -> None:
    from jobs.health import lake_checks
    from jobs.lake.tables import QUARANTINE

    broken = copy_lake(lake_with_commits, tmp_path / "broken")
    damage(Path(broken.uri, "quarantine", "_delta_log"))
    translated = translated_error(lambda: broken.read(QUARANTINE).orderBy("raw").collect())
    assert isinstance(translated, InputMissing)
    assert translated.exit_code == 4
    for part in expected_parts:
        assert part in translated.found
    assert len(translated.found) < 800
    if "log" in translated.found:
        result = lake_checks.check_tables(broken)
        assert result.status == "wrong"
        assert "quarantine cannot be read: Delta's log is damaged" in result.found


@pytest.mark.spark
def test_empty_log_entry_is_reported_by_doctor(lake_with_commits: Lake, tmp_path: Path) -> None:
    """Delta reads an empty entry as a commit without changes and reports no error."""
    from jobs.health import lake_checks
    from jobs.lake.tables import QUARANTINE

    broken = copy_lake(lake_with_commits, tmp_path / "broken")
    log = Path(broken.uri, "quarantine", "_delta_log")
    assert lake_checks.check_table_logs(broken).status == "ok"
    delete_checksums(log)
    (log / ENTRY).write_text("")
    assert broken.read(QUARANTINE).count() < lake_with_commits.read(QUARANTINE).count()
    result = lake_checks.check_table_logs(broken)
    assert result.status == "wrong"
    assert ENTRY in result.found


@pytest.mark.spark
def test_missing_version_becomes_input_missing(lake_with_commits: Lake) -> None:
    from jobs.lake.tables import QUARANTINE

    translated = translated_error(lambda: lake_with_commits.read(QUARANTINE, 77).collect())
    assert translated.exit_code == 4
    assert "version 77" in translated.found


@pytest.mark.spark
def test_executor_error_keeps_its_class_and_message(lake: Lake) -> None:
    def refuse(batches: object) -> object:
        raise InputMissing("The weights are gone.", expected="weights.", remedy="restore them.")

    frame = lake.spark.range(1).mapInArrow(refuse, "id long")  # type: ignore[arg-type]
    translated = translated_error(frame.collect)
    assert isinstance(translated, InputMissing)
    assert (translated.found, translated.expected) == ("The weights are gone.", "weights.")
    assert translated.remedy == "restore them."


# -- full and read-only storage ------------------------------------------------------------------


@pytest.fixture
def mounted() -> Iterator[Callable[..., None]]:
    """Return a function that mounts a file system until the end of the test."""
    places: list[Path] = []

    def mount(place: Path, *options: str) -> None:
        done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this user may not mount: {done.stderr.strip()}")
        places.append(place)

    yield mount
    for place in reversed(places):
        # A Python object that is not collected yet may keep a file open there.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.spark
def test_full_disk_is_reported_and_changes_no_row(
    lake_with_commits: Lake, tmp_path: Path, mounted: Callable[..., None]
) -> None:
    from fraud_models.storage import write_bytes
    from jobs.lake.tables import QUARANTINE

    place = tmp_path / "small"
    place.mkdir()
    mounted(place, "-t", "tmpfs", "-o", "size=2m", "tmpfs")
    full = copy_lake(lake_with_commits, place / "lake")
    before = full.read(QUARANTINE).count()
    many = rows(full, 60_000)
    for action, where in (
        (lambda: full.append(QUARANTINE, many, "run-9"), "`quarantine`"),
        (lambda: full.stage(many, "run-9", "x"), "_staging"),
        (lambda: write_bytes(full.path("page.html"), b"x" * 5_000_000), "No space left"),
    ):
        translated = translated_error(action)
        assert translated.exit_code == 1
        assert "The storage is full" in translated.found
        assert where in translated.found
        assert "free some space" in translated.remedy
    assert full.read(QUARANTINE).count() == before


@pytest.mark.spark
def test_read_only_lake_is_reported_and_changes_no_row(
    lake_with_commits: Lake, tmp_path: Path, mounted: Callable[..., None]
) -> None:
    from fraud_models.storage import write_bytes
    from jobs.lake.tables import QUARANTINE
    from jobs.models.model_store import open_registry

    closed = copy_lake(lake_with_commits, tmp_path / "closed")
    mounted(Path(closed.uri), "--bind", closed.uri)
    subprocess.run(["mount", "-o", "remount,ro,bind", closed.uri], check=True)
    for action in (
        lambda: closed.append(QUARANTINE, rows(closed, 3), "run-9"),
        lambda: closed.stage(rows(closed, 3), "run-9", "x"),
        lambda: write_bytes(closed.path("page.html"), b"x"),
        lambda: open_registry(closed),
    ):
        translated = translated_error(action)
        assert translated.exit_code == 1
        assert "denies access to this user" in translated.found
        assert closed.uri in translated.found
    assert closed.read(QUARANTINE).count() == 9


# -- Spark itself --------------------------------------------------------------------------------

OUT_OF_MEMORY = """
import os
from jobs.cli.options import open_spark
from jobs.lake.errors import translate
from jobs.runtime.settings import load_settings

settings = load_settings(None, {"driver_memory": "600m", "master": "local[1]"})
errors, translated = [], []
with open_spark(settings) as spark:
    try:
        # A single array of four gigabytes: other allocations in the process still succeed.
        spark.range(1).selectExpr("size(sequence(id, id + 500000000))").collect()
    except Exception as error:
        errors.append(error)
        translated.append(translate(error))
try:
    with open_spark(settings) as spark:
        os.kill(spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid(), 9)
        spark.range(3).count()
except Exception as error:
    errors.append(error)
# The texts are in the Java process, which has ended.
translated += map(translate, reversed(errors))
for one in translated:
    print(one.exit_code if one else "?", one)
"""


@pytest.mark.spark
@pytest.mark.slow
def test_out_of_memory_and_killed_java_process_are_reported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True, timeout=600
    )
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 3, done.stdout + done.stderr[-3000:]
    assert lines[0].startswith("1 Spark ran out of memory"), lines[0]
    assert "driver_memory" in lines[0]
    for line in lines[1:]:
        assert line.startswith("1 Spark's Java process ended unexpectedly"), line


@pytest.mark.spark
@pytest.mark.slow
def test_command_on_a_damaged_table_prints_one_paragraph(
    lake_with_commits: Lake, tmp_path: Path
) -> None:
    broken = copy_lake(lake_with_commits, tmp_path / "broken")
    truncate_log_entry(
        Path(broken.uri, "nights", "_delta_log").parent.parent / "quarantine/_delta_log"
    )
    log = Path(broken.uri, "nights", "_delta_log")
    delete_checksums(log)
    (log / "00000000000000000000.json").write_text("{")
    done = run_command_on(broken.spark, "report", "--lake", broken.uri, "--date", DAY)
    last_line = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 4
    assert "Delta's log is damaged in the table `nights`" in done.stderr
    assert "What to do: " in last_line
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("java.io.IOException: File too large", True),
        ("java.io.IOException: No space left on device", True),
        ("java.lang.OutOfMemoryError: Java heap space", True),
        ("[FAILED_READ_FILE.NO_HINT] Encountered error while reading file", False),
        ("something else", False),
    ],
)
def test_is_infrastructure_error_separates_machine_from_data(text: str, expected: bool) -> None:
    assert is_infrastructure_error(RuntimeError(text)) is expected


def test_translate_unknown_error_returns_none() -> None:
    assert translate(ValueError("boom")) is None
    assert translate(ConnectionRefusedError(111, "Connection refused")) is None
    missing = InputMissing("a", expected="b", remedy="c")
    assert translate(missing) is missing
    try:
        try:
            raise OSError(28, os.strerror(28), "/lake/scores/x.parquet")
        except OSError as full:
            raise RuntimeError("the job failed") from full
    except RuntimeError as error:
        translated = translate(error)
    assert translated is not None
    assert translated.exit_code == 1
    assert "`scores`" in translated.found
