"""The command line: fast help, complete examples, exact exit codes and readable errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.command_line import run_command

SUB_COMMANDS = {
    "backfill",
    "backtest",
    "demo",
    "simulate",
    "mapping",
    "ingest",
    "features",
    "train",
    "evaluate",
    "export",
    "promote",
    "score",
    "publish",
    "alerts",
    "monitor",
    "report",
    "nightly",
    "explain",
    "maintain",
    "doctor",
}

# A command line that `ingest` refuses for its last option only.
INGEST = ("ingest", "--lake", "x", "--source", "y", "--date", "2018-02-01")


def run_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "jobs", *arguments], capture_output=True, text=True, check=False
    )


def test_help_imports_no_heavy_package() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['fraud-scoring', '--help']\n"
        "from jobs.cli.main import app\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "heavy = {'pyspark', 'torch', 'mlflow', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_sub_command_has_a_module_and_an_example() -> None:
    from jobs.cli.main import app

    names = {command.callback.__name__ for command in app.registered_commands if command.callback}
    assert names == SUB_COMMANDS
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.callback.__name__
        assert (Path("jobs") / f"{name}.py").exists()
        assert f"Example: fraud-scoring {name}" in (command.callback.__doc__ or "")


@pytest.mark.parametrize("name", sorted(SUB_COMMANDS))
def test_every_sub_command_prints_its_help(name: str) -> None:
    ended = run_command(name, "--help")
    assert ended.returncode == 0, ended.stderr
    assert "Example: fraud-scoring" in ended.stdout
    assert "--settings" not in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "expected_text"),
    [
        (("features", "--lake", "x", "--date", "2018-02-31"), "is not a valid date"),
        (("features", "--lake", "x", "--date", "0001-01-01"), "from 1950 to 2999"),
        (("features", "--lake", "x"), "one night or one range of nights"),
        (INGEST, "--source, --format and --mapping must be given together"),
        (("features", "--lake", "x", "--from", "2018-02-01"), "one night or one range of nights"),
        (
            ("features", "--lake", "x", "--from", "2018-02-02", "--to", "2018-02-01"),
            "is after the last",
        ),
        (("features", "--lake", "x", "--date", "2018-02-01", "--log-format", "xml"), "log_format"),
        (("nightly", "--date", "2018-02-01"), "The path of the lake is missing"),
        (("nightly", "--lake", "nowhere://x", "--date", "2018-02-01"), "cannot be reached"),
        (("nightly", "--lake", "lake[1]", "--date", "2018-02-01"), "contains [ ]"),
        (("explain", "--lake", "x", "\udcff"), "not valid UTF-8: '\\udcff'"),
        (
            ("features", "--lake", "x", "--date", "2018-02-01", "--accept", "2"),
            "--accept and --reason",
        ),
        (
            ("publish", "--lake=x", "--date=2018-02-01", "--accept=delivery", "--reason=why"),
            "the gate of `ingest`",
        ),
        (("promote", "--lake", "x", "--accept", "gate 7", "--reason", "why"), "no gate 'gate 7'"),
        (("train", "--as-of", "2018-02-01", "--recipe", "none", "--num-workers", "1"), "lstm"),
        ((*INGEST, "--format", "parquet", "--mapping", "none"), "handbook"),
        ((*INGEST, "--format", "xml", "--mapping", "handbook"), "format"),
    ],
)
def test_bad_usage_prints_one_paragraph_and_exits_with_2(
    arguments: Sequence[str], expected_text: str
) -> None:
    ended = run_command(*arguments)
    assert ended.returncode == 2, ended.stderr
    assert expected_text in ended.stderr
    assert "What to do:" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_process_with_invalid_argument_bytes_exits_with_2() -> None:
    # A process of its own, because the operating system passes the byte 0xff to it.
    ended = run_process("explain", "--lake", "x", "\udcff")
    assert ended.returncode == 2
    assert "not valid UTF-8: '\\udcff'" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.spark
def test_folder_with_other_files_is_refused_as_lake(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("not a table")
    # A process of its own, because the command stops its Spark session at the end.
    ended = run_process("features", "--lake", str(tmp_path), "--date", "2018-02-01")
    assert ended.returncode == 2
    assert "is not a lake" in ended.stderr
