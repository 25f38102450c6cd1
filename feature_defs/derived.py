"""Features that are made from other features of the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from feature_defs.feature import Feature, Function, Kind


@dataclass(frozen=True)
class Ratio:
    """One feature over another; null where either is, or where there is nothing to divide by."""

    numerator: str
    denominator: str
    description: str

    def feature(self, features: Mapping[str, Feature]) -> Feature:
        """The feature that it makes of those there are."""
        parts = _parts(features, self.numerator, self.denominator)
        name = f"{self.numerator}_over_{self.denominator}"
        return Feature(name, Kind.RATIO, self.description, function=Function.RATIO, parts=parts)


@dataclass(frozen=True)
class SmoothedRate:
    """A rate of two counts that begins with a prior: `(part + rate * weight) / (whole + weight)`.

    One fraud of two then says less than ten of twenty.
    """

    part: str
    whole: str
    prior_rate: float
    prior_weight: float
    description: str

    def __post_init__(self) -> None:
        if not 0 <= self.prior_rate <= 1:
            raise ValueError(f"{self.part}: a prior rate lies in [0, 1], not {self.prior_rate}")
        if not 0 < self.prior_weight < float("inf"):
            raise ValueError(f"{self.part}: a prior weighs more than 0, not {self.prior_weight}")

    def feature(self, features: Mapping[str, Feature]) -> Feature:
        """The feature that it makes of those there are."""
        parts = _parts(features, self.part, self.whole)
        for part in parts:
            if part.kind is not Kind.COUNT:
                raise ValueError(f"a smoothed rate is made of counts, and {part.name} is none")
        name = f"{self.part}_smoothed"
        prior = (self.prior_rate, self.prior_weight)
        return Feature(
            name, Kind.RATE, self.description, function=Function.SMOOTHED, parts=parts, prior=prior
        )


def _parts(features: Mapping[str, Feature], *names: str) -> tuple[Feature, ...]:
    missing = [name for name in names if name not in features]
    if missing:
        raise ValueError(
            f"no feature is called {' or '.join(missing)}; there are: {', '.join(features)}"
        )
    return tuple(features[name] for name in names)
