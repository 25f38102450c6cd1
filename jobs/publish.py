"""Publish the staged scores of one night, when gate 4 lets them.

Reads   scores as `score` staged them, transactions[business_date] at the night's pin
Writes  scores[business_date] (one commit that replaces the date)
Fails   when a transaction has no score or several, or a score is no number: nothing is shown

    fraud-scoring publish --lake L --date 2018-08-08
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.problems import InputMissing
from jobs.lake.nights import Night
from jobs.lake.tables import SCORES, TRANSACTIONS
from jobs.quality.gate import GateResult, require, validate
from jobs.quality.suites import scores as suite


def run(night: Night) -> None:
    """Check the staged scores and publish them.

    Raises:
        InputMissing: the night was not scored, or its staged scores are gone.
        GateFailed: gate 4 said no; nothing is published.
    """
    scoring = night.need("score")
    lake, dates = night.lake, night.dates
    if not lake.staged(scoring.run_id, SCORES.name):
        raise InputMissing(
            f"The staged scores of {dates} ({scoring.run_id}) are not there any more.",
            expected="what `score` has staged for this night.",
            remedy=f"run `fraud-scoring score --date {dates.first}` again.",
        )
    with night.job("publish") as run:
        run.model_version = scoring.model_version
        run.versions_in[TRANSACTIONS.name] = night.pin(TRANSACTIONS.name)
        accepted = lake.read(TRANSACTIONS, night.pin(TRANSACTIONS.name)).where(F.expr(dates.sql))
        staged = lake.read_staged(scoring.run_id, SCORES)
        require(_gate(accepted, staged), run)
        run.rows["scores"] = scoring.rows["scores"]
        night.publish(SCORES, staged, run)
    lake.discard_staged(scoring.run_id)


def _gate(accepted: DataFrame, staged: DataFrame) -> GateResult:
    covered = validate(suite.GATE, suite.coverage_expectations(), suite.coverage(accepted, staged))
    return covered + validate(suite.GATE, suite.value_expectations(), staged)
