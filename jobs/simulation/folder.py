"""The output folder of a simulation: its ownership and its completion markers.

simulation.json                             the plan; written first, it marks the folder as ours
transactions/business_date=2024-01-01/      deliveries
labels/business_date=2024-01-02/
truth/                                      frauds with their cause
_complete/2024-01-01                        marker of a complete delivery, written last
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
    """The output folder of one simulation plan."""

    plan: SimulationPlan

    @cached_property
    def files(self) -> fsspec.AbstractFileSystem:
        """Return the file system of the folder."""
        return file_system(self.plan.out)[0]

    @cached_property
    def uri(self) -> str:
        """Return the folder without a trailing slash; a local folder as an absolute path."""
        return uri_of(self.plan.out)

    @cached_property
    def _path(self) -> str:
        return file_system(self.plan.out)[1].rstrip("/")

    def claim(self) -> None:
        """Write the plan to the folder and remove all markers, before any row is written.

        Raises:
            UsageError: the folder contains other files, or another simulated bank.
        """
        description = self._description()
        if self.files.exists(self._path):
            self._require_ours(description)
        # Markers are removed first, so that no delivery looks complete while rows are replaced.
        if self.files.exists(f"{self._path}/{MARKERS}"):
            self.files.rm(f"{self._path}/{MARKERS}", recursive=True)
        self.files.makedirs(self._path, exist_ok=True)
        text = json.dumps(description, indent=2) + "\n"
        self.files.pipe_file(f"{self._path}/{PLAN_FILE}", text.encode())

    def _description(self) -> dict[str, object]:
        """Return the content of `simulation.json`; plans of one bank differ only in `num_days`."""
        bank = {**asdict(self.plan), "first_day": str(self.plan.first_day)}
        del bank["out"]
        return {"made_by": MADE_BY, **bank}

    def _require_ours(self, description: dict[str, object]) -> None:
        if self.files.isdir(self._path) and not self.files.ls(self._path, detail=False):
            return
        existing = self._existing_description()
        if existing.get("made_by") != MADE_BY:
            raise UsageError(
                f"{self.plan.out} exists and was not made by simulate.",
                expected="a folder that is new, empty, or was made by simulate.",
                remedy="set another --out, or remove the folder.",
            )
        others = [
            f"{name} {existing.get(name)}, not {value}"
            for name, value in description.items()
            if name != "num_days" and existing.get(name) != value
        ]
        if others:
            raise UsageError(
                f"{self.plan.out} contains another bank: {'; '.join(others)}.",
                expected="a new folder, or the same bank with another number of days.",
                remedy="set another --out, or remove the folder.",
            )

    def _existing_description(self) -> dict[str, object]:
        """Return the content of an existing `simulation.json`; empty if it cannot be read."""
        try:
            description = json.loads(self.files.cat_file(f"{self._path}/{PLAN_FILE}"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        return description if isinstance(description, dict) else {}

    def mark_complete(self) -> None:
        """Write the marker of every delivery."""
        self.files.makedirs(f"{self._path}/{MARKERS}", exist_ok=True)
        for day in self.plan.days:
            self.files.pipe_file(f"{self._path}/{MARKERS}/{day}", b"complete\n")
