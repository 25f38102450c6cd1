"""Row rules: why a row is refused, by name, with the sentence a person reads.

Each rule is one pure function of parsed columns (`jobs/quality/rows/transactions.py` makes them); a row may
break several. Zero is an amount like any other (card checks and reservations have it). Text is
text: an id may hold markup or quotes, and whoever shows it escapes it.
"""

from __future__ import annotations

from collections.abc import Mapping as Entries
from collections.abc import Sequence
from enum import Enum

from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.deliveries.mapping import Mapping
from jobs.quality.rows.parsing import MAX_AMOUNT, is_card_number

MAX_ID_CHARACTERS = 256
IDS = ("transaction_id", "card_id", "merchant_id")


class Reason(Enum):
    """Why a row was refused; the name in small letters is what the quarantine holds."""

    MALFORMED_RECORD = "The record does not have the columns that the header names."
    RECORD_OF_MANY_LINES = "The record goes over several lines and may hold rows nobody has read."
    UNREADABLE_TEXT = "A text is no UTF-8, or has lost characters on its way here."
    UNREADABLE_BUSINESS_DATE = "The delivery's date is missing or is no date."
    MISSING_TRANSACTION_ID = "The row has no transaction id."
    MISSING_CARD_ID = "The row has no card id."
    MISSING_MERCHANT_ID = "The row has no merchant id."
    OVERSIZED_ID = f"An id is longer than {MAX_ID_CHARACTERS} characters."
    CARD_NUMBER_IN_ID = "An id looks like a card number and is not pseudonymised."
    MISSING_EVENT_TIME = "The row does not say when it happened."
    UNPARSABLE_EVENT_TIME = "The time of the event is no ISO 8601 time."
    NONEXISTENT_LOCAL_TIME = "A local time never was: clocks were set forward over it."
    EVENT_AFTER_DELIVERY = "The event lies after the date of its delivery (UTC)."
    TOO_LATE = "The event is older than late_days before its delivery."
    MISSING_AMOUNT = "The row has no amount."
    UNPARSABLE_AMOUNT = "The amount is no number."
    AMOUNT_NOT_FINITE = "The amount is infinite or not a number."
    AMOUNT_OUT_OF_RANGE = f"The amount has too many digits or lies beyond {MAX_AMOUNT:,}."
    NEGATIVE_AMOUNT = "The amount is negative, and the mapping refuses refunds."
    UNPARSABLE_ATTRIBUTE = "A numeric attribute is no number."
    IDENTICAL_DUPLICATE = "The delivery holds the same row more than once; one was accepted."
    CONFLICTING_DUPLICATE = "Rows of this transaction id say different things."
    DUPLICATE = "The same row was accepted in another night."
    MISSING_IS_FRAUD = "The label does not say whether it was fraud."
    UNPARSABLE_IS_FRAUD = "The label is neither yes nor no."
    MISSING_LABEL_TIME = "The label does not say when it became known."
    UNPARSABLE_LABEL_TIME = "The time of the label is no ISO 8601 time."

    @property
    def code(self) -> str:
        """The name as the quarantine holds it."""
        return self.name.lower()


def sentence(code: str) -> str:
    """The sentence behind a code; an unknown code is its own sentence."""
    return Reason[code.upper()].value if code.upper() in Reason.__members__ else code


def reason(why: Reason, refused: Column) -> Column:
    """Null when the row passes, the reason otherwise."""
    return F.when(refused, F.lit(why.code))


def reasons(rules: Entries[Reason, Column]) -> Column:
    """All reasons of a row, in the order of the rules; empty when it passes."""
    return F.array_compact(F.array(*(reason(why, refused) for why, refused in rules.items())))


def transaction_rules(mapping: Mapping, late_days: int) -> dict[Reason, Column]:
    """What refuses a transaction."""
    return {
        **record_rules(),
        Reason.MISSING_TRANSACTION_ID: F.col("transaction_id").isNull(),
        Reason.MISSING_CARD_ID: F.col("card_id").isNull(),
        Reason.MISSING_MERCHANT_ID: F.col("merchant_id").isNull(),
        **id_rules([name for name in IDS if name not in mapping.pseudonymise]),
        **_event_rules(late_days),
        **_amount_rules(mapping),
        Reason.UNPARSABLE_ATTRIBUTE: F.col("attribute_unparsable"),
    }


def record_rules() -> dict[Reason, Column]:
    """What refuses a record of any kind, whatever its columns mean."""
    return {
        Reason.MALFORMED_RECORD: F.col("malformed_record").isNotNull(),
        Reason.RECORD_OF_MANY_LINES: F.col("of_many_lines"),
        Reason.UNREADABLE_TEXT: F.col("text_unreadable"),
        Reason.UNREADABLE_BUSINESS_DATE: ~F.col("business_date_readable"),
    }


def id_rules(names: Sequence[str]) -> dict[Reason, Column]:
    """What refuses an id that is not pseudonymised."""
    if not names:
        return {}
    return {
        Reason.OVERSIZED_ID: _any([F.length(name) > MAX_ID_CHARACTERS for name in names]),
        Reason.CARD_NUMBER_IN_ID: _any([is_card_number(F.col(name)) for name in names]),
    }


def _any(conditions: Sequence[Column]) -> Column:
    found = F.lit(False)
    for condition in conditions:
        found = found | F.coalesce(condition, F.lit(False))
    return found


def time_rules(name: str, missing: Reason, unparsable: Reason) -> dict[Reason, Column]:
    """What refuses a time in itself."""
    there, exists = F.col(f"{name}_given"), F.col(f"{name}_exists")
    return {
        missing: ~there,
        unparsable: there & F.col(name).isNull() & exists,
        Reason.NONEXISTENT_LOCAL_TIME: ~exists,
    }


def _event_rules(late_days: int) -> dict[Reason, Column]:
    """Dates are compared in UTC, so that partitions bound the times of their events."""
    happened = F.to_date("event_time")
    sure = F.col("business_date_readable")
    return {
        **time_rules("event_time", Reason.MISSING_EVENT_TIME, Reason.UNPARSABLE_EVENT_TIME),
        Reason.EVENT_AFTER_DELIVERY: sure & (happened > F.col("business_date")),
        Reason.TOO_LATE: sure & (happened < F.date_sub("business_date", late_days)),
    }


def _amount_rules(mapping: Mapping) -> dict[Reason, Column]:
    there, is_number = F.col("amount_given"), F.col("amount_is_number")
    finite, value = F.col("amount_is_finite"), F.col("amount")
    rules = {
        Reason.MISSING_AMOUNT: ~there,
        Reason.UNPARSABLE_AMOUNT: there & finite & ~is_number,
        Reason.AMOUNT_NOT_FINITE: there & ~finite,
        Reason.AMOUNT_OUT_OF_RANGE: there & finite & is_number & value.isNull(),
    }
    if mapping.refunds == "refused":
        rules[Reason.NEGATIVE_AMOUNT] = value < 0
    return rules


def label_rules() -> dict[Reason, Column]:
    """What refuses a label, wherever it came from."""
    there = F.col("is_fraud_given")
    return {
        Reason.MISSING_IS_FRAUD: ~there,
        Reason.UNPARSABLE_IS_FRAUD: there & F.col("is_fraud").isNull(),
        **time_rules("label_time", Reason.MISSING_LABEL_TIME, Reason.UNPARSABLE_LABEL_TIME),
    }
