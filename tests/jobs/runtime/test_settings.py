"""Settings: precedence of flag, environment, file and default; validation; secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_defs.errors import UsageError
from jobs.runtime.settings import load_settings


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "fraud.toml"
    path.write_text('lake = "from-file"\nalert_budget = 7\nlate_days = 3\n', encoding="utf-8")
    return path


def test_flag_overrides_environment_overrides_file_overrides_default(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUD_LAKE", "from-environment")
    monkeypatch.setenv("FRAUD_ALERT_BUDGET", "8")
    settings = load_settings(config, {"lake": "from-flag", "log_format": None})
    assert settings.lake == "from-flag"
    assert settings.alert_budget == 8
    assert settings.late_days == 3
    assert settings.audit_days == 400


def test_load_settings_names_all_invalid_values() -> None:
    with pytest.raises(UsageError) as raised:
        load_settings(
            None,
            {"alert_budget": 0, "late_days": 99, "audit_days": 10**7, "lease_minutes": 10**9},
        )
    for name in ("alert_budget", "late_days", "audit_days", "lease_minutes"):
        assert name in str(raised.value)


def test_file_with_unknown_names_or_secrets_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fraud.toml"
    path.write_text(
        'lak = "x"\npseudonym_key = "y"\nregistry_uri = "postgresql://me:word@db/mlflow"\n',
        encoding="utf-8",
    )
    with pytest.raises(UsageError) as raised:
        load_settings(path, {})
    assert "lak is unknown" in str(raised.value)
    assert "pseudonym_key is a secret" in str(raised.value)
    assert "registry_uri contains a password" in str(raised.value)


def test_file_with_invalid_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fraud.toml"
    path.write_text("lake = ", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be read"):
        load_settings(path, {})


def test_secret_is_hidden_in_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_PSEUDONYM_KEY", "very secret")
    settings = load_settings(None, {"lake": "x"})
    assert settings.pseudonym_key is not None
    assert "very secret" not in repr(settings)


def test_table_settings_accept_only_catalog_names() -> None:
    valid = {"scores": "risk.card.`odd;name`", "alerts": "fraud_alerts"}
    assert load_settings(None, {"tables": valid}).tables == valid
    for invalid in ("a.b.c.d", "x; DROP TABLE y", "`open", "a b", "", "delta.`/etc`.x`", "x--"):
        with pytest.raises(UsageError, match="not a valid catalog name"):
            load_settings(None, {"tables": {"scores": invalid}})
