"""The mapping of a bank's columns to ours: a TOML file, validated before any row is read.

    mapping = load_mapping("handbook")            # shipped with the package
    mapping = load_mapping("/etc/fraud/bank.toml")

Times are ISO 8601 (`2018-04-01 10:00:00`, `2018-04-01T10:00:00+02:00`). A time without a zone is
a local time of `zone`. Amounts are rounded half up to three decimals. There is no format string
for times: a source with another text format must deliver them as timestamps.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from feature_defs.errors import UsageError
from feature_defs.labels import LabelPolicy
from feature_defs.sources import TRANSACTIONS

EVENT_DATE = "event_date"
# Delta does not allow these characters in column names. The dot is here because Spark reads it as
# a path into a struct.
FORBIDDEN_IN_COLUMN_NAMES = " .,;{}()\n\r\t=`\0"

Name = Annotated[str, Field(min_length=1)]
IdColumn = Literal["transaction_id", "card_id", "merchant_id"]
AttributeKind = Literal["numeric", "categorical"]


class _Section(BaseModel):
    """A frozen section of the TOML file that rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TransactionColumns(_Section):
    """The source column of each required transaction column."""

    transaction_id: Name
    event_time: Name
    card_id: Name
    merchant_id: Name
    amount: Name


class Transactions(_Section):
    """The transactions: their location and their columns."""

    path: str = ""
    """Path below the source; empty for the source itself."""
    business_date: Name
    """Source column of the business date, or `event_date` for the date of the event (UTC)."""
    columns: TransactionColumns
    attributes: dict[Name, AttributeKind] = {}
    """Further source columns to keep, with their own names."""

    @field_validator("path")
    @classmethod
    def _path_is_below_source(cls, path: str) -> str:
        return _relative_path(path)

    @field_validator("attributes")
    @classmethod
    def _attributes_have_valid_names(cls, attributes: dict[str, str]) -> dict[str, str]:
        ours = {column.name for column in TRANSACTIONS.columns}
        for name in attributes:
            if name.lower() in ours:
                raise ValueError(f"{name} is already a column of the table `transactions`")
            if any(character in FORBIDDEN_IN_COLUMN_NAMES for character in name):
                raise ValueError(f"{name!r} contains a character that a table column cannot have")
        if len({name.lower() for name in attributes}) < len(attributes):
            raise ValueError("two attributes differ only in upper and lower case")
        return attributes


class LabelColumns(_Section):
    """The source column of each label column; without `source`, the label source is `delivery`."""

    transaction_id: Name | None = None
    is_fraud: Name
    label_time: Name | None = None
    source: Name | None = None


class Labels(_Section):
    """The labels: their location, and when a label becomes known."""

    path: str | None = None
    """Path below the source; unset when the labels are columns of the transactions."""
    completeness: Literal["complete", "frauds_only"]
    business_date: Name | None = None
    label_delay_days: int | None = Field(None, ge=0)
    """Days from the event until its label is known; used when there is no label time column."""
    maturity_days: int | None = Field(None, ge=0)
    """Days after which an unlabelled transaction counts as not fraud (`frauds_only`)."""
    columns: LabelColumns

    @field_validator("path")
    @classmethod
    def _path_is_below_source(cls, path: str | None) -> str | None:
        return None if path is None else _relative_path(path)

    @model_validator(mode="after")
    def _options_are_consistent(self) -> Labels:
        errors = []
        if self.completeness == "frauds_only" and self.maturity_days is None:
            errors.append("frauds_only needs maturity_days")
        if (self.columns.label_time is None) == (self.label_delay_days is None):
            errors.append("set either columns.label_time or label_delay_days")
        if self.path is not None:
            if self.label_delay_days is not None:
                errors.append("a separate label source has no event times: set columns.label_time")
            if self.columns.transaction_id is None:
                errors.append("a separate label source needs columns.transaction_id")
            if self.business_date is None:
                errors.append("a separate label source needs business_date")
        elif self.business_date is not None or self.columns.transaction_id is not None:
            errors.append("business_date and columns.transaction_id need a separate label source")
        if errors:
            raise ValueError("; ".join(errors))
        return self

    @property
    def policy(self) -> LabelPolicy:
        """Return what a missing label means."""
        return LabelPolicy(self.maturity_days if self.completeness == "frauds_only" else None)


class Readiness(_Section):
    """How a delivery is marked as complete."""

    marker: Name
    """Path of a file below the source; `{business_date}` is replaced by the date (YYYY-MM-DD)."""

    @field_validator("marker")
    @classmethod
    def _marker_contains_date(cls, marker: str) -> str:
        if "{business_date}" not in marker:
            raise ValueError("the marker must contain {business_date}")
        return _relative_path(marker)


class Mapping(_Section):
    """The complete mapping of a bank's source."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    refunds: Literal["refused", "negative"]
    zone: str = "UTC"
    line_breaks: Literal["refused", "allowed"] = "refused"
    """Whether CSV fields may contain line breaks. No reader can tell them from rows that stray
    quotes have joined. Use `allowed` only if the source quotes correctly (RFC 4180)."""
    pseudonymise: tuple[IdColumn, ...] = ()
    transactions: Transactions
    labels: Labels | None = None
    readiness: Readiness | None = None

    @field_validator("zone")
    @classmethod
    def _zone_is_valid(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{zone!r} is not a valid IANA time zone") from None
        return zone

    @property
    def label_policy(self) -> LabelPolicy:
        """Return what a missing label means; in a source without labels, "not known yet"."""
        return self.labels.policy if self.labels else LabelPolicy()


def _relative_path(path: str) -> str:
    """Return a path without slashes at its ends; raise if it can point outside the source."""
    parts = path.split("/")
    if path.startswith(("/", "\\")) or ".." in parts or ":" in path or "\0" in path:
        raise ValueError(f"{path!r} must be a relative path below the source")
    return path.strip("/")


def shipped_mappings() -> tuple[str, ...]:
    """Return the names of the mappings that ship with the package."""
    folder = resources.files("jobs.deliveries").joinpath("mappings")
    names = (file.name for file in folder.iterdir() if file.name.endswith(".toml"))
    return tuple(sorted(name.removesuffix(".toml") for name in names))


def load_mapping(name_or_path: str) -> Mapping:
    """Load a mapping by its shipped name or from a TOML file.

    Raises:
        UsageError: there is no such mapping, the file cannot be read, or it is not valid; the
            message lists all errors of the file.
    """
    if name_or_path in shipped_mappings():
        shipped = resources.files("jobs.deliveries").joinpath("mappings", f"{name_or_path}.toml")
        return _parse(shipped.read_text(encoding="utf-8"), name_or_path)
    file = Path(name_or_path)
    if not file.is_file():
        raise UsageError(
            f"The mapping {name_or_path!r} is neither a shipped mapping nor a file.",
            expected=f"one of {', '.join(shipped_mappings())}, or the path of a TOML file.",
            remedy="correct --mapping.",
        )
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _invalid(name_or_path, str(error)) from None
    return _parse(text, name_or_path)


def _parse(text: str, name_or_path: str) -> Mapping:
    try:
        content: dict[str, Any] = tomllib.loads(text)
        return Mapping.model_validate(content)
    except tomllib.TOMLDecodeError as error:
        raise _invalid(name_or_path, str(error)) from None
    except ValidationError as error:
        errors = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'the file'}: {item['msg']}"
            for item in error.errors()
        )
        raise _invalid(name_or_path, errors) from None


def _invalid(name_or_path: str, errors: str) -> UsageError:
    return UsageError(
        f"The mapping {name_or_path} is not valid: {errors}.",
        expected="a TOML file with name, currency, refunds, [transactions] and its columns.",
        remedy="correct the listed keys; see the shipped mappings `handbook` and `simulated`.",
    )
