"""Where things are and how strict they are: flag, then environment, then file, then default.

Environment variables are the field names in capitals behind `FRAUD_`, for instance
`FRAUD_LAKE` and `FRAUD_ALERT_BUDGET`; the file is TOML with the same names in small letters.
Secrets (the pseudonymisation key) come from the environment only and are never logged.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from feature_defs.errors import UsageError, holds_password

# Up to three parts, so that nothing but a name ever reaches Spark's parser.
PART = r"(?:\w+|`[^`\x00-\x1f]+`)"
CATALOG_NAME = re.compile(rf"{PART}(?:\.{PART}){{0,2}}")
SECRETS = frozenset({"pseudonym_key"})


class Settings(BaseSettings):
    """Everything a command can be told, with its default."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_", extra="ignore", frozen=True)

    lake: str = ""
    """URI or path of the lake; commands that need one refuse an empty name."""
    tables: dict[str, str] = {}
    """Catalog names (up to three parts) for tables that live elsewhere, by table name."""
    registry_uri: str | None = None
    """MLflow tracking URI; unset: the SQLite store under `<lake>/_registry`."""

    source: str | None = None
    """Where `nightly` reads; unset: what the first `ingest` recorded. Likewise the next two."""
    source_format: Literal["delta", "parquet", "csv"] | None = None
    mapping: str | None = None

    alert_budget: int = Field(100, ge=1)
    """Cards per night that investigators can check (`k`)."""
    late_days: int = Field(7, ge=0, le=27)
    """A row whose event is older than this many days before its delivery is refused."""
    max_quarantined_share: float = Field(0.20, ge=0, le=1)
    """Gate 1 fails above this share of refused rows."""
    audit_days: int = Field(400, ge=7, le=36_500)
    """Days that the tables keep their log and files."""
    lease_minutes: int = Field(120, ge=1, le=10_080)
    """After this time without a sign of life a night may be taken over."""

    master: str | None = None
    """Spark master; unset: this machine's cores, or what spark-submit says."""
    driver_memory: str = "4g"
    spark: dict[str, str] = {}
    """Further Spark settings, passed on as they are."""

    pseudonym_key: SecretStr | None = None
    """Key of the pseudonyms; only from the environment (`FRAUD_PSEUDONYM_KEY`)."""

    log_format: Literal["json", "text"] | None = None
    """Unset: text on a terminal, JSON lines otherwise."""
    debug: bool = False

    @field_validator("tables")
    @classmethod
    def _are_catalog_names(cls, tables: dict[str, str]) -> dict[str, str]:
        odd = [name for name in tables.values() if not CATALOG_NAME.fullmatch(name)]
        if odd:
            raise ValueError(
                f"{', '.join(map(repr, odd))}: no name in a catalog (catalog.schema.table, each "
                "of letters, digits and _, or between backticks)"
            )
        return tables

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags win over the environment, the environment over the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(config: Path | None, flags: dict[str, Any]) -> Settings:
    """Settings of one command; flags that were not given are `None` and left out.

    Raises:
        UsageError: the file is missing or malformed, holds a secret or an unknown name, or a
            value is out of range; all differences are named.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    if config is not None:
        _check_file(config)

    # The file's place is part of the class in pydantic-settings, hence one class per call.
    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    try:
        loaded = FromFile(**given)
    except SettingsError as error:
        raise UsageError(
            f"The environment cannot be read: {error}.",
            expected="JSON in FRAUD_SPARK and FRAUD_TABLES.",
            remedy="correct the variable.",
        ) from None
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors()
        )
        raise UsageError(
            f"The settings do not hold: {wrong}.",
            expected="every setting in its range.",
            remedy="correct the flag, the FRAUD_ variable or the file given by --config.",
        ) from None
    return loaded


def _check_file(config: Path) -> None:
    import tomllib

    try:
        content = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The configuration file {config} cannot be read: {error}.",
            expected="a TOML file.",
            remedy="give the path of a TOML file to --config.",
        ) from None
    wrong = [f"{name} is unknown" for name in content if name not in Settings.model_fields]
    wrong += [f"{name} is a secret" for name in content if name in SECRETS]
    wrong += [
        f"{name} holds a password"
        for name, value in content.items()
        if isinstance(value, str) and holds_password(value)
    ]
    if wrong:
        raise UsageError(
            f"The configuration file {config} does not hold: {'; '.join(wrong)}.",
            expected=f"names among {', '.join(sorted(set(Settings.model_fields) - SECRETS))}.",
            remedy="correct the names; secrets go into the environment.",
        )
