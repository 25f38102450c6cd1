"""How a bank's columns become ours: a TOML file, checked whole before anything is read.

    mapping = load_mapping("handbook")            # shipped with the package
    mapping = load_mapping("/etc/fraud/bank.toml")

Times are ISO 8601 (`2018-04-01 10:00:00`, `2018-04-01T10:00:00+02:00`); those without a zone are
local times of `zone`. Amounts are rounded half up to three decimals. There is no format string:
a source that writes times otherwise gives them to us as timestamps.
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
# Characters that a Delta table refuses in the name of a column, and the dot, which Spark reads as
# a path.
REFUSED_IN_NAMES = " .,;{}()\n\r\t=`\0"

Name = Annotated[str, Field(min_length=1)]
IdColumn = Literal["transaction_id", "card_id", "merchant_id"]
AttributeKind = Literal["numeric", "categorical"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TransactionColumns(_Part):
    """Which source column is which of ours."""

    transaction_id: Name
    event_time: Name
    card_id: Name
    merchant_id: Name
    amount: Name


class Transactions(_Part):
    """Where the transactions are and what their columns mean."""

    path: str = ""
    """Under the source; empty: the source itself."""
    business_date: Name
    """A column, or `event_date`: the event's own date (UTC)."""
    columns: TransactionColumns
    attributes: dict[Name, AttributeKind] = {}
    """Further columns to keep, under their own names."""

    @field_validator("path")
    @classmethod
    def _path_stays_inside(cls, path: str) -> str:
        return _inside(path)

    @field_validator("attributes")
    @classmethod
    def _attributes_have_room(cls, attributes: dict[str, str]) -> dict[str, str]:
        ours = {column.name for column in TRANSACTIONS.columns}
        for name in attributes:
            if name.lower() in ours:
                raise ValueError(f"{name} is the name of a column of our own")
            if any(character in REFUSED_IN_NAMES for character in name):
                raise ValueError(f"{name!r} holds a character that a table's column cannot have")
        if len({name.lower() for name in attributes}) < len(attributes):
            raise ValueError("two attributes differ by capitals only")
        return attributes


class LabelColumns(_Part):
    """Which source column is which; without `source` every label comes from `delivery`."""

    transaction_id: Name | None = None
    is_fraud: Name
    label_time: Name | None = None
    source: Name | None = None


class Labels(_Part):
    """Where labels are and when one counts as known."""

    path: str | None = None
    """Under the source; unset: labels are columns of the transactions."""
    completeness: Literal["complete", "frauds_only"]
    business_date: Name | None = None
    label_delay_days: int | None = Field(None, ge=0)
    """Days after the event that a label becomes known, where no column says when."""
    maturity_days: int | None = Field(None, ge=0)
    columns: LabelColumns

    @field_validator("path")
    @classmethod
    def _path_stays_inside(cls, path: str | None) -> str | None:
        return None if path is None else _inside(path)

    @model_validator(mode="after")
    def _hangs_together(self) -> Labels:
        wrong = []
        if self.completeness == "frauds_only" and self.maturity_days is None:
            wrong.append("frauds_only needs maturity_days")
        if (self.columns.label_time is None) == (self.label_delay_days is None):
            wrong.append("give either columns.label_time or label_delay_days")
        if self.path is not None:
            if self.label_delay_days is not None:
                wrong.append("a source of its own has no event times: give columns.label_time")
            if self.columns.transaction_id is None:
                wrong.append("a source of its own needs columns.transaction_id")
            if self.business_date is None:
                wrong.append("a source of its own needs business_date")
        elif self.business_date is not None or self.columns.transaction_id is not None:
            wrong.append("business_date and columns.transaction_id belong to a source of its own")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @property
    def policy(self) -> LabelPolicy:
        """What the absence of a label means."""
        return LabelPolicy(self.maturity_days if self.completeness == "frauds_only" else None)


class Readiness(_Part):
    """How a delivery says that it is complete."""

    marker: Name
    """A file under the source; `{business_date}` stands for the date (YYYY-MM-DD)."""

    @field_validator("marker")
    @classmethod
    def _marker_names_the_date(cls, marker: str) -> str:
        if "{business_date}" not in marker:
            raise ValueError("the marker has to hold {business_date}")
        return _inside(marker)


class Mapping(_Part):
    """A bank's source, whole."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    refunds: Literal["refused", "negative"]
    zone: str = "UTC"
    line_breaks: Literal["refused", "allowed"] = "refused"
    """Whether fields of a CSV source may hold line breaks. No reader can tell them from rows that
    stray quotes have joined; `allowed` says that the source quotes as it should (RFC 4180)."""
    pseudonymise: tuple[IdColumn, ...] = ()
    transactions: Transactions
    labels: Labels | None = None
    readiness: Readiness | None = None

    @field_validator("zone")
    @classmethod
    def _zone_is_known(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{zone!r} is no IANA time zone") from None
        return zone

    @property
    def label_policy(self) -> LabelPolicy:
        """What the absence of a label means; without labels nothing is ever known."""
        return self.labels.policy if self.labels else LabelPolicy()


def _inside(path: str) -> str:
    parts = path.split("/")
    if path.startswith(("/", "\\")) or ".." in parts or ":" in path or "\0" in path:
        raise ValueError(f"{path!r} has to lie under the source")
    return path.strip("/")


def shipped_mappings() -> tuple[str, ...]:
    """Names of the mappings that come with the package."""
    folder = resources.files("jobs.deliveries").joinpath("mappings")
    names = (place.name for place in folder.iterdir() if place.name.endswith(".toml"))
    return tuple(sorted(name.removesuffix(".toml") for name in names))


def load_mapping(name_or_path: str) -> Mapping:
    """A mapping by its shipped name or from a TOML file.

    Raises:
        UsageError: there is none of this name, the file cannot be read, or it does not hold;
            all that is wrong with a file is listed.
    """
    if name_or_path in shipped_mappings():
        shipped = resources.files("jobs.deliveries").joinpath("mappings", f"{name_or_path}.toml")
        return _parsed(shipped.read_text(encoding="utf-8"), name_or_path)
    place = Path(name_or_path)
    if not place.is_file():
        raise UsageError(
            f"There is no mapping {name_or_path!r}: neither shipped nor a file.",
            expected=f"one of {', '.join(shipped_mappings())}, or the path of a TOML file.",
            remedy="correct --mapping.",
        )
    try:
        text = place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(name_or_path, str(error)) from None
    return _parsed(text, name_or_path)


def _parsed(text: str, where: str) -> Mapping:
    try:
        content: dict[str, Any] = tomllib.loads(text)
        return Mapping.model_validate(content)
    except tomllib.TOMLDecodeError as error:
        raise _unusable(where, str(error)) from None
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'it'}: {item['msg']}"
            for item in error.errors()
        )
        raise _unusable(where, wrong) from None


def _unusable(where: str, wrong: str) -> UsageError:
    return UsageError(
        f"The mapping {where} does not hold: {wrong}.",
        expected="a TOML file with name, currency, refunds, [transactions] and its columns.",
        remedy="correct what is named; `handbook` and `simulated` are examples.",
    )
