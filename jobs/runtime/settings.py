"""The settings of a command. A flag overrides the environment, which overrides the TOML file.

An environment variable is `FRAUD_` and the field name in capital letters, for example `FRAUD_LAKE`
and `FRAUD_ALERT_BUDGET`. The file uses the field names as they are. Secrets (the pseudonymisation
key) come from the environment only and are never logged.
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

from feature_defs.errors import UsageError, contains_password

# A catalog name has up to three parts. Anything else must not reach Spark's SQL parser.
PART = r"(?:\w+|`[^`\x00-\x1f]+`)"
CATALOG_NAME = re.compile(rf"{PART}(?:\.{PART}){{0,2}}")
SECRETS = frozenset({"pseudonym_key"})


class Settings(BaseSettings):
    """All settings of a command, with their defaults."""

    model_config = SettingsConfigDict(env_prefix="FRAUD_", extra="ignore", frozen=True)

    lake: str = ""
    """URI or path of the lake; commands that need a lake reject an empty value."""
    tables: dict[str, str] = {}
    """Catalog names (up to three parts), by table name, of tables outside the lake folder."""
    registry_uri: str | None = None
    """MLflow tracking URI; default: the SQLite store under `<lake>/_registry`."""

    source: str | None = None
    """Where `nightly` reads deliveries; default: the source that the first `ingest` recorded."""
    source_format: Literal["delta", "parquet", "csv", "json"] | None = None
    """File format of `source`; default: the format that the first `ingest` recorded."""
    mapping: str | None = None
    """Column mapping of `source`; default: the mapping that the first `ingest` recorded."""

    definitions: str | None = None
    """Module name or .py file with feature definitions of your own; every command runs it."""
    recipes: str | None = None
    """Module name or .py file with recipes of your own; it runs in `train` and `backtest`."""

    alert_budget: int = Field(100, ge=1)
    """Number of cards per night that investigators can check (`k`)."""
    late_days: int = Field(7, ge=0, le=27)
    """Rows whose event is more than this many days before their delivery are quarantined."""
    max_quarantined_share: float = Field(0.20, ge=0, le=1)
    """Gate 1 fails above this share of quarantined rows."""
    audit_days: int = Field(400, ge=7, le=36_500)
    """Days that tables keep their log and replaced files."""
    lease_minutes: int = Field(120, ge=1, le=10_080)
    """Lease timeout: a night whose lease was not renewed for this long may be taken over."""

    master: str | None = None
    """Spark master; default: local mode on all cores, or the master of spark-submit."""
    driver_memory: str = "4g"
    """Memory of the Spark driver, in Java's notation."""
    spark: dict[str, str] = {}
    """Further Spark settings, passed on unchanged."""

    pseudonym_key: SecretStr | None = None
    """Key for pseudonyms; read from the environment only (`FRAUD_PSEUDONYM_KEY`)."""

    log_format: Literal["json", "text"] | None = None
    """Format of log lines; default: text on a terminal, otherwise JSON lines."""
    debug: bool = False
    """Print the full traceback of an error."""

    @field_validator("tables")
    @classmethod
    def _are_catalog_names(cls, tables: dict[str, str]) -> dict[str, str]:
        invalid = [name for name in tables.values() if not CATALOG_NAME.fullmatch(name)]
        if invalid:
            raise ValueError(
                f"{', '.join(map(repr, invalid))}: not a valid catalog name "
                "(catalog.schema.table, each of letters, digits and _, or between backticks)"
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
        """Return the sources in order of precedence: flags, environment, file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(config: Path | None, flags: dict[str, Any]) -> Settings:
    """Load the settings of one command; flags that are `None` were not set by the user.

    Raises:
        UsageError: the file is missing or malformed, contains a secret or an unknown name, or
            values are out of range; the message names all of them.
    """
    options = {name: value for name, value in flags.items() if value is not None}
    if config is not None:
        _check_file(config)

    # pydantic-settings stores the path of the file in the class, so each call needs a new class.
    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    try:
        loaded = FromFile(**options)
    except SettingsError as error:
        raise UsageError(
            f"An environment variable cannot be read: {error}.",
            expected="valid JSON in FRAUD_SPARK and FRAUD_TABLES.",
            remedy="correct the variable.",
        ) from None
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors()
        )
        raise UsageError(
            f"Invalid settings: {wrong}.",
            expected="every setting with a valid value.",
            remedy="correct the flag, the FRAUD_ variable or the file of --config.",
        ) from None
    return loaded


def _check_file(config: Path) -> None:
    """Check that a configuration file is readable and has only known names and no secrets.

    Raises:
        UsageError: the file is unreadable or malformed; the message names all wrong entries.
    """
    import tomllib

    try:
        content = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The configuration file {config} cannot be read: {error}.",
            expected="a TOML file.",
            remedy="pass the path of a TOML file to --config.",
        ) from None
    wrong = [f"{name} is unknown" for name in content if name not in Settings.model_fields]
    wrong += [f"{name} is a secret" for name in content if name in SECRETS]
    wrong += [
        f"{name} contains a password"
        for name, value in content.items()
        if isinstance(value, str) and contains_password(value)
    ]
    if wrong:
        raise UsageError(
            f"The configuration file {config} is not valid: {'; '.join(wrong)}.",
            expected=f"names from {', '.join(sorted(set(Settings.model_fields) - SECRETS))}.",
            remedy="correct the names, and put secrets into the environment.",
        )
