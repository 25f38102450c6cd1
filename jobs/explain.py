"""Explain a transaction's score: the share of every feature, and the card's recent events.

Reads   scores; features, transactions and labels at the versions that the score's runs recorded;
        the model
Writes  nothing
Fails   when the transaction was never scored, or its model or table versions are missing; with
        `--as-published` also when the score cannot be reproduced

The score is computed again from the recorded versions, so an explanation also shows whether the
published value can be reproduced. `--as-published` audits the score: it also builds the
transaction's features again from transactions and labels (`jobs/lineage/audit.py`).

    fraud-scoring explain --lake L 1234567
    fraud-scoring explain --lake L 1234567 --as-published
"""

from __future__ import annotations

from datetime import UTC

from rich.text import Text

from jobs.lake.delta_io import Lake
from jobs.lineage.audit import Audit, examine
from jobs.lineage.explanation import Explanation, explain_score, newest_score
from jobs.lineage.provenance import provenance
from jobs.report_pages.wording import sentence
from jobs.runtime.logs import escape_control_characters, wide_console


def run(lake: Lake, transaction_id: str) -> Explanation:
    """Explain the newest score of a transaction.

    Raises:
        InputMissing: it was never scored, or its model or table versions are missing.
    """
    scored = newest_score(lake, transaction_id)
    return explain_score(lake, scored, provenance(lake, scored["business_date"], scored["run_id"]))


def audit(lake: Lake, transaction_id: str) -> tuple[Explanation, Audit]:
    """Explain the newest score of a transaction and check each part of it against its sources.

    Raises:
        InputMissing: it was never scored, or its model or table versions are missing.
    """
    scored = newest_score(lake, transaction_id)
    runs = provenance(lake, scored["business_date"], scored["run_id"])
    explanation = explain_score(lake, scored, runs)
    return explanation, examine(lake, scored, runs, explanation.recomputed)


def show(explanation: Explanation) -> None:
    """Print an explanation; ids are printed without markup, their control characters escaped."""
    from rich.table import Column, Table

    console = wide_console()
    it = explanation
    console.print(
        _plain(
            f"Transaction {it.transaction_id}: card {it.card_id} paid {it.amount} at merchant "
            f"{it.merchant_id}, {it.event_time:%Y-%m-%d %H:%M:%S} UTC, night {it.business_date}"
        )
    )
    result = "reproduced" if it.reproduced else "NOT REPRODUCED"
    console.print(
        _plain(
            f"Score {it.score:.6f}, reconstruction error {it.reconstruction_error:.4f} nats, "
            f"ranking value {it.ranking_value:.4f} by model version {it.model_version} "
            f"({it.run_id}); computed again from the recorded versions: "
            f"{it.recomputed.error:.4f} and {it.recomputed.ranking_value:.4f}; {result}."
        )
    )
    table = Table(
        Column("feature", no_wrap=True), "observed", "expected", "nats", "share", "explanation"
    )
    for part in it.contributions:
        table.add_row(
            part.feature,
            _value(part.observed, part.observed_text, "missing"),
            _value(part.expected, part.expected_text, "nothing"),
            f"{part.error:.3f}",
            f"{part.contribution:.3f}",
            _plain(
                sentence(
                    part.feature,
                    part.observed,
                    part.expected,
                    part.observed_text,
                    part.expected_text,
                )
            ),
        )
    console.print(table)
    id_column = Column("transaction", overflow="fold")
    shown = ("event_time", "transaction_id", "merchant_id", "amount")
    recent = Table(
        "time (UTC)", id_column, "merchant", "amount", "attributes", title="Recent events"
    )
    for row in it.recent:
        attributes = {name: value for name, value in row.asDict().items() if name not in shown}
        recent.add_row(
            f"{row['event_time'].astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            _plain(row["transaction_id"]),
            _plain(row["merchant_id"]),
            str(row["amount"]),
            _plain(", ".join(f"{k} {v}" for k, v in attributes.items() if v is not None)),
        )
    console.print(recent)


def _value(number: float | None, text: str | None, unset: str) -> Text:
    if text is not None:
        return _plain(text)
    return Text(unset if number is None else f"{number:,.3f}")


def _plain(text: str) -> Text:
    return Text(escape_control_characters(text))
