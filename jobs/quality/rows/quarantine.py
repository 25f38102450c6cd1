"""What the quarantine keeps of a refused row: all its source columns as JSON, but no secrets.

Card numbers are never stored: any value that is one keeps its last four digits, and in rows that
were refused for one, or did not fit their header, so does every run of 13 to 19 digits. Of a
pseudonymised source a record that does not fit its header, or may hold other rows, is withheld
whole, for ids may stand in any of its columns.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.deliveries.mapping import Mapping
from jobs.quality.rows.parsing import is_card_number
from jobs.quality.rows.rules import Reason

WITHHELD = '{"withheld":"a malformed record of a pseudonymised source"}'
_DIGIT_RUN = r"(?<![0-9])(?:[0-9][ -]?){9,15}([0-9]{4})(?![0-9])"
_NUMBERS_WITH_FRACTIONS = (T.FloatType, T.DoubleType)
_NESTED = (T.StructType, T.ArrayType, T.MapType)
_WHOLE = (T.ByteType, T.ShortType, T.IntegerType, T.LongType, T.DecimalType)


def raw_of_refused(rows: DataFrame, mapping: Mapping) -> Column:
    """`raw` of a judged row: null unless it, or its label, was refused."""
    fields = rows.schema["raw"].dataType
    assert isinstance(fields, T.StructType)
    refused = (F.size("reasons") > 0) | (F.size("label_reasons") > 0)
    return F.when(refused, raw_json(fields, pseudonymised=bool(mapping.pseudonymise)))


def raw_json(fields: T.StructType, *, pseudonymised: bool) -> Column:
    """The source columns of a judged row as JSON."""
    malformed = F.col("malformed_record").isNotNull()
    unsure = malformed | F.col("of_many_lines")
    risky = F.array_contains("reasons", Reason.CARD_NUMBER_IN_ID.code) | unsure
    text = F.when(risky, _masked(fields, malformed)).otherwise(
        _json(*(_shown(field).alias(field.name) for field in fields))
    )
    if not pseudonymised:
        return text
    return F.when(unsure, F.lit(WITHHELD)).otherwise(text)


def _masked(fields: T.StructType, malformed: Column) -> Column:
    """All columns as text (a number with a mask in it is none), without runs of digits."""
    columns = [_without_runs(_shown(field)).alias(field.name) for field in fields]
    whole = _without_runs(F.col("malformed_record")).alias("_malformed_record")
    return F.when(malformed, _json(*columns, whole)).otherwise(_json(*columns))


def _without_runs(value: Column) -> Column:
    return F.regexp_replace(value.cast("string"), _DIGIT_RUN, "****$1")


def _json(*columns: Column) -> Column:
    return F.to_json(F.struct(*columns), {"ignoreNullFields": "false"})


def _shown(field: T.StructField) -> Column:
    value = F.col("raw").getField(field.name)
    if isinstance(field.dataType, _NESTED):
        # What stands where in it nobody knows: it is shown as text, and without runs of digits.
        return _without_runs(F.to_json(value))
    shown = value.cast("string")
    if isinstance(field.dataType, _NUMBERS_WITH_FRACTIONS):
        # Of what is too large for it nothing is asked.
        text = value.try_cast("decimal(38,0)").cast("string")
    elif isinstance(field.dataType, (T.StringType, *_WHOLE)):
        text = shown
    else:
        return value
    masked = F.concat(F.lit("****"), F.right(F.trim(text), F.lit(4)))
    return F.when(is_card_number(text), masked).otherwise(shown)
