"""A table written and read on a cluster, and where its executors have our packages from.

FRAUD_MASTER=spark://… python round_trip.py TABLE
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator

import pyarrow as pa

from jobs.runtime.settings import load_settings
from jobs.runtime.spark_session import open_session


def with_homes(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows with the folders that our packages came from where they were read: on executors."""
    from importlib import import_module
    from pathlib import Path

    modules = map(import_module, ("feature_defs", "fraud_models", "jobs"))
    folders = {str(Path(str(module.__file__)).resolve().parent.parent) for module in modules}
    for batch in batches:
        homes = pa.array([", ".join(sorted(folders))] * batch.num_rows, pa.string())
        yield pa.RecordBatch.from_arrays([batch.column(0), homes], names=["id", "home"])


def main(table: str) -> None:
    """Write, read back, and print what was found as one JSON line."""
    spark = open_session(load_settings(None, {}))
    spark.range(100, numPartitions=4).write.format("delta").save(table)
    read = spark.read.format("delta").load(table).repartition(4)
    rows = read.mapInArrow(with_homes, "id long, home string").collect()
    found = {
        "ids": sorted(row["id"] for row in rows),
        "homes": sorted({row["home"] for row in rows}),
    }
    print(json.dumps(found))
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1])
