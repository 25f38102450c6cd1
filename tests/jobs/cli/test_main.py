"""The command line: quick to answer, complete in its help, exact in its exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SUB_COMMANDS = {
    "backfill",
    "backtest",
    "demo",
    "simulate",
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


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs", *arguments], capture_output=True, text=True, check=False
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['fraud-scoring', '--help']\n"
        "from jobs.cli.main import app\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "heavy = {'pyspark', 'torch', 'mlflow', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_sub_command_has_a_file_of_its_name_and_an_example() -> None:
    from jobs.cli.main import app

    names = {command.callback.__name__ for command in app.registered_commands if command.callback}
    assert names == SUB_COMMANDS
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.callback.__name__
        assert (Path("jobs") / f"{name}.py").exists()
        assert f"Example: fraud-scoring {name}" in (command.callback.__doc__ or "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("features", "--lake", "x", "--date", "2018-02-31"), "is no date"),
        (("features", "--lake", "x", "--date", "0001-01-01"), "of the years 1950 to 2999"),
        (("features", "--lake", "x"), "which nights are meant"),
        (
            ("ingest", "--lake", "x", "--source", "y", "--date", "2024-03-01"),
            "--source, --format and --mapping do not stand together",
        ),
        (("features", "--lake", "x", "--from", "2018-02-01"), "which nights are meant"),
        (
            ("features", "--lake", "x", "--from", "2018-02-02", "--to", "2018-02-01"),
            "lies after the last",
        ),
        (("features", "--lake", "x", "--date", "2018-02-01", "--log-format", "xml"), "log_format"),
        (("nightly", "--date", "2018-02-01"), "No lake is named"),
        (("nightly", "--lake", "nowhere://x", "--date", "2018-02-01"), "cannot be reached"),
        (("nightly", "--lake", "lake[1]", "--date", "2018-02-01"), "has [ ] in it"),
        (("explain", "--lake", "x", "\udcff"), "are no text"),
        (
            ("features", "--lake", "x", "--date", "2018-02-01", "--accept", "2"),
            "do not stand alone",
        ),
        (
            ("publish", "--lake=x", "--date=2018-02-01", "--accept=delivery", "--reason=why"),
            "the gate of `ingest`",
        ),
        (("promote", "--lake", "x", "--accept", "gate 7", "--reason", "why"), "no job has"),
        (("train", "--as-of", "2018-02-01", "--recipe", "none", "--num-workers", "1"), "lstm"),
        (
            [
                "ingest",
                "--lake",
                "x",
                "--source",
                "y",
                "--format",
                "parquet",
                "--mapping",
                "none",
                "--date",
                "2018-02-01",
            ],
            "handbook",
        ),
        (
            [
                "ingest",
                "--lake",
                "x",
                "--source",
                "y",
                "--format",
                "xml",
                "--mapping",
                "handbook",
                "--date",
                "2018-02-01",
            ],
            "format",
        ),
    ],
)
def test_bad_usage_is_one_paragraph_and_exit_code_2(arguments: list[str], words: str) -> None:
    ended = run(*arguments)
    assert ended.returncode == 2, ended.stderr
    assert words in ended.stderr
    assert "What to do:" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.spark
def test_a_lake_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stranger.txt").write_text("not a table")
    ended = run("features", "--lake", str(tmp_path), "--date", "2018-02-01")
    assert ended.returncode == 2
    assert "is not a lake" in ended.stderr
