"""Pseudonyms: replace ids by their HMAC-SHA256 (hex) before anything is written.

The key reaches the Python workers inside a pickled function and nowhere else. It is not in
Spark's settings, plans, logs or user interface, nor on a command line. The price is one pass of
the id columns through Python workers: about a second per million ids and core. The same id gives
the same pseudonym in every column, delivery and table, so labels still match their transactions.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from pydantic import SecretStr
from pyspark.sql import Column
from pyspark.sql.pandas.functions import pandas_udf

from feature_defs.errors import UsageError

MIN_KEY_CHARACTERS = 16


def require_key(key: SecretStr | None) -> SecretStr:
    """Return the pseudonym key if it is set and long enough.

    Raises:
        UsageError: the key is missing or shorter than `MIN_KEY_CHARACTERS`.
    """
    if key is not None and len(key.get_secret_value()) >= MIN_KEY_CHARACTERS:
        return key
    found = "no key" if key is None else f"a key of fewer than {MIN_KEY_CHARACTERS} characters"
    raise UsageError(
        f"The mapping requires pseudonyms, but there is {found}.",
        expected=f"a secret of at least {MIN_KEY_CHARACTERS} characters in FRAUD_PSEUDONYM_KEY.",
        remedy="set the variable and keep the key: another key gives other pseudonyms.",
    )


def pseudonym(value: Column, key: SecretStr) -> Column:
    """Return the HMAC-SHA256 of a string column as hex; null stays null."""
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
    # Pass ids as bytes: as text, one id that is not valid UTF-8 would abort the job.
    return hashed(value.cast("binary"))
