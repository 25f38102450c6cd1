"""Write and read a table on a cluster, and print where executors import our packages from.

FRAUD_MASTER=spark://… python round_trip.py TABLE
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator

import pyarrow as pa

from jobs.runtime.settings import load_settings
from jobs.runtime.spark_session import open_session


def with_package_folders(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Add to each row the folders that its executor imported our packages from."""
    from importlib import import_module
    from pathlib import Path

    modules = map(import_module, ("feature_defs", "fraud_models", "jobs"))
    folders = {str(Path(str(module.__file__)).resolve().parent.parent) for module in modules}
    for batch in batches:
        paths = pa.array([", ".join(sorted(folders))] * batch.num_rows, pa.string())
        yield pa.RecordBatch.from_arrays([batch.column(0), paths], names=["id", "folder"])


def main(table: str) -> None:
    """Write the table, read it back, and print ids and folders as one JSON line."""
    spark = open_session(load_settings(None, {}))
    spark.range(100, numPartitions=4).write.format("delta").save(table)
    read = spark.read.format("delta").load(table).repartition(4)
    rows = read.mapInArrow(with_package_folders, "id long, folder string").collect()
    result = {
        "ids": sorted(row["id"] for row in rows),
        "folders": sorted({row["folder"] for row in rows}),
    }
    print(json.dumps(result))
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1])
