"""Row rules: each reason code for quarantine, its sentence for readers, and its condition.

Each rule is a pure function of parsed columns (`jobs/quality/rows/transactions.py` and
`labels.py` make them). A row can fail several rules. An amount of zero is valid: card checks and
reservations have it. Ids are opaque text and may contain markup or quotes; the code that shows
an id must escape it.
"""

from __future__ import annotations

from collections.abc import Mapping as Entries
from collections.abc import Sequence
from enum import Enum

from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.deliveries.mapping import Mapping
from jobs.deliveries.reading import HAS_INVALID_UTF8, IS_MULTILINE, MALFORMED_RECORD
from jobs.quality.rows.columns import (
    AMOUNT_IS_FINITE,
    AMOUNT_IS_NUMBER,
    HAS_FOREIGN_CURRENCY,
    HAS_INVALID_ATTRIBUTE,
    HAS_VALID_BUSINESS_DATE,
    local_time_flag,
    presence_flag,
)
from jobs.quality.rows.numbers import MAX_AMOUNT
from jobs.quality.rows.parsing import is_card_number

MAX_ID_CHARACTERS = 256
IDS = ("transaction_id", "card_id", "merchant_id")


class Reason(Enum):
    """Why a row is quarantined: a code, and the sentence that reports show for it.

    The code is the name in lower case. It is stored in `quarantine`, so it must not change.
    """

    MALFORMED_RECORD = "The record does not have the same columns as the header."
    RECORD_OF_MANY_LINES = "The record spans several lines and may contain other rows."
    UNREADABLE_TEXT = "A text is not valid UTF-8, or has lost characters in transfer."
    UNREADABLE_BUSINESS_DATE = "The business date is missing or is not a valid date."
    MISSING_TRANSACTION_ID = "The transaction id is missing."
    MISSING_CARD_ID = "The card id is missing."
    MISSING_MERCHANT_ID = "The merchant id is missing."
    OVERSIZED_ID = f"An id is longer than {MAX_ID_CHARACTERS} characters."
    CARD_NUMBER_IN_ID = "An id looks like a card number and is not pseudonymised."
    MISSING_EVENT_TIME = "The event time is missing."
    UNPARSABLE_EVENT_TIME = "The event time is not a valid time as the mapping writes times."
    NONEXISTENT_LOCAL_TIME = "The local time does not exist (skipped by daylight saving)."
    EVENT_AFTER_DELIVERY = "The event is later than the business date (UTC)."
    TOO_LATE = "The event is more than late_days days before the business date."
    MISSING_AMOUNT = "The amount is missing."
    UNPARSABLE_AMOUNT = "The amount is not a valid number as the mapping writes numbers."
    AMOUNT_NOT_FINITE = "The amount is infinite or NaN."
    AMOUNT_OUT_OF_RANGE = f"The amount has too many digits or exceeds {MAX_AMOUNT:,}."
    NEGATIVE_AMOUNT = "The amount is negative, and the mapping does not allow refunds."
    FOREIGN_CURRENCY = "The currency is missing, or it is not the declared one and has no rate."
    UNPARSABLE_ATTRIBUTE = "A numeric attribute is not a valid number."
    IDENTICAL_DUPLICATE = "The delivery contains this row more than once; one copy was accepted."
    CONFLICTING_DUPLICATE = "Rows with this transaction id have conflicting values."
    DUPLICATE = "The same row was already accepted for another night."
    MISSING_IS_FRAUD = "The fraud flag of the label is missing."
    UNPARSABLE_IS_FRAUD = "The fraud flag of the label is neither yes nor no."
    MISSING_LABEL_TIME = "The label time is missing."
    UNPARSABLE_LABEL_TIME = "The label time is not a valid time as the mapping writes times."

    @property
    def code(self) -> str:
        """Return the code as `quarantine` stores it."""
        return self.name.lower()


def sentence(code: str) -> str:
    """Return the sentence for a reason code; an unknown code is returned unchanged."""
    return Reason[code.upper()].value if code.upper() in Reason.__members__ else code


def reason_if(reason: Reason, fails: Column) -> Column:
    """Return the reason code if the row fails, else null."""
    return F.when(fails, F.lit(reason.code))


def failed_reasons(rules: Entries[Reason, Column]) -> Column:
    """Return the codes of all rules that a row fails, in the order of the rules."""
    return F.array_compact(F.array(*(reason_if(reason, fails) for reason, fails in rules.items())))


def transaction_rules(mapping: Mapping, late_days: int) -> dict[Reason, Column]:
    """Return the rules for transactions: each reason with the condition of a failing row."""
    return {
        **record_rules(),
        Reason.MISSING_TRANSACTION_ID: F.col("transaction_id").isNull(),
        Reason.MISSING_CARD_ID: F.col("card_id").isNull(),
        Reason.MISSING_MERCHANT_ID: F.col("merchant_id").isNull(),
        **id_rules([name for name in IDS if name not in mapping.pseudonymise]),
        **_event_rules(late_days),
        **_amount_rules(mapping),
        Reason.UNPARSABLE_ATTRIBUTE: F.col(HAS_INVALID_ATTRIBUTE),
    }


def record_rules() -> dict[Reason, Column]:
    """Return the rules for any record, whether transaction or label."""
    return {
        Reason.MALFORMED_RECORD: F.col(MALFORMED_RECORD).isNotNull(),
        Reason.RECORD_OF_MANY_LINES: F.col(IS_MULTILINE),
        Reason.UNREADABLE_TEXT: F.col(HAS_INVALID_UTF8),
        Reason.UNREADABLE_BUSINESS_DATE: ~F.col(HAS_VALID_BUSINESS_DATE),
    }


def id_rules(names: Sequence[str]) -> dict[Reason, Column]:
    """Return the rules for ids that are not pseudonymised."""
    if not names:
        return {}
    return {
        Reason.OVERSIZED_ID: _any([F.length(name) > MAX_ID_CHARACTERS for name in names]),
        Reason.CARD_NUMBER_IN_ID: _any([is_card_number(F.col(name)) for name in names]),
    }


def _any(conditions: Sequence[Column]) -> Column:
    result = F.lit(False)
    for condition in conditions:
        result = result | F.coalesce(condition, F.lit(False))
    return result


def time_rules(name: str, missing: Reason, unparsable: Reason) -> dict[Reason, Column]:
    """Return the rules for one time: it is present, it is valid, and its local time existed."""
    present, exists = F.col(presence_flag(name)), F.col(local_time_flag(name))
    return {
        missing: ~present,
        unparsable: present & F.col(name).isNull() & exists,
        Reason.NONEXISTENT_LOCAL_TIME: ~exists,
    }


def _event_rules(late_days: int) -> dict[Reason, Column]:
    """Return the rules for event times.

    Dates are compared in UTC, so the partition of a row bounds its event time.
    """
    event_date = F.to_date("event_time")
    has_date = F.col(HAS_VALID_BUSINESS_DATE)
    return {
        **time_rules("event_time", Reason.MISSING_EVENT_TIME, Reason.UNPARSABLE_EVENT_TIME),
        Reason.EVENT_AFTER_DELIVERY: has_date & (event_date > F.col("business_date")),
        Reason.TOO_LATE: has_date & (event_date < F.date_sub("business_date", late_days)),
    }


def _amount_rules(mapping: Mapping) -> dict[Reason, Column]:
    present, is_number = F.col(presence_flag("amount")), F.col(AMOUNT_IS_NUMBER)
    is_finite, value = F.col(AMOUNT_IS_FINITE), F.col("amount")
    rules = {
        Reason.MISSING_AMOUNT: ~present,
        Reason.UNPARSABLE_AMOUNT: present & is_finite & ~is_number,
        Reason.AMOUNT_NOT_FINITE: present & ~is_finite,
        Reason.AMOUNT_OUT_OF_RANGE: present & is_finite & is_number & value.isNull(),
    }
    if mapping.refunds == "refused":
        rules[Reason.NEGATIVE_AMOUNT] = value < 0
    if mapping.transactions.columns.currency is not None:
        rules[Reason.FOREIGN_CURRENCY] = F.col(HAS_FOREIGN_CURRENCY)
    return rules


def label_rules() -> dict[Reason, Column]:
    """Return the rules for labels, from either source."""
    present = F.col(presence_flag("is_fraud"))
    return {
        Reason.MISSING_IS_FRAUD: ~present,
        Reason.UNPARSABLE_IS_FRAUD: present & F.col("is_fraud").isNull(),
        **time_rules("label_time", Reason.MISSING_LABEL_TIME, Reason.UNPARSABLE_LABEL_TIME),
    }
