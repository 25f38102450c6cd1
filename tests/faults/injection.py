"""Inject one fault into a lake: report it, run the night again, compare with the reference lake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import run
from lake_snapshot import LakeSnapshot, take_snapshot
from lakes import LAST_NIGHT, rerun_night

if TYPE_CHECKING:
    from target_process import FaultPoint

    from jobs.lake.delta_io import Lake
    from tests.processes import CommandResult


@dataclass
class FaultReport:
    """One line of the printed table: the night before and after a fault, and after the rerun."""

    fault: str
    before: str = ""
    after_fault: str = ""
    after_rerun: str = ""
    verdict: str = "FAILED"


@dataclass
class FaultyLake:
    """A lake that a fault is injected into, and what it must be like in the end."""

    lake: Lake
    report: FaultReport
    reference: LakeSnapshot
    rerun_nights: list[date] = field(default_factory=lambda: [LAST_NIGHT])
    """Nights that are run again before the comparison."""

    @property
    def folder(self) -> Path:
        """Return the folder of the lake."""
        return Path(self.lake.uri)

    def run_nightly(self, fault: FaultPoint | None = None, **more: Any) -> CommandResult:
        """Run `nightly` of the last night as a command; options as those of `commands.start`."""
        return run(self.folder, "nightly", "--date", LAST_NIGHT, fault=fault, **more)

    def report_fault(self, result: object = None) -> LakeSnapshot:
        """Report and return the lake after the fault; no table may show a part of a night."""
        after = take_snapshot(self.lake, self.reference.day)
        self.report.after_fault = "; ".join(filter(None, (str(result or ""), after.summary())))
        assert not after.partial_nights(self.reference)
        return after

    def changed_tables(self, since: LakeSnapshot) -> set[str]:
        """Return the tables with a newer version than in a snapshot."""
        versions = self.lake.versions(_tables())
        return {name for name, version in versions.items() if version != since.versions[name]}

    def check_rerun(self) -> None:
        """Run the nights again; the lake must then equal the reference lake."""
        for day in self.rerun_nights:
            rerun_night(self.lake, day)
        final = take_snapshot(self.lake, self.reference.day)
        self.report.after_rerun = final.summary()
        assert not final.differences(self.reference)


def _tables() -> Any:
    from jobs.lake.tables import TABLES

    return TABLES.values()


OpenReport = Callable[[str], AbstractContextManager[FaultReport]]


@contextmanager
def faulty_lake(
    report: AbstractContextManager[FaultReport],
    lake: Lake,
    reference: LakeSnapshot,
    before: str = "",
) -> Iterator[FaultyLake]:
    """Open a line of the report; when the block ends, check what a rerun makes of the lake.

    `before` is the night in one line, where that is known already.
    """
    with report as line:
        line.before = before or take_snapshot(lake, reference.day).summary()
        faulty = FaultyLake(lake, line, reference)
        yield faulty
        faulty.check_rerun()
