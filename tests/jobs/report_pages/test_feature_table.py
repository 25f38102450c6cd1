"""`features --describe` lists every feature, without a lake."""

from __future__ import annotations

from dataclasses import replace

import pytest
from every_function import EVERY_FUNCTION
from typer.testing import CliRunner

from feature_defs.catalogue import FEATURES
from feature_defs.errors import UsageError
from jobs.cli.main import app
from jobs.report_pages import feature_table, wording


def test_describe_lists_every_feature_with_its_window() -> None:
    result = CliRunner().invoke(app, ["features", "--describe"])
    assert result.exit_code == 0, result.output
    lines = {line.split("│")[1].strip(): line for line in result.output.splitlines() if "│" in line}
    assert set(FEATURES) <= set(lines)
    line = lines["merchant_fraud_rate_7d_delay_7d"]
    for text in ("(t - 14 d, t - 7 d]", "event_time, label_time", "fraud rate of the merchant"):
        assert text in line
    assert "the transaction itself" in lines["transaction_amount"]


def test_markup_in_descriptions_is_printed_literally(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = replace(EVERY_FUNCTION["card_count_1d"], description="how [red]often[/nothing] it paid")
    monkeypatch.setattr(feature_table, "FEATURES", {odd.name: odd})
    feature_table.show()
    assert odd.description in capsys.readouterr().out


def test_describe_with_a_date_is_refused() -> None:
    result = CliRunner().invoke(app, ["features", "--describe", "--date", "nonsense"])
    assert isinstance(result.exception, UsageError)
    assert "--describe is given together with options" in str(result.exception)


def test_derived_feature_has_the_time_columns_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_table, "FEATURES", EVERY_FUNCTION)
    monkeypatch.setattr(wording, "FEATURES", EVERY_FUNCTION)
    rows = {row[0]: row for row in feature_table.rows()}
    assert set(rows) == set(EVERY_FUNCTION)
    smoothed = rows["merchant_fraud_count_30d_delay_7d_smoothed"]
    assert smoothed[3:] == (
        "event_time, label_time",
        "of merchant_fraud_count_30d_delay_7d and merchant_label_count_30d_delay_7d",
        "37",
        "",
    )
