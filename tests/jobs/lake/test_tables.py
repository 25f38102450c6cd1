"""The tables of the lake, and the names that settings may map."""

from __future__ import annotations

import pytest

from feature_defs.errors import UsageError


def test_require_known_tables_lists_unknown_names() -> None:
    from jobs.lake.tables import require_known_tables

    require_known_tables({"scores": "risk.card.scores", "alerts": "fraud_alerts"})
    with pytest.raises(UsageError) as raised:
        require_known_tables({"score": "risk.scores", "alert": "risk.alerts"})
    assert "no table 'alert', 'score'" in str(raised.value)
    assert "transactions, labels, quarantine, features, scores" in str(raised.value)
