"""Snapshots: every row is read once per epoch over all shards, and damage is detected."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_defs.errors import InputMissing
from fraud_models.training.petastorm_reader import RowCount, Shard, check_num_rows, read_batches
from fraud_models.training.snapshot import (
    find_corruption,
    read_manifest,
    summarise,
    verify_manifest,
    write_manifest,
)
from tests.fraud_models.conftest import small_config

WriteSnapshot = Callable[[list[int], int], str]
LENGTHS = [5, 9, 14, 30, 8, 21, 6, 17, 12, 40, 11, 7]


def sequences(shard: Shard, epoch: int, counted: RowCount) -> list[bytes]:
    optimisation = replace(small_config().optimisation, batch_size=4)
    return [
        batch.values[b, :n].tobytes() + batch.roles[b, :n].tobytes()
        for batch in read_batches(shard, optimisation, epoch, counted)
        for b, n in enumerate(batch.lengths)
    ]


def written(uri: str) -> Counter[bytes]:
    return Counter(
        row["values"] + row["roles"]
        for file in Path(uri, "data").iterdir()
        for row in pq.read_table(file).to_pylist()
    )


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_row_is_read_once_per_epoch(write_snapshot: WriteSnapshot, world_size: int) -> None:
    uri = write_snapshot(LENGTHS, 5)
    manifest = read_manifest(uri)
    for epoch in (1, 2):
        counted = RowCount()
        shards = [Shard(uri, manifest, rank, world_size) for rank in range(world_size)]
        read = [row for shard in shards for row in sequences(shard, epoch, counted)]
        assert Counter(read) == written(uri)
        check_num_rows(shards[0], counted.num_rows)


def test_order_depends_on_seed_and_epoch(write_snapshot: WriteSnapshot) -> None:
    uri = write_snapshot(LENGTHS, 5)
    shard = Shard(uri, read_manifest(uri), 0, 1)
    first, again, later = (sequences(shard, epoch, RowCount()) for epoch in (1, 1, 2))
    assert first == again
    assert first != later


def test_check_num_rows_reports_lost_rows(write_snapshot: WriteSnapshot) -> None:
    uri = write_snapshot(LENGTHS, 5)
    manifest = read_manifest(uri)
    shard = Shard(uri, manifest, 0, 1)
    with pytest.raises(InputMissing, match="2 are missing"):
        check_num_rows(shard, manifest.summary.num_rows - 2)


def test_manifest_round_trips_and_verifies(write_snapshot: WriteSnapshot) -> None:
    uri = write_snapshot(LENGTHS, 3)
    manifest = read_manifest(uri)
    assert summarise(uri) == manifest.summary
    write_manifest(uri, manifest)
    assert read_manifest(uri) == manifest
    verify_manifest(uri, manifest, num_ranks=3)
    with pytest.raises(InputMissing, match="3 files for 4 ranks"):
        verify_manifest(uri, manifest, num_ranks=4)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format_version": 2}'])
def test_invalid_manifest_is_rejected(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputMissing, match="is not a valid manifest"):
        read_manifest(str(tmp_path))


def test_missing_manifest_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match=r"no file .*manifest\.json"):
        read_manifest(str(tmp_path))


def test_file_with_several_row_groups_is_rejected(write_snapshot: WriteSnapshot) -> None:
    uri = write_snapshot(LENGTHS, 2)
    part = Path(uri, "data", "part-00000.parquet")
    pq.write_table(pq.read_table(part), part, row_group_size=2)
    with pytest.raises(InputMissing, match="row groups"):
        summarise(uri)


def test_files_without_rows_are_ignored(write_snapshot: WriteSnapshot) -> None:
    uri = write_snapshot(LENGTHS, 2)
    expected = summarise(uri)
    part = pq.read_table(Path(uri, "data", "part-00000.parquet"))
    pq.write_table(part.slice(0, 0), Path(uri, "data", "part-99999.parquet"))
    assert summarise(uri) == expected


def test_snapshot_without_validation_events_is_rejected(write_snapshot: WriteSnapshot) -> None:
    uri = write_snapshot(LENGTHS, 1)
    part = Path(uri, "data", "part-00000.parquet")
    table = pq.read_table(part)
    zeros = pa.array([0] * table.num_rows, pa.int32())
    index = table.schema.get_field_index("num_validation")
    pq.write_table(table.set_column(index, table.schema.field(index), zeros), part)
    with pytest.raises(InputMissing, match="0 validation events"):
        summarise(uri)


def test_manifest_lists_rows_and_versions(write_snapshot: WriteSnapshot) -> None:
    content = json.loads(Path(write_snapshot(LENGTHS, 2), "manifest.json").read_text())
    assert content["num_rows"] == sum(file["num_rows"] for file in content["files"])
    assert content["data_versions"] == {"features": 4}


def test_changed_byte_and_unreadable_file_are_detected(
    write_snapshot: WriteSnapshot,
) -> None:
    uri = write_snapshot(LENGTHS, 2)
    manifest = read_manifest(uri)
    first, second = manifest.summary.files
    assert find_corruption(uri, first) is None
    content = bytearray(Path(uri, "data", first.name).read_bytes())
    content[len(content) // 4] ^= 1
    Path(uri, "data", first.name).write_bytes(content)
    verify_manifest(uri, manifest, 2)
    assert find_corruption(uri, first) == f"{first.name} has different content"
    Path(uri, "data", second.name).write_bytes(bytes(second.size_bytes))
    with pytest.raises(InputMissing, match=f"{second.name} cannot be read"):
        verify_manifest(uri, manifest, 2)
