"""Run a night whose scoring tasks wait for a file, so that an executor can be killed meanwhile.

    FRAUD_MASTER=spark://… python held_nightly.py SIGNALS nightly --lake L --date D

Each task that scores writes `SIGNALS/task-<partition>-<attempt>-<pid>` and waits for `SIGNALS/go`.
The class below is pickled by value, because it belongs to the program that was started; the
function that it calls is the product's, imported from the executors' environment.
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

TIMEOUT_S = 900.0


@dataclass(frozen=True)
class HeldStream:
    """Score as `ModelStream` does, once the file `go` exists."""

    signals: str
    function: Callable[..., Iterator[pa.RecordBatch]]
    model: StoredModel

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Return the scored rows of one partition."""
        from pyspark import TaskContext

        from jobs.models.executor_functions import ModelStream

        task = TaskContext.get()
        assert task is not None
        name = f"task-{task.partitionId()}-{task.attemptNumber()}-{os.getpid()}"
        Path(self.signals, name).touch()
        deadline = time.monotonic() + TIMEOUT_S
        while not Path(self.signals, "go").exists():
            assert time.monotonic() < deadline, "the file `go` was not created"
            time.sleep(0.1)
        return ModelStream(self.function, self.model)(batches)


if __name__ == "__main__":
    signals = sys.argv.pop(1)
    contexts.ModelStream = partial(HeldStream, signals)  # type: ignore[assignment, misc]
    main()
