"""Input files cannot run code: pickles in Parquet metadata are never loaded."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud_models.training.petastorm_reader import RowCount, Shard, check_num_rows, read_batches
from fraud_models.training.snapshot import read_manifest, summarise, verify_manifest, write_manifest
from tests.fraud_models.conftest import small_config

ROOT = Path(__file__).parents[2]
PACKAGES = ("feature_defs", "fraud_models", "jobs")
UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"}
UNSAFE_CALLS = {
    "eval", "exec", "compile", "torch.load", "np.load", "numpy.load", "pd.read_pickle",
    "pandas.read_pickle", "os.system", "os.popen",
}  # fmt: skip
UNISCHEMA_KEY = b"dataset-toolkit.unischema.v1"


class Evil:
    """Writes a file when it is unpickled; uses only names that Petastorm allows."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.trace)!r}, 'w').close()",)


class EvilType(pa.PyExtensionType):  # type: ignore[misc]
    """A column type whose description in the Parquet footer is a pickle."""

    trace: Path

    def __init__(self) -> None:
        super().__init__(pa.binary())

    def __reduce__(self) -> tuple[Any, ...]:
        return Evil(self.trace).__reduce__()


def _unsafe(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "").split(".")[0]]
        found += [name for name in names if name in UNSAFE_MODULES]
        if isinstance(node, ast.Call) and ast.unparse(node.func) in UNSAFE_CALLS:
            found.append(ast.unparse(node.func))
    return found


def test_no_module_reads_pickles_or_executes_text() -> None:
    files = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    assert len(files) > 80
    assert {str(path): unsafe for path in files if (unsafe := _unsafe(path))} == {}


def test_search_for_unsafe_code_finds_it(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text("import torch\nfrom pickle import loads\nx = torch.load('y')\neval('1')\n")
    assert sorted(_unsafe(file)) == ["eval", "pickle", "torch.load"]


@pytest.fixture
def poisoned(write_snapshot: Callable[[list[int], int], str], tmp_path: Path) -> tuple[str, Path]:
    """Return a snapshot with pickles in each place from which readers are known to unpickle."""
    uri, trace = write_snapshot([5, 9, 14, 30], 2), tmp_path / "executed"
    payload = pickle.dumps(Evil(trace))
    EvilType.trace = trace
    for file in sorted(Path(uri, "data").glob("*.parquet")):
        table = pq.read_table(file)
        evil = pa.ExtensionArray.from_storage(EvilType(), pa.array([b""] * len(table)))
        table = table.append_column("evil", evil)
        table = table.replace_schema_metadata({UNISCHEMA_KEY: payload})
        pq.write_table(table, file)
    schema = table.schema.remove(len(table.schema) - 1)
    for name in ("_common_metadata", "_metadata"):
        pq.write_metadata(schema.with_metadata({UNISCHEMA_KEY: payload}), f"{uri}/data/{name}")
    write_manifest(uri, replace(read_manifest(uri), summary=summarise(uri)))
    trace.unlink(missing_ok=True)
    return uri, trace


def test_pickles_in_a_snapshot_are_not_unpickled(poisoned: tuple[str, Path]) -> None:
    uri, trace = poisoned
    manifest = read_manifest(uri)
    verify_manifest(uri, manifest, 1)
    shard, counted = Shard(uri, manifest, 0, 1), RowCount()
    for _ in read_batches(shard, small_config().optimisation, 1, counted):
        pass
    check_num_rows(shard, counted.num_rows)
    assert counted.num_rows > 0
    assert not trace.exists()


def test_pickles_in_the_fixture_are_executable(poisoned: tuple[str, Path]) -> None:
    from petastorm.etl.dataset_metadata import get_schema_from_dataset_url

    uri, trace = poisoned
    # Given a folder instead of files, Petastorm unpickles `_common_metadata`.
    get_schema_from_dataset_url(f"file://{uri}/data")
    assert trace.exists()
    trace.unlink()
    pa.PyExtensionType.set_auto_load(True)
    try:
        # The unpickled value is not a type, but it was executed.
        with pytest.raises(AttributeError):
            pq.read_schema(next(Path(uri, "data").glob("*.parquet")))
    finally:
        pa.PyExtensionType.set_auto_load(False)
    assert trace.exists()
