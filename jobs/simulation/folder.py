"""The folder a bank is written to: whose it is, and which deliveries are complete.

simulation.json                             the plan; written first, and what makes it ours
transactions/business_date=2024-01-01/      deliveries
labels/business_date=2024-01-02/
truth/                                      which transactions are frauds, and why
_complete/2024-01-01                        written last: this delivery is all there
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property

import fsspec

from feature_defs.errors import UsageError
from jobs.runtime.paths import file_system, uri_of
from jobs.simulation.plan import SimulationPlan

PLAN_FILE = "simulation.json"
MARKERS = "_complete"
MADE_BY = "fraud-scoring simulate"


@dataclass(frozen=True)
class Folder:
    """Where one plan's rows go."""

    plan: SimulationPlan

    @cached_property
    def files(self) -> fsspec.AbstractFileSystem:
        """The file system of the folder."""
        return file_system(self.plan.out)[0]

    @cached_property
    def uri(self) -> str:
        """The folder without a slash at its end; a local one as an absolute path."""
        return uri_of(self.plan.out)

    @cached_property
    def _path(self) -> str:
        return file_system(self.plan.out)[1].rstrip("/")

    def claim(self) -> None:
        """Make the folder ours, and incomplete until it has been written again.

        Raises:
            UsageError: it holds something that `simulate` did not make, or another bank.
        """
        description = self._description()
        if self.files.exists(self._path):
            self._require_ours(description)
        # Markers go first: while rows are replaced no delivery may look complete.
        if self.files.exists(f"{self._path}/{MARKERS}"):
            self.files.rm(f"{self._path}/{MARKERS}", recursive=True)
        self.files.makedirs(self._path, exist_ok=True)
        text = json.dumps(description, indent=2) + "\n"
        self.files.pipe_file(f"{self._path}/{PLAN_FILE}", text.encode())

    def _description(self) -> dict[str, object]:
        """What the folder says of its bank; a longer plan of the same bank goes on with it."""
        bank = {**asdict(self.plan), "first_day": str(self.plan.first_day)}
        del bank["out"]
        return {"made_by": MADE_BY, **bank}

    def _require_ours(self, description: dict[str, object]) -> None:
        if self.files.isdir(self._path) and not self.files.ls(self._path, detail=False):
            return
        there = self._described()
        if there.get("made_by") != MADE_BY:
            raise UsageError(
                f"{self.plan.out} is there and was not made by simulate.",
                expected="a folder that is new, empty, or made by simulate earlier.",
                remedy="give another --out, or remove what is there.",
            )
        others = [
            f"{name} {there.get(name)}, not {value}"
            for name, value in description.items()
            if name != "num_days" and there.get(name) != value
        ]
        if others:
            raise UsageError(
                f"{self.plan.out} holds another bank: {'; '.join(others)}.",
                expected="a folder that is new, or one of the same bank; only its days may differ.",
                remedy="give another --out, or remove what is there.",
            )

    def _described(self) -> dict[str, object]:
        """What the folder says; nothing when it says nothing that can be read."""
        try:
            description = json.loads(self.files.cat_file(f"{self._path}/{PLAN_FILE}"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        return description if isinstance(description, dict) else {}

    def mark_complete(self) -> None:
        """Say of every delivery that all of it is there."""
        self.files.makedirs(f"{self._path}/{MARKERS}", exist_ok=True)
        for day in self.plan.days:
            self.files.pipe_file(f"{self._path}/{MARKERS}/{day}", b"complete\n")
