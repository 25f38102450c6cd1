"""The role of each event in a training follows from its time and from its mature labels."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest

from feature_defs.errors import InputMissing
from fraud_models.config import ModelConfig
from fraud_models.recipes import recipe
from fraud_models.sequences.event_batch import EventBatch
from fraud_models.training.snapshot import read_manifest
from tests.fraud_models.category_model import CATEGORY_FEATURES, PLACE, features_in_the_catalogue

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

pytestmark = pytest.mark.spark

AS_OF = date(2018, 7, 11)
# Per event: its time, and its labels as (time of the label, whether a fraud).
EVENTS: dict[str, tuple[str, list[tuple[str, bool]]]] = {
    "before training": ("2018-06-26T23:59:59", [("2018-07-03", False)]),
    "first instant": ("2018-06-27", [("2018-07-04", False)]),
    "fraud": ("2018-06-28", [("2018-07-05", True)]),
    "known just in time": ("2018-07-01", [("2018-07-11", True)]),
    "known a second late": ("2018-07-01", [("2018-07-11T00:00:01", True)]),
    "fraud, then cleared": ("2018-06-29", [("2018-07-06", True), ("2018-07-09", False)]),
    "cleared too late": ("2018-06-29", [("2018-07-06", True), ("2018-07-12", False)]),
    "never labelled": ("2018-07-03T23:59:59", []),
    "validation": ("2018-07-04", []),
    "fraud in validation": ("2018-07-05", [("2018-07-08", True)]),
    "too late for all": ("2018-07-11", []),
}
CONTEXT, TARGET, VALIDATION, GENUINE, FRAUD = 0, 1, 2, 4, 8
BY_TIME = {
    "before training": CONTEXT,
    "first instant": TARGET,
    "fraud": TARGET,
    "known just in time": TARGET,
    "known a second late": TARGET,
    "fraud, then cleared": TARGET,
    "cleared too late": TARGET,
    "never labelled": TARGET,
    "validation": VALIDATION,
    "fraud in validation": VALIDATION,
}
KNOWN_FRAUDS = ("fraud", "known just in time", "cleared too late", "fraud in validation")
KNOWN_GENUINE = ("before training", "first instant", "fraud, then cleared")


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def lake(empty_lake: Path, tmp_path: Path, spark: SparkSession) -> Lake:
    """Return a lake with the events and labels of one card."""
    from jobs.lake.delta_io import Lake
    from jobs.lake.tables import FEATURES_TABLE, LABELS
    from jobs.runtime.settings import load_settings

    folder = tmp_path / "lake"
    shutil.copytree(empty_lake, folder)
    lake = Lake(spark, load_settings(None, {"lake": str(folder)}))
    features, labels = [], []
    for name, (happened, known) in EVENTS.items():
        row = dict.fromkeys(FEATURES_TABLE.column_names)
        row |= {
            "transaction_id": name,
            "event_time": moment(happened),
            "business_date": moment(happened).date(),
            "card_id": "card",
            "merchant_id": "merchant",
            "amount": Decimal(1),
        }
        features.append(tuple(row.values()))
        for label_time, is_fraud in known:
            label = dict.fromkeys(LABELS.column_names)
            label |= {
                "transaction_id": name,
                "is_fraud": is_fraud,
                "label_time": moment(label_time),
                "source": "chargeback",
                "ingest_time": moment(label_time),
                "business_date": moment(label_time).date(),
            }
            labels.append(tuple(label.values()))
    for table, rows in ((FEATURES_TABLE, features), (LABELS, labels)):
        frame = spark.createDataFrame(rows, table.ddl)
        lake.append(table, frame.coalesce(1), "filled")
    return lake


def config_of(name: str) -> ModelConfig:
    return replace(recipe(name), train_days=14, validation_days=7)


def roles(lake: Lake, config: ModelConfig) -> dict[str, int]:
    from jobs.lake.tables import FEATURES_TABLE, LABELS
    from jobs.models.training_plan import TrainingInputs, TrainingPlan
    from jobs.models.training_snapshot import events_with_role, read_training_tables

    plan = TrainingPlan(AS_OF, config.recipe, config, num_workers=1)
    inputs = TrainingInputs(plan, lake.versions((FEATURES_TABLE, LABELS)), {})
    rows = (
        events_with_role(read_training_tables(lake, inputs.versions), inputs)
        .select("transaction_id", "role_of_event")
        .collect()
    )
    return {row["transaction_id"]: row["role_of_event"] for row in rows}


def test_unsupervised_role_depends_on_time_only(lake: Lake) -> None:
    assert roles(lake, config_of("unsupervised_autoencoder")) == BY_TIME


def test_one_class_known_fraud_is_not_a_target(lake: Lake) -> None:
    expected = BY_TIME | dict.fromkeys(KNOWN_FRAUDS, CONTEXT)
    assert roles(lake, config_of("lstm_autoencoder")) == expected


def test_semi_supervised_role_uses_mature_labels_only(lake: Lake) -> None:
    expected = (
        BY_TIME
        | dict.fromkeys(KNOWN_FRAUDS, FRAUD)
        | {name: BY_TIME[name] + GENUINE for name in KNOWN_GENUINE}
    )
    assert roles(lake, config_of("semi_supervised_autoencoder")) == expected


def test_semi_supervised_training_with_one_class_is_refused(lake: Lake, tmp_path: Path) -> None:
    from jobs.lake.tables import FEATURES_TABLE, LABELS
    from jobs.models.training_plan import TrainingInputs, TrainingPlan
    from jobs.models.training_snapshot import read_training_tables, write_snapshot

    as_of = date(2018, 7, 4)
    config = replace(config_of("semi_supervised_autoencoder"), train_days=8, validation_days=1)
    plan = TrainingPlan(as_of, config.recipe, config, num_workers=1)
    inputs = TrainingInputs(plan, lake.versions((FEATURES_TABLE, LABELS)), {})
    with pytest.raises(InputMissing, match="0 are labelled fraud and 2 genuine"):
        write_snapshot(
            read_training_tables(lake, inputs.versions), inputs, str(tmp_path / "snapshot")
        )


# Per event with a place: the places of training targets, and of no one else, have a code.
PLACES = {
    "before training": "early",
    "first instant": "town",
    "known a second late": "home",
    "fraud, then cleared": "home",
    "fraud": "a fraud's",
    "validation": "resort",
    "fraud in validation": "resort",
}


def snapshot_with_places(lake: Lake, uri: str, max_categories: int) -> None:
    """Write a snapshot whose events have a place; targets without one have a missing value."""
    from pyspark.sql import functions as F

    from jobs.lake.tables import FEATURES_TABLE, LABELS
    from jobs.models.training_plan import TrainingInputs, TrainingPlan
    from jobs.models.training_snapshot import read_training_tables, write_snapshot

    base = config_of("lstm_autoencoder")
    config = replace(base, columns=(PLACE, *base.columns), max_categories=max_categories)
    plan = TrainingPlan(AS_OF, config.recipe, config, num_workers=1)
    marks = {name: f"mark-{name}" for name in config.columns}
    inputs = TrainingInputs(plan, lake.versions((FEATURES_TABLE, LABELS)), marks)
    tables = read_training_tables(lake, inputs.versions)
    pairs = [F.lit(text) for item in PLACES.items() for text in item]
    places = F.create_map(*pairs)[F.col("transaction_id")]
    with features_in_the_catalogue(CATEGORY_FEATURES):
        write_snapshot(
            replace(tables, features=tables.features.withColumn(PLACE, places)), inputs, uri
        )


def test_vocabulary_is_taken_from_the_training_days_only(lake: Lake, tmp_path: Path) -> None:
    uri = str(tmp_path / "snapshot")
    snapshot_with_places(lake, uri, max_categories=200)
    manifest = read_manifest(uri)
    vocabulary = manifest.encoding.vocabularies[PLACE]
    assert (vocabulary.values, vocabulary.other_share) == (("home", "town"), 0.0)
    codes = Counter[tuple[int, float]]()
    for file in manifest.summary.files:
        table = pq.read_table(Path(uri, "data", file.name))
        for batch in table.to_batches():
            events = EventBatch.from_arrow(batch, len(manifest.columns))
            place = np.nan_to_num(events.values[events.mask][:, 0], nan=-1.0)
            codes.update(zip(events.roles[events.mask].tolist(), place.tolist(), strict=True))
    # The place of the validation day is `other`, and so are all places seen outside training.
    assert codes[VALIDATION, 2.0] == 1
    assert (codes[TARGET, 0.0], codes[TARGET, 1.0], codes[TARGET, -1.0]) == (2, 1, 1)
    assert {code for role, code in codes if role == CONTEXT} <= {2.0, -1.0}


def test_vocabulary_has_at_most_the_configured_number_of_values(lake: Lake, tmp_path: Path) -> None:
    uri = str(tmp_path / "snapshot")
    snapshot_with_places(lake, uri, max_categories=1)
    vocabulary = read_manifest(uri).encoding.vocabularies[PLACE]
    assert vocabulary.values == ("home",)
    assert vocabulary.other_share == pytest.approx(1 / 3)
