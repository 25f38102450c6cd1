"""All expectations of all gates with default settings, for the README and its tests."""

from __future__ import annotations

from feature_defs.catalogue import FEATURES
from jobs.quality.gate import Expectation
from jobs.quality.suites import features, model, monitor, scores, transactions


def all_expectations() -> dict[str, list[Expectation]]:
    """Return the expectations by gate, in the order of the night.

    `monitor` comes last, because it cannot stop a night. Gate 2 is that of a lake with all standard
    attributes.
    """
    of_features = features.suite_of(FEATURES)
    return {
        transactions.GATE: [*transactions.schema_expectations(), *transactions.expectations()],
        of_features.gate: [*of_features.schema_expectations(), *of_features.expectations()],
        model.GATE: model.expectations(),
        scores.SUITE.gate: [*scores.SUITE.schema_expectations(), *scores.SUITE.expectations()],
        monitor.GATE: monitor.expectations(),
    }
