"""Publish the staged scores of a night when they pass gate 4.

Reads   scores as `score` staged them, transactions[business_date] at the night's pin
Writes  scores[business_date] (one commit that replaces the date)
Fails   when a transaction has no score or several, or a score is not a number; then nothing is
        published

    fraud-scoring publish --lake L --date 2018-08-08
"""

from __future__ import annotations

from pyspark.sql import functions as F

from feature_defs.errors import InputMissing
from jobs.lake.nights import Night
from jobs.lake.tables import SCORES, TRANSACTIONS
from jobs.quality.alert_volume import cards_over_threshold, cards_over_threshold_history
from jobs.quality.gate import require
from jobs.quality.overrides import GateOverride
from jobs.quality.row_counts import ACCEPTED_KEYS, AcceptedKeys, NightFacts
from jobs.quality.staged_rows import RowsToPublish
from jobs.quality.suites.scores import SUITE, alert_volume


def run(night: Night, override: GateOverride | None = None) -> None:
    """Check the staged scores and publish them; `override` overrides gate 4 for this run.

    Raises:
        InputMissing: the night was not scored, or its staged scores are missing.
        GateFailed: gate 4 failed; nothing is published.
    """
    scoring = night.require_finished("score")
    lake, dates = night.lake, night.dates
    if not lake.staged(scoring.run_id, SCORES.name):
        raise InputMissing(
            f"The staged scores of {dates} ({scoring.run_id}) are missing.",
            expected="the scores that `score` staged for this night.",
            remedy=f"run `fraud-scoring score --date {dates.first}` again.",
        )
    with night.job("publish") as run:
        run.model_version = scoring.model_version
        version = run.versions_in[TRANSACTIONS.name] = night.pin(TRANSACTIONS.name)
        transactions = lake.read(TRANSACTIONS, version).where(F.expr(dates.sql))
        counted = night.require_finished("features").figures.get(ACCEPTED_KEYS)
        accepted = AcceptedKeys(transactions, version, counted)
        staged = lake.read_staged(scoring.run_id, SCORES)
        types = lake.staged_types(scoring.run_id, SCORES)
        rows = RowsToPublish(accepted, staged, types, dates)

        def count_expected_alerts() -> list[NightFacts]:
            num_cards = cards_over_threshold(lake, staged, night.models.values())
            run.figures = {
                "alert_budget": lake.settings.alert_budget,
                "cards_over_threshold": {str(day): cards for day, cards in num_cards.items()},
            }
            return [alert_volume(num_cards, cards_over_threshold_history(lake, dates.first))]

        require(SUITE.run_checks(rows, count_expected_alerts), run, override)
        run.rows["scores"] = scoring.rows["scores"]
        night.publish(SCORES, staged, run)
    lake.discard_staged(scoring.run_id)
