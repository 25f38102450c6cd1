"""Why a transaction has its score: every feature, and what the card did before.

Reads   scores; at the versions that the runs behind the score recorded: features, transactions,
        labels; the model
Writes  nothing
Fails   when the transaction was never scored, or its model or versions are gone; as published:
        when the score is not what the recorded versions give

The score is computed again from the recorded versions, so the answer also says whether the
published figure holds. `--as-published` is the auditor's question: it goes further back and
builds the transaction's features again from transactions and labels (`jobs/audit.py`).

    fraud-scoring explain --lake L 1234567
    fraud-scoring explain --lake L 1234567 --as-published
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Row
from pyspark.sql import functions as F
from rich.text import Text

from feature_defs.problems import InputMissing
from fraud_models.event_batch import iter_contexts
from fraud_models.registry import ModelVersion
from fraud_models.scoring import cached_scorer
from jobs.audit import Audit, Recomputed, examine, same_error, same_ranking
from jobs.contexts import context_stream, read_contexts
from jobs.lake.delta_io import Dates, Lake
from jobs.lake.lineage import Provenance, as_then, provenance
from jobs.lake.tables import FEATURES_TABLE, SCORES, TRANSACTIONS
from jobs.logs import visible, wide_console
from jobs.model_store import open_registry, read_checkpoint
from jobs.report_pages.words import sentence

NUM_RECENT_EVENTS = 10


@dataclass(frozen=True)
class FeatureContribution:
    """One feature's part in a score."""

    feature: str
    observed: float | None
    expected: float | None
    error: float
    """Nats of the reconstruction error."""
    contribution: float
    """Share of the ranking value."""


@dataclass(frozen=True)
class Explanation:
    """All that is known about one score."""

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
    def holds(self) -> bool:
        """Whether what was published is what the recorded versions give."""
        return same_error(self.reconstruction_error, self.recomputed.error) and same_ranking(
            self.ranking_value, self.recomputed.ranking_value
        )


def run(lake: Lake, transaction_id: str) -> Explanation:
    """Explain the newest score of a transaction.

    Raises:
        InputMissing: it was never scored, or what it was scored from is gone.
    """
    scored = _scored(lake, transaction_id)
    return _explain(lake, scored, provenance(lake, scored["business_date"], scored["run_id"]))


def audit(lake: Lake, transaction_id: str) -> tuple[Explanation, Audit]:
    """Explain the newest score of a transaction, and say line by line whether it holds.

    Raises:
        InputMissing: it was never scored, or what it was scored from is gone.
    """
    scored = _scored(lake, transaction_id)
    runs = provenance(lake, scored["business_date"], scored["run_id"])
    explanation = _explain(lake, scored, runs)
    return explanation, examine(lake, scored, runs, explanation.recomputed)


def _explain(lake: Lake, scored: Row, runs: Provenance) -> Explanation:
    model = open_registry(lake).resolve(scored["model_version"])
    versions = runs.versions
    then = as_then(lake, runs.score.run)
    contributions = _contributions(then, scored, versions[FEATURES_TABLE.name], model)
    return Explanation(
        transaction_id=scored["transaction_id"],
        business_date=scored["business_date"],
        # Spark gives times in the zone of this machine.
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


def _scored(lake: Lake, transaction_id: str) -> Row:
    found: Row | None = (
        lake.read(SCORES)
        .where(F.col("transaction_id") == transaction_id)
        .orderBy(F.desc("business_date"))
        .head()
    )
    if found is None:
        raise InputMissing(
            f"No published score is about a transaction {transaction_id!r}.",
            expected="the `transaction_id` of a row of `scores`.",
            remedy="look the id up in the report, or publish its night first.",
        )
    return found


@dataclass(frozen=True)
class _ExplainStream:
    """Runs on executors: every feature of the one target event."""

    model: ModelVersion

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        scorer = cached_scorer(self.model.uri, self.model.sha256)
        for batch in iter_contexts(batches, scorer.columns, scorer.limits):
            events = scorer.score_events(batch)
            for observed, expected, errors, contributions in zip(
                events.observed, events.expected, events.errors, events.contributions, strict=True
            ):
                yield pa.RecordBatch.from_arrays(
                    [
                        pa.array(scorer.reason_columns, pa.string()),
                        pa.array(observed, mask=np.isnan(observed)),
                        pa.array(expected, mask=np.isnan(expected)),
                        pa.array(errors),
                        pa.array(contributions),
                    ],
                    names=[item.name for item in fields(FeatureContribution)],
                )


def _contributions(
    lake: Lake, scored: Row, version: int, model: ModelVersion
) -> tuple[FeatureContribution, ...]:
    """Every feature of the model, largest contribution first."""
    config = read_checkpoint(model).config
    night = Dates(scored["business_date"], scored["business_date"])
    events = read_contexts(lake, night, version, config)
    card = events.where(F.col("card_id") == scored["card_id"])
    target = (F.col("transaction_id") == scored["transaction_id"]).cast("int")
    stream = context_stream(card, night, config, role=target)
    schema = "feature string, observed double, expected double, error double, contribution double"
    rows = stream.mapInArrow(_ExplainStream(model), schema).collect()
    found = [FeatureContribution(*row) for row in rows]
    return tuple(sorted(found, key=lambda item: -item.contribution))


def _recent(lake: Lake, scored: Row, version: int) -> tuple[Row, ...]:
    """The card's last events up to this one, newest first."""
    rows = (
        lake.read(TRANSACTIONS, version)
        .where(F.col("card_id") == scored["card_id"])
        .where(F.col("business_date") <= F.lit(scored["business_date"]))
        .where(F.col("event_time") <= F.lit(scored["event_time"]))
        .orderBy(F.desc("event_time"), F.desc("transaction_id"))
        .select("event_time", "transaction_id", "merchant_id", "amount")
        .limit(NUM_RECENT_EVENTS)
        .collect()
    )
    return tuple(rows)


def show(explanation: Explanation) -> None:
    """Print an explanation; ids are shown letter by letter, neither markup nor control signs."""
    from rich.table import Column, Table

    console = wide_console()
    it = explanation
    console.print(
        _plain(
            f"Transaction {it.transaction_id}: card {it.card_id} paid {it.amount} at merchant "
            f"{it.merchant_id}, {it.event_time:%Y-%m-%d %H:%M:%S} UTC, night {it.business_date}"
        )
    )
    verdict = "holds" if it.holds else "DOES NOT HOLD"
    console.print(
        _plain(
            f"Score {it.score:.6f}, reconstruction error {it.reconstruction_error:.4f} nats, "
            f"ranking value {it.ranking_value:.4f} by model version {it.model_version} "
            f"({it.run_id}); computed again from the recorded versions: "
            f"{it.recomputed.error:.4f} and {it.recomputed.ranking_value:.4f}, so it {verdict}."
        )
    )
    table = Table(
        Column("feature", no_wrap=True), "observed", "expected", "nats", "share", "in words"
    )
    for part in it.contributions:
        table.add_row(
            part.feature,
            "missing" if part.observed is None else f"{part.observed:,.3f}",
            "nothing" if part.expected is None else f"{part.expected:,.3f}",
            f"{part.error:.3f}",
            f"{part.contribution:.3f}",
            _plain(sentence(part.feature, part.observed, part.expected)),
        )
    console.print(table)
    whole = Column("transaction", overflow="fold")
    recent = Table("time (UTC)", whole, "merchant", "amount", title="Recent events")
    for row in it.recent:
        recent.add_row(
            f"{row['event_time'].astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            _plain(row["transaction_id"]),
            _plain(row["merchant_id"]),
            str(row["amount"]),
        )
    console.print(recent)


def _plain(text: str) -> Text:
    return Text(visible(text))
