"""Vocabularies: which values have a code, and what becomes of the others."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from feature_defs.errors import FraudScoringError, UsageError
from fraud_models.sequences.vocabulary import Vocabulary


def test_most_frequent_values_are_kept_and_ties_are_in_alphabetical_order() -> None:
    counts = {"d": 1, "b": 5, "c": 1, "a": 5, "e": 9}
    for order in (list(counts), list(reversed(counts))):
        fitted = Vocabulary.fit({value: counts[value] for value in order}, 21, max_values=4)
        assert fitted.values == ("e", "a", "b", "c")
        assert fitted.other_share == pytest.approx(1 / 21)


def test_unseen_value_becomes_other_and_missing_has_no_code() -> None:
    vocabulary = Vocabulary(("a", "b"))
    texts = pa.array(["b", None, "never seen", "", "a"])
    for column in (texts, texts.cast(pa.large_string()), texts.dictionary_encode()):
        np.testing.assert_array_equal(vocabulary.codes(column), [1, np.nan, 2, 2, 0])
    assert vocabulary.codes(pa.array([], pa.string())).shape == (0,)
    np.testing.assert_array_equal(vocabulary.codes(pa.nulls(2)), [np.nan, np.nan])


def test_texts_invert_codes() -> None:
    vocabulary = Vocabulary(("a", "b"))
    assert vocabulary.texts([1, 0, 2, np.nan]).to_pylist() == ["b", "a", None, None]
    assert Vocabulary(()).texts([0, np.nan]).to_pylist() == [None, None]


def test_memory_of_a_large_cardinality_is_that_of_the_limit() -> None:
    counts = {f"city {i:06d}": 1 + i % 7 for i in range(100_000)}
    vocabulary = Vocabulary.fit(counts, sum(counts.values()), max_values=200)
    assert vocabulary.num_classes == 201
    assert vocabulary.other_share == pytest.approx(1 - 200 * 7 / sum(counts.values()))


def test_column_without_values_has_the_class_other_only() -> None:
    vocabulary = Vocabulary.fit({}, 0, max_values=10)
    assert (vocabulary.num_classes, vocabulary.other_share) == (1, 0.0)


def test_round_trip() -> None:
    vocabulary = Vocabulary(("é", "a\tb", "‮x"), 0.25)
    assert Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict()))) == vocabulary


def test_numbers_and_duplicates_are_rejected() -> None:
    with pytest.raises(FraudScoringError, match="has the type int64"):
        Vocabulary(("a",)).codes(pa.array([1]))
    for values in (("a", "a"), ("a", 1)):
        with pytest.raises(UsageError, match="duplicate values"):
            Vocabulary(values)  # type: ignore[arg-type]
