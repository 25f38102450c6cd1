"""Each guard is needed: taken out of a copy of the packages, it is missed by a named test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
COPIED = ("feature_defs", "fraud_models", "jobs", "tests", "setup.cfg", "pyproject.toml")


@dataclass(frozen=True)
class Guard:
    """A guard, the text that is taken out, and the test that must fail without it."""

    name: str
    file: str
    text: str
    without: str
    test: str


NIGHTS = "tests/jobs/lake/test_nights.py"
POINT_IN_TIME = "tests/feature_defs/test_point_in_time.py"
EPOCH = """            .option("txnAppId", f"publish/{table.name}/{dates.slug}")
            .option("txnVersion", commit.epoch)
"""
GUARDS = (
    Guard(
        "the fence inside the write",
        "jobs/lake/delta_io.py",
        "frame.where(commit.allowed)\n",
        "frame\n",
        f"{NIGHTS}::test_a_holder_that_was_overtaken_publishes_nothing",
    ),
    Guard(
        "the epoch of a commit",
        "jobs/lake/delta_io.py",
        EPOCH,
        "",
        f"{NIGHTS}::test_a_holder_that_was_overtaken_publishes_nothing",
    ),
    Guard(
        "the condition of the claim",
        "jobs/lake/leases.py",
        'free = "t.holder IS NULL OR t.lease_until < s.now OR array_contains(s.dead, t.holder)"',
        'free = "true"',
        f"{NIGHTS}::test_of_two_that_ask_at_once_one_gets_the_night",
    ),
    Guard(
        "the check of the lease",
        "jobs/lake/leases.py",
        "if num_held == self.dates.num_nights:",
        "if True:",
        f"{NIGHTS}::test_the_records_of_a_killed_run_are_copied_by_the_next",
    ),
    Guard(
        "the conservation gate",
        "jobs/quality/suites/transactions.py",
        '            "rows_lost",\n',
        '            "labels_lost",\n',
        "tests/jobs/test_ingest.py::test_a_lost_row_fails_the_gate",
    ),
    Guard(
        "the manifest check of rows read",
        "fraud_models/training/passes.py",
        "        check_num_rows(self.shard, int(num_rows))\n",
        "        assert check_num_rows\n",
        "tests/fraud_models/training/test_loop.py::test_rows_that_a_reader_loses_stop_the_training",
    ),
    Guard(
        "the manifest check of files",
        "fraud_models/training/loop.py",
        "        verify(run.snapshot_uri, self.manifest, ranks.world_size)\n",
        "        assert verify\n",
        "tests/fraud_models/training/test_loop.py::test_a_damaged_snapshot_is_refused",
    ),
    Guard(
        "the HTML escape",
        "jobs/report_pages/page.py",
        "autoescape=True",
        "autoescape=False",
        "tests/jobs/test_report.py::test_hostile_text_stays_text",
    ),
    Guard(
        "the closed end of a window",
        "feature_defs/point_in_time/window_values.py",
        'np.searchsorted(self.moment, moments, side="right")',
        'np.searchsorted(self.moment, moments, side="left")',
        f"{POINT_IN_TIME}::test_an_event_before_at_and_after_each_end_of_each_window",
    ),
    Guard(
        "the order of events of one instant",
        "feature_defs/point_in_time/entity_stream.py",
        'TIME, PHASE, "transaction_id"\n',
        'TIME, PHASE, F.desc("transaction_id")\n',
        f"{POINT_IN_TIME}::test_ties_at_one_instant_are_ordered_by_id",
    ),
    Guard(
        "the moment from which a label counts",
        "feature_defs/point_in_time/labels_as_of.py",
        'F.unix_micros("label_time") * 2',
        '(F.unix_micros("label_time") - 1_000_000) * 2',
        f"{POINT_IN_TIME}::test_a_label_counts_from_its_own_moment_on",
    ),
    Guard(
        "the moment up to which a training knows labels",
        "jobs/models/training_snapshot.py",
        "labels_as_of(known, moment)",
        "labels_as_of(known, moment + timedelta(seconds=1))",
        "tests/jobs/models/test_training_snapshot.py"
        "::test_a_head_learns_from_labels_that_were_mature_and_no_others",
    ),
    Guard(
        "the mask over what comes later",
        "fraud_models/networks/transformer_autoencoder.py",
        "(distance < 0)",
        "(distance < -1)",
        "tests/fraud_models/networks/test_architectures.py::test_what_comes_later_changes_nothing",
    ),
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages and tests in which all the named tests pass."""
    place = tmp_path_factory.mktemp("guards") / "pristine"
    place.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, place / name)
    tests = list(dict.fromkeys(guard.test for guard in GUARDS))
    code, output = run_tests(place, *tests)
    assert code == 0, output
    return place


def run_tests(place: Path, *tests: str) -> tuple[int, str]:
    """Run tests against the packages of a copy, and make sure that it is these that they test."""
    env = {**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    found = subprocess.run(
        [sys.executable, "-c", "import jobs, fraud_models; print(jobs.__file__)"],
        cwd=place.parent,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert found == str(place / "jobs" / "__init__.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *tests],
        cwd=place,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout[-5000:] + done.stderr[-1000:]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_without_a_guard_a_test_fails(
    guard: Guard, pristine: Path, tmp_path: Path, outcome: Callable[[str], Any]
) -> None:
    with outcome(f"{guard.name} is taken out") as line:
        place = tmp_path / "mutated"
        shutil.copytree(pristine, place)
        file = place / guard.file
        text = file.read_text()
        assert text.count(guard.text) == 1, f"{guard.file} does not hold this once: {guard.text}"
        file.write_text(text.replace(guard.text, guard.without))
        code, output = run_tests(place, guard.test)
        line.before = "passes"
        line.after_fault = "fails" if code == 1 else f"pytest ended with {code}"
        # 1: tests ran and failed; anything else is a test that could not be run.
        assert code == 1, output
        assert "1 failed" in output, output
        line.after_rerun = guard.test
        line.verdict = "noticed"
