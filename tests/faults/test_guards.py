"""Mutation tests: each safeguard is removed from a copy of the packages; a named test must fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from injection import OpenReport

pytestmark = [pytest.mark.faults, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
COPIED = ("feature_defs", "fraud_models", "jobs", "tests", "setup.cfg", "pyproject.toml")


@dataclass(frozen=True)
class Guard:
    """A safeguard, the source text that is replaced, and the test that must fail without it."""

    name: str
    file: str
    text: str
    replacement: str
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
        "frame.where(commit.fence)\n",
        "frame\n",
        f"{NIGHTS}::test_run_that_lost_its_lease_publishes_nothing",
    ),
    Guard(
        "the epoch of a commit",
        "jobs/lake/delta_io.py",
        EPOCH,
        "",
        f"{NIGHTS}::test_run_that_lost_its_lease_publishes_nothing",
    ),
    Guard(
        "the condition of the claim",
        "jobs/lake/leases.py",
        'free = "t.holder IS NULL OR t.lease_until < s.now OR array_contains(s.dead, t.holder)"',
        'free = "true"',
        f"{NIGHTS}::test_concurrent_acquire_gives_the_night_to_one_owner",
    ),
    Guard(
        "the check of the lease",
        "jobs/lake/leases.py",
        "if num_leased == self.dates.num_nights:",
        "if True:",
        f"{NIGHTS}::test_resuming_run_copies_the_records_of_a_killed_run",
    ),
    Guard(
        "the conservation gate",
        "jobs/quality/suites/transactions.py",
        '            "rows_lost",\n',
        '            "labels_lost",\n',
        "tests/jobs/test_ingest.py::test_lost_row_fails_gate_1",
    ),
    Guard(
        "the manifest check of rows read",
        "fraud_models/training/passes.py",
        "        check_num_rows(self.shard, int(num_rows))\n",
        "        assert check_num_rows\n",
        "tests/fraud_models/training/test_loop.py::test_lost_rows_fail_the_training",
    ),
    Guard(
        "the manifest check of files",
        "fraud_models/training/loop.py",
        "        verify_manifest(run.snapshot_uri, self.manifest, ranks.world_size)\n",
        "        assert verify_manifest\n",
        "tests/fraud_models/training/test_loop.py::test_damaged_snapshot_is_rejected",
    ),
    Guard(
        "the HTML escape",
        "jobs/report_pages/page.py",
        "autoescape=True",
        "autoescape=False",
        "tests/jobs/test_report.py::test_page_with_hostile_text_escapes_it",
    ),
    Guard(
        "the closed end of a window",
        "feature_defs/point_in_time/window_values.py",
        'np.searchsorted(self.moment, moments, side="right")',
        'np.searchsorted(self.moment, moments, side="left")',
        f"{POINT_IN_TIME}::test_events_before_at_and_after_a_window_end_are_counted_exactly",
    ),
    Guard(
        "the order of events of one instant",
        "feature_defs/point_in_time/entity_stream.py",
        'TIME, PHASE, "transaction_id"\n',
        'TIME, PHASE, F.desc("transaction_id")\n',
        f"{POINT_IN_TIME}::test_events_at_one_instant_are_ordered_by_transaction_id",
    ),
    Guard(
        "the moment from which a label counts",
        "feature_defs/point_in_time/labels_as_of.py",
        'F.unix_micros("label_time") * 2',
        '(F.unix_micros("label_time") - 1_000_000) * 2',
        f"{POINT_IN_TIME}::test_label_counts_from_its_label_time_on",
    ),
    Guard(
        "the moment up to which a training knows labels",
        "jobs/models/training_snapshot.py",
        "labels_as_of(label_inputs, moment)",
        "labels_as_of(label_inputs, moment.replace(second=1))",
        "tests/jobs/models/test_training_snapshot.py"
        "::test_semi_supervised_role_uses_mature_labels_only",
    ),
    Guard(
        "the mask over what comes later",
        "fraud_models/networks/transformer_autoencoder.py",
        "(distance < 0)",
        "(distance < -1)",
        "tests/fraud_models/networks/test_architectures.py::test_later_events_do_not_change_earlier_outputs",
    ),
    Guard(
        "the start of a window of minutes",
        "feature_defs/point_in_time/window_values.py",
        'np.searchsorted(self.moment, moments, side="right")',
        'np.searchsorted(self.moment, moments, side="left")',
        "tests/feature_defs/test_earlier_events.py"
        "::test_short_window_is_open_at_its_start_and_closed_at_its_end",
    ),
    Guard(
        "the end of a comparison before the event itself",
        "feature_defs/point_in_time/window_values.py",
        "end = self.at if window.delay_s == 0",
        "end = self.at + 1 if window.delay_s == 0",
        "tests/feature_defs/test_earlier_events.py::test_same_share_never_sees_the_event_itself",
    ),
    Guard(
        "the days that a vocabulary is taken from",
        "jobs/models/training_snapshot.py",
        "bitwiseAND(PURPOSE_MASK) == TARGET)",
        "bitwiseAND(PURPOSE_MASK) > 0)",
        "tests/jobs/models/test_training_snapshot.py"
        "::test_vocabulary_is_taken_from_the_training_days_only",
    ),
    Guard(
        "the event's own category, which its expectation must not read",
        "fraud_models/networks/autoencoder.py",
        "functional.pad(vectors, (0, 0, 1, 0))[:, :-1]",
        "vectors",
        "tests/fraud_models/scoring/test_categories.py"
        "::test_expectations_read_earlier_categories_and_not_the_event_own",
    ),
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the packages and tests; all named tests pass in the copy."""
    folder = tmp_path_factory.mktemp("guards") / "pristine"
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    tests = list(dict.fromkeys(guard.test for guard in GUARDS))
    code, output = run_tests(folder, *tests)
    assert code == 0, output
    return folder


def run_tests(folder: Path, *tests: str) -> tuple[int, str]:
    """Run tests against the packages of a copy; check that the copy is what they import."""
    env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    found = subprocess.run(
        [sys.executable, "-c", "import jobs, fraud_models; print(jobs.__file__)"],
        cwd=folder.parent,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert found == str(folder / "jobs" / "__init__.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *tests],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout[-5000:] + done.stderr[-1000:]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_removing_a_safeguard_fails_its_test(
    guard: Guard, pristine: Path, tmp_path: Path, fault_report: OpenReport
) -> None:
    with fault_report(f"{guard.name} is removed") as line:
        folder = tmp_path / "mutated"
        shutil.copytree(pristine, folder)
        file = folder / guard.file
        text = file.read_text()
        assert text.count(guard.text) == 1, f"{guard.file} must contain once: {guard.text}"
        file.write_text(text.replace(guard.text, guard.replacement))
        code, output = run_tests(folder, guard.test)
        line.before = "passes"
        line.after_fault = "fails" if code == 1 else f"pytest exited with {code}"
        # Code 1: tests ran and failed. Any other code means that they could not be run.
        assert code == 1, output
        assert "1 failed" in output, output
        line.after_rerun = guard.test
        line.verdict = "detected"
