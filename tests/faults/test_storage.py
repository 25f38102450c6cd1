"""Storage that refuses, is full or is damaged: words, nothing changed, and whole after repair."""

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
from commands import Ended, run
from lakes import EVE, LAST, Picture, Template, open_at, picture, run_again
from victim import Trap

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

pytestmark = [pytest.mark.faults, pytest.mark.spark, pytest.mark.slow]

# Tables that tell what was tried; the others hold what a night is for.
LOGBOOKS = {"nights", "runs"}


def newest_commits(place: Path) -> dict[str, str]:
    """Newest commit file of each table that holds data."""
    return {
        log.parent.name: max(file.name for file in log.glob("*.json"))
        for log in place.glob("*/_delta_log")
        if log.parent.name not in LOGBOOKS
    }


def check_words(hit: Ended) -> None:
    """The command has ended by itself and said why, in a paragraph and not in a traceback."""
    assert hit.code in (1, 4), f"{hit}: {hit.words[-3000:]}"
    assert "What to do:" in hit.words, hit.words[-3000:]
    assert "Traceback (most recent call last)" not in hit.words, hit.words[-3000:]


def check_again(lake: Lake, undisturbed: Picture) -> str:
    run_again(lake)
    whole = picture(lake)
    assert not whole.differences(undisturbed)
    return whole.brief()


# -- damaged files -------------------------------------------------------------------------------


def cut(file: Path) -> None:
    """As after a crash of the machine: the file is there, and half of it is not."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def overwrite(file: Path) -> None:
    """As after a failing disk: the length is right, and the content is noise."""
    file.write_bytes(bytes(255 - byte for byte in file.read_bytes()))


def own_checkpoint(place: Path) -> None:
    """Give the copied lake a checkpoint of its own; copies share the one that was registered."""
    with sqlite3.connect(place / "_registry" / "mlflow.db") as store:
        (source,) = store.execute("SELECT source FROM model_versions").fetchone()
        folder = place / "_models" / Path(source).name
        store.execute("UPDATE model_versions SET source = ?", (str(folder),))


def _last_commit(table: str) -> Callable[[Path], Path]:
    return lambda place: max((place / table / "_delta_log").glob("*.json"))


def _rows_of_eve(table: str) -> Callable[[Path], Path]:
    return lambda place: max(
        (place / table / f"business_date={EVE}").glob("*.parquet"), key=lambda f: f.stat().st_size
    )


@dataclass(frozen=True)
class Damage:
    """What is damaged, how, and the job at whose beginning that is found."""

    what: str
    stage: str
    file: Callable[[Path], Path]
    harm: Callable[[Path], None]


DAMAGES = (
    Damage("log of transactions cut", "ingest", _last_commit("transactions"), cut),
    Damage("log of features overwritten", "score", _last_commit("features"), overwrite),
    Damage("log of nights cut", "ingest", _last_commit("nights"), cut),
    Damage("rows of transactions cut", "features", _rows_of_eve("transactions"), cut),
    Damage("rows of features overwritten", "score", _rows_of_eve("features"), overwrite),
    Damage(
        "staged scores cut",
        "publish",
        lambda place: max(
            place.glob("_staging/*/scores/*.parquet"), key=lambda f: f.stat().st_size
        ),
        cut,
    ),
    Damage(
        "weights of the checkpoint overwritten",
        "score",
        lambda place: next(place.glob("_models/*/weights.safetensors")),
        overwrite,
    ),
    Damage(
        "description of the checkpoint cut",
        "score",
        lambda place: next(place.glob("_models/*/checkpoint.json")),
        cut,
    ),
    Damage(
        "model store overwritten", "score", lambda place: place / "_registry/mlflow.db", overwrite
    ),
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.what)
def test_damaged_files(
    damage: Damage,
    lake_at: Callable[[str], Lake],
    before: Callable[[str], str],
    undisturbed: Picture,
    outcome: Callable[[str], Any],
) -> None:
    lake = lake_at(damage.stage)
    place = Path(lake.uri)
    with outcome(damage.what) as line:
        line.before = before(damage.stage)
        own_checkpoint(place)
        commits = newest_commits(place)
        file = damage.file(place)
        kept = place.with_name("kept")
        shutil.copy2(file, kept)
        damage.harm(file)
        hit = run(place, "nightly", "--date", LAST)
        check_words(hit)
        assert newest_commits(place) == commits
        shutil.copy2(kept, file)
        line.after_fault = f"{hit}; {picture(lake).brief()}"
        line.after_rerun = check_again(lake, undisturbed)


# -- no room, no right ---------------------------------------------------------------------------

FULL = (
    ("ingest", Trap("stage", "judged_transactions", act="fill")),
    ("features", Trap("publish", "features", act="fill")),
    ("report", Trap("file", "report.html", act="fill")),
    ("report", Trap("append", "runs", act="fill")),
)


@pytest.mark.parametrize(("stage", "trap"), FULL, ids=[f"{s}: {t}" for s, t in FULL])
def test_no_file_can_grow_any_more(
    stage: str,
    trap: Trap,
    lake_at: Callable[[str], Lake],
    before: Callable[[str], str],
    undisturbed: Picture,
    outcome: Callable[[str], Any],
) -> None:
    """A limit on the size of files, set at that moment: what a full disk does, on any machine."""
    lake = lake_at(stage)
    with outcome(f"{stage}: {trap}") as line:
        line.before = before(stage)
        hit = run(Path(lake.uri), "nightly", "--date", LAST, trap=trap)
        check_words(hit)
        after = picture(lake)
        line.after_fault = f"{hit}; {after.brief()}"
        assert not after.half_shown(undisturbed)
        line.after_rerun = check_again(lake, undisturbed)


def mount(*arguments: object) -> None:
    """Mount, or skip where that is not allowed."""
    command = ["mount", *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no `mount` on this machine")
    if done.returncode:
        pytest.skip(f"this machine lets nobody mount here: {done.stderr.strip()}")


@contextmanager
def mounted(place: Path, *arguments: object) -> Iterator[None]:
    mount(*arguments, place)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("spare_kib", [64, 400])
def test_a_full_disk(
    spare_kib: int,
    spark: SparkSession,
    template: Template,
    undisturbed: Picture,
    tmp_path: Path,
    outcome: Callable[[str], Any],
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, "-t", "tmpfs", "-o", "size=1g", "tmpfs"):
        lake = open_at(spark, template.copy("ingest", disk / "lake"))
        with outcome(f"disk full after {spare_kib} KiB") as line:
            line.before = picture(lake).brief()
            room = os.statvfs(disk)
            used = (room.f_blocks - room.f_bfree) * room.f_frsize
            mount("-o", f"remount,size={used + spare_kib * 1024}", disk)
            meeting = tmp_path / "meeting"
            meeting.mkdir()
            hit = run(Path(lake.uri), "nightly", "--date", LAST, meeting=meeting)
            check_words(hit)
            mount("-o", "remount,size=1g", disk)
            after = picture(lake)
            line.after_fault = f"{hit}; {after.brief()}"
            assert not after.half_shown(undisturbed)
            line.after_rerun = check_again(lake, undisturbed)


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """Nothing below can be written: by a mount, or by rights that root would not heed."""
    if os.getuid() == 0:
        with mounted(place, "--bind", place):
            mount("-o", "remount,ro,bind", place)
            yield
        return
    folders = [place, *(path for path in place.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        yield
    finally:
        for folder in folders:
            folder.chmod(0o755)


@pytest.mark.parametrize("stage", ["ingest", "score"])
def test_a_read_only_lake(
    stage: str,
    lake_at: Callable[[str], Lake],
    undisturbed: Picture,
    outcome: Callable[[str], Any],
) -> None:
    lake = lake_at(stage)
    place = Path(lake.uri)
    with outcome(f"{stage}: lake read-only") as line:
        before = picture(lake)
        line.before = before.brief()
        with read_only(place):
            hit = run(place, "nightly", "--date", LAST)
        check_words(hit)
        after = picture(lake)
        line.after_fault = f"{hit}; {after.brief()}"
        assert after.versions == before.versions
        line.after_rerun = check_again(lake, undisturbed)
