"""Pseudonyms: ids replaced by HMAC-SHA256 (hex) before anything is written.

The key travels to the workers inside a pickled function and nowhere else: not in Spark's
settings, plans, logs or interface, nor in a command line. The price is one pass of the id columns
through Python workers, about a second per million ids and core. The same id gives the same
pseudonym, in every column, delivery and table, so labels still find their transactions.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from pydantic import SecretStr
from pyspark.sql import Column
from pyspark.sql.pandas.functions import pandas_udf

from feature_defs.errors import UsageError


def check_key(key: SecretStr | None) -> SecretStr:
    """The key, when there is one.

    Raises:
        UsageError: there is none, or it is too short to keep anything secret.
    """
    if key is not None and len(key.get_secret_value()) >= 16:
        return key
    found = "no key" if key is None else "a key of fewer than 16 characters"
    raise UsageError(
        f"The mapping asks for pseudonyms, and there is {found}.",
        expected="a secret of at least 16 characters in FRAUD_PSEUDONYM_KEY.",
        remedy="set the variable, and keep the key: another one gives other pseudonyms.",
    )


def pseudonym(value: Column, key: SecretStr) -> Column:
    """HMAC-SHA256 of a string column; null stays null."""
    secret = key.get_secret_value().encode()

    def replace(ids: pd.Series) -> pd.Series:
        import hashlib
        import hmac

        return ids.map(
            lambda text: (
                text if text is None else hmac.new(secret, text, hashlib.sha256).hexdigest()
            )
        )

    hashed: Callable[[Column], Column] = pandas_udf(replace, "string")  # type: ignore[call-overload]
    # As bytes: one id that is no UTF-8 would end the whole job on its way to Python.
    return hashed(value.cast("binary"))
