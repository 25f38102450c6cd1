"""Features that are made from other features of the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from feature_defs.errors import DefinitionError
from feature_defs.feature import CYCLES, LABEL_FUNCTIONS, Feature, Function, Kind

# Beyond it the data say nothing.
HEAVIEST_PRIOR = 1e9
COUNTS_OF_EVENTS = LABEL_FUNCTIONS | {Function.COUNT, Function.DISTINCT}


@dataclass(frozen=True)
class Ratio:
    """One feature over another; null where either is, or where there is nothing to divide by."""

    numerator: str
    denominator: str
    description: str

    def feature(self, features: Mapping[str, Feature]) -> Feature:
        """The feature that it makes of those there are."""
        name = f"{self.numerator}_over_{self.denominator}"
        parts = _parts(name, features, self.numerator, self.denominator)
        odd = [part.name for part in parts if part.kind in CYCLES]
        if odd or self.numerator == self.denominator:
            raise DefinitionError(
                f"{name}: {odd[0] if odd else self.numerator} cannot be divided like that; a ratio "
                "is of two different amounts, counts, rates or durations"
            )
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
        if not 0 < self.prior_rate < 1:
            raise DefinitionError(
                f"{self.part}: a prior rate lies between 0 and 1, not {self.prior_rate}"
            )
        if not 0 < self.prior_weight <= HEAVIEST_PRIOR:
            raise DefinitionError(
                f"{self.part}: a prior weighs more than 0 and at most {HEAVIEST_PRIOR:g} "
                f"transactions, not {self.prior_weight}"
            )

    def feature(self, features: Mapping[str, Feature]) -> Feature:
        """The feature that it makes of those there are."""
        name = f"{self.part}_smoothed"
        parts = _parts(name, features, self.part, self.whole)
        for part in parts:
            if part.kind is not Kind.COUNT:
                raise DefinitionError(f"{name}: it is made of counts, and {part.name} is none")
        part, whole = parts
        if (part.entity, part.window) != (whole.entity, whole.window) or not _holds(whole, part):
            raise DefinitionError(
                f"{name}: {part.name} does not count some of what {whole.name} counts; a part and "
                "its whole have one entity and one window"
            )
        prior = (self.prior_rate, self.prior_weight)
        return Feature(
            name,
            Kind.PROBABILITY,
            self.description,
            function=Function.SMOOTHED,
            parts=parts,
            prior=prior,
        )


def _holds(whole: Feature, part: Feature) -> bool:
    """Whether all that one count counts is among what the other does."""
    if whole.where is not None or whole == part:
        return False
    if whole.function is Function.LABEL_COUNT:
        return part.function is Function.FRAUD_COUNT
    return whole.function is Function.COUNT and part.function in COUNTS_OF_EVENTS


def _parts(derived: str, features: Mapping[str, Feature], *names: str) -> tuple[Feature, ...]:
    missing = [name for name in names if name not in features]
    if missing:
        raise DefinitionError(
            f"{derived}: no feature is called {' or '.join(missing)}; there are: "
            f"{', '.join(features)}"
        )
    return tuple(features[name] for name in names)
