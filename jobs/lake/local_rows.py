"""Make a frame from a few rows on the driver without starting a Python task.

`SparkSession.createDataFrame` of Python tuples makes an RDD: each query that reads it starts a
Python task, and Delta's `MERGE` stores a copy of it first, because the rows might differ from read
to read. From an Arrow table Spark makes a local relation, which avoids both. Leases and run records
are written this way several times per night.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema


def local_rows(spark: SparkSession, rows: Sequence[tuple[Any, ...]], ddl: str) -> DataFrame:
    """Return rows as a frame in one partition; `ddl` names their columns and types.

    Times must have a time zone. The rows must need only a small part of the driver's memory.
    """
    schema = T.StructType.fromDDL(ddl)
    assert isinstance(schema, T.StructType)
    # All columns are nullable here; the table declares which of its columns are not.
    schema = T.StructType([T.StructField(item.name, item.dataType) for item in schema])
    arrow = to_arrow_schema(schema)
    arrays = [
        pa.array([_plain(row[place]) for row in rows], field.type)
        for place, field in enumerate(arrow)
    ]
    return spark.createDataFrame(pa.Table.from_arrays(arrays, schema=arrow), schema).coalesce(1)


def _plain(value: Any) -> Any:
    """Return a map as key-value pairs, as Arrow expects it; other values unchanged."""
    return list(value.items()) if isinstance(value, dict) else value
