"""Write deliveries as files in all three formats, with the defects of real systems."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from fuzz_deliveries import COLUMNS, Plan, Row

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def write(plan: Plan, rows: list[Row], folder: Path, spark: SparkSession, seed_value: int) -> None:
    """Write a delivery in its format."""
    folder.mkdir(parents=True)
    if plan.format == "csv":
        _write_csv(rows, folder, random.Random(seed_value))
    elif plan.format == "parquet":
        _write_parquet(plan, rows, folder / "part.parquet")
    else:
        parquet = folder.with_name(f"{folder.name}-parquet")
        parquet.mkdir()
        _write_parquet(plan, rows, parquet / "part.parquet")
        spark.read.parquet(str(parquet)).write.format("delta").save(str(folder))


def _write_parquet(plan: Plan, rows: list[Row], file: Path) -> None:
    arrays = [
        _array([row.values[name].content for row in rows], plan.types.get(name, pa.string()))
        for name in COLUMNS
    ]
    pq.write_table(pa.Table.from_arrays(arrays, list(COLUMNS)), file, row_group_size=1000)


def _array(values: list[Any], type_: Any) -> Any:
    if type_ != pa.string():
        return pa.array(values, type_)
    content = [v.encode() if isinstance(v, str) else v for v in values]
    # A view, because a cast would reject invalid UTF-8.
    return pa.array(content, pa.binary()).view(pa.string())


def _write_csv(rows: list[Row], folder: Path, chance: random.Random) -> None:
    """Write several files: other line ends, a byte order mark, no last line end, no rows."""
    styles: list[Callable[[list[Row]], bytes]] = [
        lambda part: _csv(part, b"\n", chance),
        lambda part: b"\xef\xbb\xbf" + _csv(part, b"\n", chance),
        lambda part: _csv(part, b"\r\n", chance),
        lambda part: _csv(part, b"\n", chance).rstrip(b"\n"),
        lambda part: _csv(part, b"\n", chance),
    ]
    share = -(-len(rows) // 4)
    for number, style in enumerate(styles):
        part = rows[number * share : (number + 1) * share]
        (folder / f"part-{number}.csv").write_bytes(style(part))


def _csv(rows: list[Row], end: bytes, chance: random.Random) -> bytes:
    lines = [",".join(COLUMNS).encode()]
    for row in rows:
        cells = [_cell(row.values[name].content, chance) for name in COLUMNS]
        if row.extra_cells < 0:
            cells = cells[: row.extra_cells]
        lines.append(b",".join(cells + [b"too much"] * row.extra_cells))
    return end.join(lines) + end


def _cell(content: Any, chance: random.Random) -> bytes:
    raw: bytes = b"" if content is None else content if isinstance(content, bytes) else (
        str(content).encode()
    )  # fmt: skip
    must_quote = any(sign in raw for sign in (b",", b"\n", b"\r")) or raw.startswith(b'"')
    if must_quote or (content is not None and chance.random() < 0.3):
        return b'"' + raw.replace(b'"', b'""') + b'"'
    return raw
