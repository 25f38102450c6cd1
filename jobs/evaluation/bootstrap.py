"""Bootstrap the ranking metrics over rows that stay in Spark, to estimate their uncertainty.

One task per night counts the rows of each bin of ranking values, once per bootstrap replicate.
Only the counts per night, bin and replicate reach the driver. The bins are quantiles, with fine
steps at the top, because the highest values decide the precision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.errors import InputMissing
from fraud_models.evaluation import bootstrap
from fraud_models.evaluation.bootstrap import NUM_REPLICATES, Floats
from fraud_models.evaluation.card_precision import resampled_card_precision
from jobs.evaluation.ranking_metrics import top_cards

TAIL_FROM = 0.98
BINS = (*np.arange(0, TAIL_FROM, 0.02), *np.arange(TAIL_FROM, 1.0, 0.0001))
COUNTED = "business_date date, positives binary, negatives binary"
# Added to 2 k, so that every replicate contains enough cards even for k = 1.
SPARE_CARDS = 20


@dataclass(frozen=True)
class BootstrapMetrics:
    """Metrics of one ranking per bootstrap replicate (B); replicate 0 is the sample itself."""

    nights: tuple[date, ...]
    roc_auc: Floats
    """[B]."""
    average_precision: Floats
    """[B]."""
    cp_at_k: Floats
    """[B], means over the nights."""
    by_night: tuple[dict[str, float], ...]
    """Metrics of the sample per night; both curve metrics are as accurate as the bins."""


@dataclass(frozen=True)
class _BinCounter:
    """Count the rows per night, class, replicate and bin of one partition; runs on executors."""

    edges: tuple[float, ...]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        counts: dict[date, Floats] = {}
        for batch in batches:
            table = batch.to_pandas(date_as_object=True)
            for night, rows in table.groupby("business_date"):
                of_night = counts.setdefault(night, self._zeros())
                of_night += self._count(rows)
        for night, (positives, negatives) in counts.items():
            yield pa.RecordBatch.from_pydict(
                {
                    "business_date": pa.array([night], pa.date32()),
                    "positives": pa.array([positives.tobytes()], pa.binary()),
                    "negatives": pa.array([negatives.tobytes()], pa.binary()),
                }
            )

    def _zeros(self) -> Floats:
        return np.zeros((2, NUM_REPLICATES, len(self.edges) + 1))

    def _count(self, rows: pd.DataFrame) -> Floats:
        weights = bootstrap.card_weights(rows["card"].to_numpy(np.int64), NUM_REPLICATES)
        bins = np.searchsorted(self.edges, rows["value"].to_numpy(np.float64), side="right")
        frauds = rows["is_fraud"].to_numpy(bool)
        counts = self._zeros()
        for side, chosen in enumerate((frauds, ~frauds)):
            order = np.argsort(bins[chosen], kind="stable")
            own = bins[chosen][order]
            if not len(own):
                continue
            first = np.flatnonzero(np.append(True, own[1:] != own[:-1]))
            sums = np.add.reduceat(weights[chosen][order].astype(np.float64), first, axis=0)
            counts[side][:, own[first]] = sums.T
        return counts


def bootstrap_metrics(rows: DataFrame, value: str, k: int) -> BootstrapMetrics:
    """Return the metrics of the column `value` with cards and nights resampled.

    `rows` has the columns that `ranking_metrics.ranking_metrics` requires.

    Raises:
        InputMissing: there are no rows.
    """
    values = rows.select(
        "business_date",
        F.xxhash64("card_id").alias("card"),
        F.col("is_fraud").cast("boolean").alias("is_fraud"),
        F.col(value).cast("double").alias("value"),
    )
    wanted = F.array(*(F.lit(float(probability)) for probability in BINS))
    quantiles = values.agg(F.percentile_approx("value", wanted, 100_000)).collect()[0][0]
    if quantiles is None:
        raise InputMissing(
            "There are no eligible transactions to evaluate.",
            expected="transactions of cards without a known fraud when the night began.",
            remedy="evaluate other nights.",
        )
    edges = tuple(sorted(set(quantiles)))
    per_night = values.repartition("business_date").mapInArrow(_BinCounter(edges), COUNTED)
    counts = sorted(per_night.collect(), key=lambda row: row["business_date"])
    shape = (len(counts), NUM_REPLICATES, len(edges) + 1)
    positives, negatives = (
        np.frombuffer(b"".join(row[side] for row in counts)).reshape(shape)
        for side in ("positives", "negatives")
    )
    nights = tuple(row["business_date"] for row in counts)
    drawn = bootstrap.night_weights(nights, NUM_REPLICATES)
    pooled = [np.einsum("bd,dbv->bv", drawn, side) for side in (positives, negatives)]
    precisions = _card_precision(rows, value, k)
    nightly = zip(
        bootstrap.roc_auc(positives[:, 0], negatives[:, 0]),
        bootstrap.average_precision(positives[:, 0], negatives[:, 0]),
        precisions[0],
        strict=True,
    )
    return BootstrapMetrics(
        nights=nights,
        roc_auc=bootstrap.roc_auc(*pooled),
        average_precision=bootstrap.average_precision(*pooled),
        cp_at_k=(drawn * precisions).sum(axis=1) / drawn.sum(axis=1),
        by_night=tuple(
            {"roc_auc": area, "average_precision": mean, "cp_at_k": precision}
            for area, mean, precision in nightly
        ),
    )


def _card_precision(rows: DataFrame, value: str, k: int) -> Floats:
    """Return card precision at k per replicate and night, [B, D], from each night's top cards."""
    # A replicate leaves out about a third of the cards, so its top k go further down the ranking.
    nights = top_cards(rows, value, 2 * k + SPARE_CARDS)
    cards = pd.concat(nights).drop_duplicates("card_id")
    ids = rows.sparkSession.createDataFrame(cards[["card_id"]])
    hashes = ids.select("card_id", F.xxhash64("card_id").alias("card")).toPandas()
    weights = bootstrap.card_weights(hashes["card"].to_numpy(np.int64), NUM_REPLICATES)
    return resampled_card_precision(
        nights, k, pd.DataFrame(weights, index=hashes["card_id"].to_numpy())
    )
