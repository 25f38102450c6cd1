"""A night whose scoring waits on executors until a file appears: time to kill one of them.

    FRAUD_MASTER=spark://… python held_nightly.py SIGNALS nightly --lake L --date D

Each task that scores writes `SIGNALS/task-<partition>-<attempt>-<pid>` and waits for `SIGNALS/go`.
The class below travels to executors by value, because it is part of the program that was started;
what it hands on to is the product's own, from the executors' environment.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from jobs.cli.main import main
from jobs.models import contexts
from jobs.models.executor_functions import StoredModel

LONGEST_WAIT_S = 900.0


@dataclass(frozen=True)
class HeldStream:
    """Scores as `ModelStream` does, but not before it is told to."""

    signals: str
    function: Callable[..., Iterator[pa.RecordBatch]]
    model: StoredModel

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Scored rows of one partition."""
        from pyspark import TaskContext

        from jobs.models.executor_functions import ModelStream

        task = TaskContext.get()
        assert task is not None
        name = f"task-{task.partitionId()}-{task.attemptNumber()}-{os.getpid()}"
        Path(self.signals, name).touch()
        deadline = time.monotonic() + LONGEST_WAIT_S
        while not Path(self.signals, "go").exists():
            assert time.monotonic() < deadline, "nobody said go"
            time.sleep(0.1)
        return ModelStream(self.function, self.model)(batches)


if __name__ == "__main__":
    signals = sys.argv.pop(1)
    contexts.ModelStream = partial(HeldStream, signals)  # type: ignore[assignment, misc]
    main.main()
