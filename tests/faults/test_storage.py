"""Storage that is read-only, full or damaged: a clear error, no partial night, and a full rerun."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from injection import OpenReport, faulty_lake
from lake_snapshot import LakeSnapshot, take_snapshot
from lakes import PREVIOUS_NIGHT, Template, open_lake
from target_process import FaultPoint

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tests.processes import CommandResult

pytestmark = [pytest.mark.faults, pytest.mark.spark, pytest.mark.slow]

# Tables that record what was tried; all others hold the results of a night.
RECORDS = {"nights", "runs"}


def newest_commits(lake: Path) -> dict[str, str]:
    """Return the newest commit file of each table with results."""
    return {
        log.parent.name: max(file.name for file in log.glob("*.json"))
        for log in lake.glob("*/_delta_log")
        if log.parent.name not in RECORDS
    }


def check_error_message(result: CommandResult) -> None:
    """Check that the command exited by itself with a message, not with a traceback."""
    assert result.code in (1, 4), f"{result}: {result.output[-3000:]}"
    assert "What to do:" in result.output, result.output[-3000:]
    assert "Traceback (most recent call last)" not in result.output, result.output[-3000:]


# -- damaged files -------------------------------------------------------------------------------


def cut(file: Path) -> None:
    """Cut a file to half its length, as a crash of the machine may."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def overwrite(file: Path) -> None:
    """Replace a file's content by noise of the same length, as a failing disk may."""
    file.write_bytes(bytes(255 - byte for byte in file.read_bytes()))


def use_own_checkpoint(lake: Path) -> None:
    """Let a copied lake use its own copy of the checkpoint instead of the registered one."""
    with sqlite3.connect(lake / "_registry" / "mlflow.db") as store:
        (source,) = store.execute("SELECT source FROM model_versions").fetchone()
        folder = lake / "_models" / Path(source).name
        store.execute("UPDATE model_versions SET source = ?", (str(folder),))


def _last_commit(table: str) -> Callable[[Path], Path]:
    return lambda lake: max((lake / table / "_delta_log").glob("*.json"))


def _rows_of_previous_night(table: str) -> Callable[[Path], Path]:
    partition = f"business_date={PREVIOUS_NIGHT}"
    return lambda lake: max(
        (lake / table / partition).glob("*.parquet"), key=lambda file: file.stat().st_size
    )


@dataclass(frozen=True)
class Damage:
    """Which file is damaged, how, and the job before which the lake is copied."""

    title: str
    stage: str
    file: Callable[[Path], Path]
    apply: Callable[[Path], None]


DAMAGES = (
    Damage("log of transactions cut", "ingest", _last_commit("transactions"), cut),
    Damage("log of features overwritten", "score", _last_commit("features"), overwrite),
    Damage("log of nights cut", "ingest", _last_commit("nights"), cut),
    Damage("rows of transactions cut", "features", _rows_of_previous_night("transactions"), cut),
    Damage("rows of features overwritten", "score", _rows_of_previous_night("features"), overwrite),
    Damage(
        "staged scores cut",
        "publish",
        lambda lake: max(lake.glob("_staging/*/scores/*.parquet"), key=lambda f: f.stat().st_size),
        cut,
    ),
    Damage(
        "weights of the checkpoint overwritten",
        "score",
        lambda lake: next(lake.glob("_models/*/weights.safetensors")),
        overwrite,
    ),
    Damage(
        "description of the checkpoint cut",
        "score",
        lambda lake: next(lake.glob("_models/*/checkpoint.json")),
        cut,
    ),
    Damage(
        "model store overwritten", "score", lambda lake: lake / "_registry/mlflow.db", overwrite
    ),
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.title)
def test_damaged_file_stops_the_night_until_it_is_restored(
    damage: Damage, inject: Callable[..., Any], tmp_path: Path
) -> None:
    with inject(damage.title, damage.stage) as faulty:
        use_own_checkpoint(faulty.folder)
        commits = newest_commits(faulty.folder)
        file = damage.file(faulty.folder)
        original = tmp_path / "original"
        shutil.copy2(file, original)
        damage.apply(file)
        result = faulty.run_nightly()
        check_error_message(result)
        assert newest_commits(faulty.folder) == commits
        shutil.copy2(original, file)
        faulty.report_fault(result)


# -- no space, no permission ---------------------------------------------------------------------

FULL = (
    ("ingest", FaultPoint("stage", "validated_transactions", action="limit_files")),
    ("features", FaultPoint("publish", "features", action="limit_files")),
    ("report", FaultPoint("write", "report.html", action="limit_files")),
    ("report", FaultPoint("append", "runs", action="limit_files")),
)


@pytest.mark.parametrize(("stage", "fault"), FULL, ids=[f"{s}: {f}" for s, f in FULL])
def test_file_size_limit_stops_the_night(
    stage: str, fault: FaultPoint, inject: Callable[..., Any]
) -> None:
    """A limit on the size of files acts like a full disk, and needs no right to mount."""
    with inject(f"{stage}: {fault}", stage) as faulty:
        result = faulty.run_nightly(fault)
        check_error_message(result)
        faulty.report_fault(result)


def mount(*arguments: object) -> None:
    """Mount a file system; skip the test where that is not allowed."""
    command = ["mount", *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("this machine has no `mount`")
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


@contextmanager
def mounted(folder: Path, *arguments: object) -> Iterator[None]:
    mount(*arguments, folder)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("free_kib", [64, 400])
def test_full_disk_stops_the_night(
    free_kib: int,
    spark: SparkSession,
    template: Template,
    reference_lake: LakeSnapshot,
    tmp_path: Path,
    fault_report: OpenReport,
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, "-t", "tmpfs", "-o", "size=1g", "tmpfs"):
        lake = open_lake(spark, template.copy("ingest", disk / "lake"))
        report = fault_report(f"disk full after {free_kib} KiB")
        with faulty_lake(report, lake, reference_lake) as faulty:
            usage = os.statvfs(disk)
            used = (usage.f_blocks - usage.f_bfree) * usage.f_frsize
            mount("-o", f"remount,size={used + free_kib * 1024}", disk)
            signals = tmp_path / "signals"
            signals.mkdir()
            result = faulty.run_nightly(signals=signals)
            check_error_message(result)
            mount("-o", "remount,size=1g", disk)
            faulty.report_fault(result)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only: for root by a mount, since root ignores permissions."""
    if os.getuid() == 0:
        with mounted(folder, "--bind", folder):
            mount("-o", "remount,ro,bind", folder)
            yield
        return
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for each in folders:
        each.chmod(0o555)
    try:
        yield
    finally:
        for each in folders:
            each.chmod(0o755)


@pytest.mark.parametrize("stage", ["ingest", "score"])
def test_read_only_lake_stops_the_night(stage: str, inject: Callable[..., Any]) -> None:
    with inject(f"{stage}: lake is read-only", stage) as faulty:
        before = take_snapshot(faulty.lake)
        with read_only(faulty.folder):
            result = faulty.run_nightly()
        check_error_message(result)
        assert faulty.report_fault(result).versions == before.versions
