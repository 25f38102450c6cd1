"""Storage that is full, read-only or damaged: one paragraph, the right file, the right code."""

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

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from jobs.lake.delta_io import Lake

DAY = date(2024, 3, 1)
ENTRY = "00000000000000000002.json"


def rows(lake: Lake, number: int) -> DataFrame:
    """Rows for `quarantine` that no codec makes small."""
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
def written(lake: Lake) -> Lake:
    """A lake whose `quarantine` has three commits behind its first."""
    from jobs.lake.tables import QUARANTINE

    for number in range(3):
        lake.append(QUARANTINE, rows(lake, 3).coalesce(1), f"run-{number}")
    return lake


def a_copy(lake: Lake, place: Path) -> Lake:
    """Another lake with the same files: Delta has not read its logs yet."""
    from jobs.lake.delta_io import Lake

    shutil.copytree(lake.uri, place)
    return Lake(lake.spark, lake.settings.model_copy(update={"lake": str(place)}))


def problem_of(act: Callable[[], object]) -> FraudScoringError:
    with pytest.raises(Exception) as raised:
        act()
    problem = translate(raised.value)
    assert problem is not None, str(raised.value)[:2000]
    return problem


def without_checksums(log: Path) -> None:
    """As on file systems that keep none beside the files."""
    for path in log.glob("*.crc"):
        path.unlink()
    for path in log.glob(".*.crc"):
        path.unlink()


def cut_entry(log: Path) -> None:
    without_checksums(log)
    (log / ENTRY).write_text('{"add": {"path": "busin')


def cut_entry_beside_its_checksum(log: Path) -> None:
    (log / ENTRY).write_text('{"add": {"path": "busin')


def binary_entry(log: Path) -> None:
    without_checksums(log)
    (log / ENTRY).write_bytes(b"\x00\xff\n")


def missing_entry(log: Path) -> None:
    without_checksums(log)
    (log / ENTRY).unlink()


def missing_first_entry(log: Path) -> None:
    without_checksums(log)
    (log / "00000000000000000000.json").unlink()


def one_file(log: Path) -> Path:
    return min(log.parent.rglob("part-*.parquet"))


def missing_file(log: Path) -> None:
    one_file(log).unlink()


def cut_file(log: Path) -> None:
    file = one_file(log)
    file.with_name(f".{file.name}.crc").unlink()
    file.write_bytes(file.read_bytes()[:60])


def empty_file(log: Path) -> None:
    file = one_file(log)
    file.with_name(f".{file.name}.crc").unlink()
    file.write_bytes(b"")


def altered_file(log: Path) -> None:
    file = one_file(log)
    content = bytearray(file.read_bytes())
    content[10:100] = b"\x99" * 90
    file.write_bytes(bytes(content))


@pytest.mark.spark
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_entry, ("Delta's log is damaged", "`quarantine`", ENTRY)),
        (cut_entry_beside_its_checksum, ("Delta's log is damaged", "`quarantine`", ENTRY)),
        (binary_entry, ("Delta's log is damaged", "`quarantine`", ENTRY)),
        (missing_entry, ("Delta's log is damaged", "`quarantine`", "not contiguous")),
        (missing_first_entry, ("Delta's log is damaged", "`quarantine`")),
        (missing_file, ("damaged or missing", "`quarantine`", ".parquet")),
        (cut_file, ("damaged or missing", "`quarantine`", ".parquet")),
        (empty_file, ("damaged or missing", "`quarantine`", ".parquet")),
        (altered_file, ("damaged or missing", "`quarantine`", ".parquet")),
    ],
)
def test_a_damaged_table_is_named(
    written: Lake, tmp_path: Path, damage: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    from jobs.health import lake_checks
    from jobs.lake.tables import QUARANTINE

    broken = a_copy(written, tmp_path / "broken")
    damage(Path(broken.uri, "quarantine", "_delta_log"))
    problem = problem_of(lambda: broken.read(QUARANTINE).orderBy("raw").collect())
    assert isinstance(problem, InputMissing)
    assert problem.exit_code == 4
    for word in words:
        assert word in problem.found
    assert len(problem.found) < 800
    if "log" in problem.found:
        found = lake_checks.tables(broken)
        assert found.status == "wrong"
        assert "quarantine cannot be read: Delta's log is damaged" in found.found


@pytest.mark.spark
def test_an_empty_log_entry_is_found_by_the_doctor(written: Lake, tmp_path: Path) -> None:
    """Delta reads it as a commit that did nothing, and says no word."""
    from jobs.health import lake_checks
    from jobs.lake.tables import QUARANTINE

    broken = a_copy(written, tmp_path / "broken")
    log = Path(broken.uri, "quarantine", "_delta_log")
    assert lake_checks.logs(broken).status == "ok"
    without_checksums(log)
    (log / ENTRY).write_text("")
    assert broken.read(QUARANTINE).count() < written.read(QUARANTINE).count()
    found = lake_checks.logs(broken)
    assert found.status == "wrong"
    assert ENTRY in found.found


@pytest.mark.spark
def test_a_version_that_is_gone(written: Lake) -> None:
    from jobs.lake.tables import QUARANTINE

    problem = problem_of(lambda: written.read(QUARANTINE, 77).collect())
    assert problem.exit_code == 4
    assert "version 77" in problem.found


@pytest.mark.spark
def test_a_problem_on_an_executor_is_the_same_problem(lake: Lake) -> None:
    def refuse(batches: object) -> object:
        raise InputMissing("The weights are gone.", expected="weights.", remedy="restore them.")

    frame = lake.spark.range(1).mapInArrow(refuse, "id long")  # type: ignore[arg-type]
    problem = problem_of(frame.collect)
    assert isinstance(problem, InputMissing)
    assert (problem.found, problem.expected) == ("The weights are gone.", "weights.")
    assert problem.remedy == "restore them."


# -- storage that takes nothing ------------------------------------------------------------------


@pytest.fixture
def mounted() -> Iterator[Callable[..., None]]:
    """Mount file systems; they go away after the test."""
    places: list[Path] = []

    def mount(place: Path, *options: str) -> None:
        done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this user may not mount: {done.stderr.strip()}")
        places.append(place)

    yield mount
    for place in reversed(places):
        # Python's garbage may still hold a file open there.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.spark
def test_a_full_disk(written: Lake, tmp_path: Path, mounted: Callable[..., None]) -> None:
    from fraud_models.storage import write_bytes
    from jobs.lake.tables import QUARANTINE

    place = tmp_path / "small"
    place.mkdir()
    mounted(place, "-t", "tmpfs", "-o", "size=2m", "tmpfs")
    full = a_copy(written, place / "lake")
    before = full.read(QUARANTINE).count()
    many = rows(full, 60_000)
    for act, where in (
        (lambda: full.append(QUARANTINE, many, "run-9"), "`quarantine`"),
        (lambda: full.stage(many, "run-9", "x"), "_staging"),
        (lambda: write_bytes(full.path("page.html"), b"x" * 5_000_000), "No space left"),
    ):
        problem = problem_of(act)
        assert problem.exit_code == 1
        assert "The storage is full" in problem.found
        assert where in problem.found
        assert "make room" in problem.remedy
    assert full.read(QUARANTINE).count() == before


@pytest.mark.spark
def test_a_read_only_lake(written: Lake, tmp_path: Path, mounted: Callable[..., None]) -> None:
    from fraud_models.storage import write_bytes
    from jobs.lake.tables import QUARANTINE
    from jobs.models.model_store import open_registry

    closed = a_copy(written, tmp_path / "closed")
    mounted(Path(closed.uri), "--bind", closed.uri)
    subprocess.run(["mount", "-o", "remount,ro,bind", closed.uri], check=True)
    for act in (
        lambda: closed.append(QUARANTINE, rows(closed, 3), "run-9"),
        lambda: closed.stage(rows(closed, 3), "run-9", "x"),
        lambda: write_bytes(closed.path("page.html"), b"x"),
        lambda: open_registry(closed),
    ):
        problem = problem_of(act)
        assert problem.exit_code == 1
        assert "refuses this user" in problem.found
        assert closed.uri in problem.found
    assert closed.read(QUARANTINE).count() == 9


# -- Spark itself --------------------------------------------------------------------------------

OUT_OF_MEMORY = """
import os
from jobs.cli.options import open_spark
from jobs.lake.errors import translate
from jobs.runtime.settings import load_settings

settings = load_settings(None, {"driver_memory": "600m", "master": "local[1]"})
errors, problems = [], []
with open_spark(settings) as spark:
    try:
        # One array of four gigabytes: nothing else in the process goes short.
        spark.range(1).selectExpr("size(sequence(id, id + 500000000))").collect()
    except Exception as error:
        errors.append(error)
        problems.append(translate(error))
try:
    with open_spark(settings) as spark:
        os.kill(spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid(), 9)
        spark.range(3).count()
except Exception as error:
    errors.append(error)
# Its words are Java's, which nobody can ask for any more.
problems += map(translate, reversed(errors))
for problem in problems:
    print(problem.exit_code if problem else "?", problem)
"""


@pytest.mark.spark
@pytest.mark.slow
def test_spark_out_of_memory_and_spark_killed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True, timeout=600
    )
    said = done.stdout.strip().splitlines()
    assert len(said) == 3, done.stdout + done.stderr[-3000:]
    assert said[0].startswith("1 Spark ran out of memory"), said[0]
    assert "driver_memory" in said[0]
    for line in said[1:]:
        assert line.startswith("1 Spark's own process has ended in the middle"), line


@pytest.mark.spark
@pytest.mark.slow
def test_a_command_says_it_in_one_paragraph(written: Lake, tmp_path: Path) -> None:
    broken = a_copy(written, tmp_path / "broken")
    cut_entry(Path(broken.uri, "nights", "_delta_log").parent.parent / "quarantine/_delta_log")
    log = Path(broken.uri, "nights", "_delta_log")
    without_checksums(log)
    (log / "00000000000000000000.json").write_text("{")
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "report", "--lake", broken.uri, "--date", str(DAY)],
        capture_output=True,
        text=True,
    )
    said = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 4
    assert "Delta's log is damaged in the table `nights`" in done.stderr
    assert "What to do: " in said
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("said", "whose"),
    [
        ("java.io.IOException: File too large", True),
        ("java.io.IOException: No space left on device", True),
        ("java.lang.OutOfMemoryError: Java heap space", True),
        ("[FAILED_READ_FILE.NO_HINT] Encountered error while reading file", False),
        ("something else", False),
    ],
)
def test_a_machine_that_fails_is_not_a_bad_delivery(said: str, whose: bool) -> None:
    assert is_infrastructure_error(RuntimeError(said)) is whose


def test_what_is_not_known_stays_what_it_is() -> None:
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
        problem = translate(error)
    assert problem is not None
    assert problem.exit_code == 1
    assert "`scores`" in problem.found
