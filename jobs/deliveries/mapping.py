"""The mapping of a bank's columns to ours: a TOML file, validated before any row is read.

    mapping = load_mapping("handbook")            # shipped with the package
    mapping = load_mapping("/etc/fraud/bank.toml")

Times are ISO 8601 (`2018-04-01 10:00:00`, `2018-04-01T10:00:00+02:00`) unless `[format]` says how
they are written. A time without a zone is a local time of `zone`. Amounts are rounded half up to
three decimals.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, field_validator, model_validator

from feature_defs.attributes import ORIGINAL_AMOUNT, ORIGINAL_CURRENCY
from feature_defs.errors import UsageError
from feature_defs.labels import LabelPolicy
from feature_defs.sources import HAS_TIME_OF_DAY, MONEY, TRANSACTIONS
from jobs.deliveries.currencies import Currencies
from jobs.deliveries.label_mapping import Labels
from jobs.deliveries.mapping_section import Name, Section, relative_path
from jobs.deliveries.text_format import TextFormat

EVENT_DATE = "event_date"
# Delta does not allow these characters in column names. The dot is here because Spark reads it as
# a path into a struct.
FORBIDDEN_IN_COLUMN_NAMES = " .,;{}()\n\r\t=`\0"

IdColumn = Literal["transaction_id", "card_id", "merchant_id"]
AttributeKind = Literal["numeric", "categorical", "money"]
# Types of attribute columns in our table, by kind of attribute.
ATTRIBUTE_TYPES: dict[str, str] = {"numeric": "double", "categorical": "string", "money": MONEY}
REFUSED = "refused"


class TransactionColumns(Section):
    """The source column of each required transaction column."""

    transaction_id: Name
    event_time: Name
    card_id: Name
    merchant_id: Name
    amount: Name
    currency: Name | None = None
    """Column of the amount's currency; unset: every amount is in the declared currency."""


class AttributeColumn(Section):
    """A further column to keep: where it comes from, and what its values are."""

    column: Name
    kind: AttributeKind


class Transactions(Section):
    """The transactions: their location and their columns."""

    path: str = ""
    """Path below the source; empty for the source itself."""
    business_date: Name
    """Source column of the business date, or `event_date` for the date of the event (UTC)."""
    columns: TransactionColumns
    no_merchant: Name = REFUSED
    """`refused`, or the merchant that payments without one get, such as `cash`."""
    attributes: dict[Name, AttributeColumn] = {}
    """Further columns to keep, by their name in our tables. The short form `name = "kind"` keeps a
    source column under its own name."""

    @field_validator("path")
    @classmethod
    def _path_is_below_source(cls, path: str) -> str:
        return relative_path(path)

    @field_validator("attributes", mode="before")
    @classmethod
    def _short_form(cls, attributes: Any) -> Any:
        if not isinstance(attributes, dict):
            return attributes
        return {
            name: {"column": name, "kind": value} if isinstance(value, str) else value
            for name, value in attributes.items()
        }

    @field_validator("attributes")
    @classmethod
    def _attributes_have_valid_names(
        cls, attributes: dict[str, AttributeColumn]
    ) -> dict[str, AttributeColumn]:
        ours = {column.name for column in TRANSACTIONS.columns} | {HAS_TIME_OF_DAY}
        for name in attributes:
            if name.lower() in ours:
                raise ValueError(f"{name} is already a column of the table `transactions`")
            if any(character in FORBIDDEN_IN_COLUMN_NAMES for character in name):
                raise ValueError(f"{name!r} contains a character that a table column cannot have")
        if len({name.lower() for name in attributes}) < len(attributes):
            raise ValueError("two attributes differ only in upper and lower case")
        return attributes


class Readiness(Section):
    """How a delivery is marked as complete."""

    marker: Name
    """Path of a file below the source; `{business_date}` is replaced by the date (YYYY-MM-DD)."""

    @field_validator("marker")
    @classmethod
    def _marker_contains_date(cls, marker: str) -> str:
        if "{business_date}" not in marker:
            raise ValueError("the marker must contain {business_date}")
        return relative_path(marker)


class Mapping(Section):
    """The complete mapping of a bank's source."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    refunds: Literal["refused", "negative"]
    zone: str = "UTC"
    line_breaks: Literal["refused", "allowed"] = "refused"
    """Whether CSV fields may contain line breaks. No reader can tell them from rows that stray
    quotes have joined. Use `allowed` only if the source quotes correctly (RFC 4180)."""
    pseudonymise: tuple[IdColumn, ...] = ()
    format: TextFormat = TextFormat()
    currencies: Currencies = {}
    """Rates of other currencies into the declared one; their payments are converted."""
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

    @model_validator(mode="after")
    def _currencies_can_be_converted(self) -> Mapping:
        errors = []
        if self.currencies and self.transactions.columns.currency is None:
            errors.append("[currencies] needs transactions.columns.currency")
        if self.currencies:
            errors += [
                f"{name} is written by the conversion and cannot be an attribute too"
                for name in (ORIGINAL_AMOUNT, ORIGINAL_CURRENCY)
                if name in self.transactions.attributes
            ]
        if self.currency in self.currencies:
            errors.append(f"{self.currency} is the declared currency and needs no rate")
        if errors:
            raise ValueError("; ".join(errors))
        return self

    @property
    def attribute_types(self) -> dict[str, str]:
        """Return the Spark SQL type of each attribute column of our table."""
        types = {
            name: ATTRIBUTE_TYPES[attribute.kind]
            for name, attribute in self.transactions.attributes.items()
        }
        if self.currencies:
            types |= {ORIGINAL_AMOUNT: MONEY, ORIGINAL_CURRENCY: "string"}
        return types

    @property
    def label_policy(self) -> LabelPolicy:
        """Return what a missing label means; in a source without labels, "not known yet"."""
        return self.labels.policy if self.labels else LabelPolicy()


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
