"""Features derived from other features of the same transaction: ratios and smoothed rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from feature_defs.errors import DefinitionError
from feature_defs.feature import CYCLES, LABEL_FUNCTIONS, Feature, Function, Kind

# Above this weight the data have no effect on the rate.
MAX_PRIOR_WEIGHT = 1e9
EVENT_COUNTS = LABEL_FUNCTIONS | {Function.COUNT, Function.DISTINCT}


@dataclass(frozen=True)
class Ratio:
    """One feature divided by another; null where either is null or the denominator is 0."""

    numerator: str
    denominator: str
    description: str

    def feature(self, features: Mapping[str, Feature]) -> Feature:
        """Return the derived feature; `features` must contain its parts.

        Raises:
            DefinitionError: a part does not exist or has the wrong kind.
        """
        name = f"{self.numerator}_over_{self.denominator}"
        parts = _parts(name, features, self.numerator, self.denominator)
        not_divisible = [part.name for part in parts if part.kind in CYCLES]
        if not_divisible or self.numerator == self.denominator:
            first = not_divisible[0] if not_divisible else self.numerator
            raise DefinitionError(
                f"{name}: {first} cannot be part of this ratio; use two different amounts, counts, "
                "rates or durations"
            )
        return Feature(name, Kind.RATIO, self.description, function=Function.RATIO, parts=parts)


@dataclass(frozen=True)
class SmoothedRate:
    """A rate of two counts with a prior: `(part + rate * weight) / (whole + weight)`.

    So ten frauds in twenty transactions give a higher rate than one in two.
    """

    part: str
    whole: str
    prior_rate: float
    prior_weight: float
    description: str

    def __post_init__(self) -> None:
        if not 0 < self.prior_rate < 1:
            raise DefinitionError(
                f"{self.part}: a prior rate must be between 0 and 1, not {self.prior_rate}"
            )
        if not 0 < self.prior_weight <= MAX_PRIOR_WEIGHT:
            raise DefinitionError(
                f"{self.part}: a prior weight must be above 0 and at most {MAX_PRIOR_WEIGHT:g} "
                f"transactions, not {self.prior_weight}"
            )

    def feature(self, features: Mapping[str, Feature]) -> Feature:
        """Return the derived feature; `features` must contain its parts.

        Raises:
            DefinitionError: a part does not exist or has the wrong kind.
        """
        name = f"{self.part}_smoothed"
        parts = _parts(name, features, self.part, self.whole)
        for part in parts:
            if part.kind is not Kind.COUNT:
                raise DefinitionError(
                    f"{name}: {part.name} is not a count; both parts must be counts"
                )
        part, whole = parts
        if (part.entity, part.window) != (whole.entity, whole.window) or not _counts_subset(
            whole, part
        ):
            raise DefinitionError(
                f"{name}: {part.name} does not count a subset of what {whole.name} counts; a part "
                "and its whole need the same entity and the same window"
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


def _counts_subset(whole: Feature, part: Feature) -> bool:
    """Return whether `part` counts only events that `whole` counts too."""
    if whole.where is not None or whole == part:
        return False
    if whole.function is Function.LABEL_COUNT:
        return part.function is Function.FRAUD_COUNT
    return whole.function is Function.COUNT and part.function in EVENT_COUNTS


def _parts(derived: str, features: Mapping[str, Feature], *names: str) -> tuple[Feature, ...]:
    missing = [name for name in names if name not in features]
    if missing:
        raise DefinitionError(
            f"{derived}: there is no feature {' or '.join(missing)}; use one of: "
            f"{', '.join(features)}"
        )
    return tuple(features[name] for name in names)
