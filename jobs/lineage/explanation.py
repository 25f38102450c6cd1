"""Explain a score: the contribution of each feature, recomputed from the recorded versions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from pyspark.sql import Row
from pyspark.sql import functions as F

from feature_defs.errors import InputMissing
from fraud_models.registry.mlflow_registry import ModelVersion
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.tables import FEATURES_TABLE, SCORES, TRANSACTIONS, attribute_names
from jobs.lineage.audit import Recomputed, same_error, same_ranking
from jobs.lineage.provenance import Provenance, lake_as_recorded
from jobs.models.contexts import context_stream, read_contexts
from jobs.models.executor_functions import ExplainStream, FeatureContribution, StoredModel
from jobs.models.model_store import open_registry, read_checkpoint
from jobs.runtime.sql_names import quoted

NUM_RECENT_EVENTS = 10
# One column per field of `FeatureContribution`.
EXPLAINED_FIELDS = (
    "feature string, observed double, expected double, error double, contribution double, "
    "observed_text string, expected_text string"
)


@dataclass(frozen=True)
class Explanation:
    """A published score, the recomputed one, and the contribution of each feature."""

    transaction_id: str
    business_date: date
    event_time: datetime
    card_id: str
    merchant_id: str
    amount: Any
    score: float
    reconstruction_error: float
    ranking_value: float
    recomputed: Recomputed
    model_version: str
    run_id: str
    versions: dict[str, int]
    contributions: tuple[FeatureContribution, ...]
    recent: tuple[Row, ...]

    @property
    def reproduced(self) -> bool:
        """Return whether the recomputed error and ranking value equal the published ones."""
        return same_error(self.reconstruction_error, self.recomputed.error) and same_ranking(
            self.ranking_value, self.recomputed.ranking_value
        )


def explain_score(lake: Lake, scored: Row, runs: Provenance) -> Explanation:
    """Recompute a published score from the versions that its runs recorded, and explain it.

    Raises:
        InputMissing: the model or a recorded version no longer exists.
    """
    model = open_registry(lake).resolve(scored["model_version"])
    versions = runs.versions
    recorded_lake = lake_as_recorded(lake, runs.score.run)
    contributions = _contributions(recorded_lake, scored, versions[FEATURES_TABLE.name], model)
    return Explanation(
        transaction_id=scored["transaction_id"],
        business_date=scored["business_date"],
        # Spark returns naive times in the time zone of this machine.
        event_time=scored["event_time"].astimezone(UTC),
        card_id=scored["card_id"],
        merchant_id=scored["merchant_id"],
        amount=scored["amount"],
        score=scored["score"],
        reconstruction_error=scored["reconstruction_error"],
        ranking_value=scored["ranking_value"],
        recomputed=Recomputed(
            error=math.fsum(item.error for item in contributions),
            ranking_value=math.fsum(item.contribution for item in contributions),
        ),
        model_version=scored["model_version"],
        run_id=scored["run_id"],
        versions=versions,
        contributions=contributions,
        recent=_recent(lake, scored, versions[TRANSACTIONS.name]),
    )


def newest_score(lake: Lake, transaction_id: str) -> Row:
    """Return the newest published score of a transaction, as its row of `scores`.

    Raises:
        InputMissing: the transaction has no published score.
    """
    row: Row | None = (
        lake.read(SCORES)
        .where(F.col("transaction_id") == transaction_id)
        .orderBy(F.desc("business_date"))
        .head()
    )
    if row is None:
        raise InputMissing(
            f"No published score exists for the transaction {transaction_id!r}.",
            expected="the `transaction_id` of a row of `scores`.",
            remedy="look up the id in the report, or publish its night first.",
        )
    return row


def _contributions(
    lake: Lake, scored: Row, version: int, model: ModelVersion
) -> tuple[FeatureContribution, ...]:
    """Return the contribution of each feature of the model, the largest first."""
    config = read_checkpoint(model).config
    night = Dates(scored["business_date"], scored["business_date"])
    events = read_contexts(lake, night, version, config)
    card = events.where(F.col("card_id") == scored["card_id"])
    target = (F.col("transaction_id") == scored["transaction_id"]).cast("int")
    stream = context_stream(card, night, config, role=target)
    explain = ExplainStream(StoredModel(model.uri, model.sha256))
    rows = stream.mapInArrow(explain, EXPLAINED_FIELDS).collect()
    contributions = [FeatureContribution(*row) for row in rows]
    return tuple(sorted(contributions, key=lambda item: -item.contribution))


def _recent(lake: Lake, scored: Row, version: int) -> tuple[Row, ...]:
    """Return the last events of the card up to this one, the newest first."""
    transactions = lake.read(TRANSACTIONS, version)
    attributes = map(quoted, attribute_names(transactions.columns))
    rows = (
        transactions.where(F.col("card_id") == scored["card_id"])
        .where(F.col("business_date") <= F.lit(scored["business_date"]))
        .where(F.col("event_time") <= F.lit(scored["event_time"]))
        .orderBy(F.desc("event_time"), F.desc("transaction_id"))
        .select("event_time", "transaction_id", "merchant_id", "amount", *attributes)
        .limit(NUM_RECENT_EVENTS)
        .collect()
    )
    return tuple(rows)
