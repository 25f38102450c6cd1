"""What the quarantine stores of a rejected row: all source columns as JSON, without card numbers.

Card numbers are never stored. A value that is a card number keeps only its last four digits. In a
row that was rejected for a card number, or that does not fit its header, every run of 13 to 19
digits is masked the same way. If the source is pseudonymised, a record that does not fit its
header or may contain other rows is withheld completely, because ids can be in any of its columns.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.deliveries.mapping import Mapping
from jobs.deliveries.reading import IS_MULTILINE, MALFORMED_RECORD, RAW
from jobs.quality.rows.columns import LABEL_REASONS, REASONS
from jobs.quality.rows.parsing import is_card_number
from jobs.quality.rows.rules import Reason

WITHHELD = '{"withheld":"a malformed record of a pseudonymised source"}'
_DIGIT_RUN = r"(?<![0-9])(?:[0-9][ -]?){9,15}([0-9]{4})(?![0-9])"
_NUMBERS_WITH_FRACTIONS = (T.FloatType, T.DoubleType)
_NESTED = (T.StructType, T.ArrayType, T.MapType)
_WHOLE = (T.ByteType, T.ShortType, T.IntegerType, T.LongType, T.DecimalType)


def raw_for_quarantine(rows: DataFrame, mapping: Mapping) -> Column:
    """Return the source row as JSON; null if neither the row nor its label is quarantined."""
    fields = rows.schema[RAW].dataType
    assert isinstance(fields, T.StructType)
    is_quarantined = (F.size(REASONS) > 0) | (F.size(LABEL_REASONS) > 0)
    return F.when(is_quarantined, raw_json(fields, pseudonymised=bool(mapping.pseudonymise)))


def raw_json(fields: T.StructType, *, pseudonymised: bool) -> Column:
    """Return the source columns of a validated row as JSON, masked or withheld where needed."""
    is_malformed = F.col(MALFORMED_RECORD).isNotNull()
    is_untrusted = is_malformed | F.col(IS_MULTILINE)
    mask_all = F.array_contains(REASONS, Reason.CARD_NUMBER_IN_ID.code) | is_untrusted
    text = F.when(mask_all, _masked_json(fields, is_malformed)).otherwise(
        _json(*(_field_without_card_number(field).alias(field.name) for field in fields))
    )
    if not pseudonymised:
        return text
    return F.when(is_untrusted, F.lit(WITHHELD)).otherwise(text)


def _masked_json(fields: T.StructType, is_malformed: Column) -> Column:
    """Return all columns as JSON strings, because a masked number must be a string."""
    columns = [
        _mask_digit_runs(_field_without_card_number(field)).alias(field.name) for field in fields
    ]
    record = _mask_digit_runs(F.col(MALFORMED_RECORD)).alias("_malformed_record")
    return F.when(is_malformed, _json(*columns, record)).otherwise(_json(*columns))


def _mask_digit_runs(value: Column) -> Column:
    return F.regexp_replace(value.cast("string"), _DIGIT_RUN, "****$1")


def _json(*columns: Column) -> Column:
    return F.to_json(F.struct(*columns), {"ignoreNullFields": "false"})


def _field_without_card_number(field: T.StructField) -> Column:
    """Return the value of a source column, masked if it is a card number."""
    value = F.col(RAW).getField(field.name)
    if isinstance(field.dataType, _NESTED):
        # A nested value can contain a card number anywhere, so mask every digit run.
        return _mask_digit_runs(F.to_json(value))
    shown = value.cast("string")
    if isinstance(field.dataType, _NUMBERS_WITH_FRACTIONS):
        # Null for a number with more than 38 digits, which cannot be a card number.
        text = value.try_cast("decimal(38,0)").cast("string")
    elif isinstance(field.dataType, (T.StringType, *_WHOLE)):
        text = shown
    else:
        return value
    masked = F.concat(F.lit("****"), F.right(F.trim(text), F.lit(4)))
    return F.when(is_card_number(text), masked).otherwise(shown)
