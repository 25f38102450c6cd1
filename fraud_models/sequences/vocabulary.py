"""The vocabulary of a categorical column: its most frequent values in the training data.

A code is the place of a value in the vocabulary. All values outside the vocabulary, also those
that no one had seen before, share one more code, `other`. A missing value has no code: it is NaN
among the values, an input of its own for the network, and never an output.

The vocabulary is limited to the most frequent values, so that memory does not depend on the number
of different values: with 100,000 of them and a limit of 200, a model holds 201 classes. The price:
rare values cannot be told apart. A feature that counts them (the share of the card's payments with
this value) can.

>>> vocabulary = Vocabulary.fit({"grocery": 4, "fuel": 4, "toys": 1, "travel": 1}, 10, max_values=3)
>>> vocabulary.values, vocabulary.other_share
(('fuel', 'grocery', 'toys'), 0.1)
>>> vocabulary.codes(pa.array(["grocery", "travel", "never seen", None])).tolist()
[1.0, 3.0, 3.0, nan]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_defs.errors import FraudScoringError, UsageError


@dataclass(frozen=True)
class Vocabulary:
    """The values of a categorical column that have a code of their own."""

    values: tuple[str, ...]
    """In the order of their codes: the most frequent first, ties in alphabetical order."""
    other_share: float = 0.0
    """Share of the training events with a value that has none of these codes, 0 to 1."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        are_texts = all(isinstance(value, str) for value in self.values)
        if not are_texts or len(set(self.values)) != len(self.values):
            raise UsageError(
                "A vocabulary has duplicate values, or values that are no text.",
                expected="different texts.",
                remedy="count each value of the training events once, without missing values.",
            )

    @classmethod
    def fit(cls, counts: Mapping[str, int], num_present: int, max_values: int) -> Vocabulary:
        """Return the `max_values` most frequent values; of equal counts the first in the alphabet.

        `counts` holds the number of training events of at least the most frequent values;
        `num_present` is the number of training events that have any value.
        """
        ordered = sorted(counts, key=lambda value: (-counts[value], value))
        kept = tuple(ordered[:max_values])
        num_others = num_present - sum(counts[value] for value in kept)
        return cls(kept, num_others / num_present if num_present else 0.0)

    @property
    def other(self) -> int:
        """Code of all other values: the number of values."""
        return len(self.values)

    @property
    def num_classes(self) -> int:
        """Classes at the output: the values and `other`."""
        return len(self.values) + 1

    @cached_property
    def _value_set(self) -> pa.Array:
        return pa.array(self.values, pa.string())

    def codes(self, column: pa.Array) -> npt.NDArray[np.float32]:
        """Return the codes [N] of a column of texts, NaN where missing.

        Codes are numbers of the type of the other columns, so that all values of an event stay in
        one array. Whole numbers up to 2**24 are exact in float32.

        Raises:
            FraudScoringError: the column is not text; rebuild the features of these days.
        """
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if not is_text and not pa.types.is_null(column.type):
            raise FraudScoringError(
                f"A categorical column has the type {column.type}.",
                expected="text.",
                remedy="rebuild the features of these days.",
            )
        texts = column.cast(pa.string())
        places = pc.fill_null(pc.index_in(texts, value_set=self._value_set), self.other)
        codes = np.asarray(places).astype(np.float32)
        codes[np.asarray(texts.is_null())] = np.nan
        return codes

    def texts(self, codes: npt.ArrayLike) -> pa.Array:
        """Return the values [N] of codes [N]; null for `other` and where missing (NaN)."""
        numbers = np.asarray(codes, dtype=np.float64)
        is_value = np.isfinite(numbers) & (numbers < self.other)
        places = pa.array(np.where(is_value, numbers, 0).astype(np.int64), mask=~is_value)
        return self._value_set.take(places)

    def to_dict(self) -> dict[str, Any]:
        """Return the vocabulary as plain values for JSON."""
        return {"values": list(self.values), "other_share": self.other_share}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Vocabulary:
        """Return the vocabulary that `to_dict` wrote.

        Raises:
            UsageError: values occur twice or are no text; restore the file.
        """
        return cls(tuple(values["values"]), float(values["other_share"]))
