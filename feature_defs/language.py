"""The language of features: frozen definitions that are checked when they are constructed.

Feature names are derived from the definitions, so a name always matches its window.

    CARD_SPEND = FeatureView(
        entity=CARD,
        source=TRANSACTIONS,
        aggregations=(count(days(1, 7, 30)), mean("amount", days(1, 7, 30))),
        description="How often and how much the card spent, this transaction included.",
    )

The `README.md` beside this file lists the functions and shows what a window contains.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from feature_defs.aggregations import (
    KIND_OF_FUNCTION,
    Aggregation,
    count,
    deviation,
    distinct,
    first_time,
    fraud_count,
    fraud_rate,
    hour_share,
    kilometres_since_last,
    label_count,
    maximum,
    mean,
    minimum,
    quantile_rank,
    same_share,
    seconds_between,
    seconds_since_last,
    share,
    speed_since_last,
    standard_deviation,
    total,
)
from feature_defs.attributes import MERCHANT_PLACE, STANDARD_ATTRIBUTES, Attribute
from feature_defs.errors import DefinitionError
from feature_defs.feature import (
    PLACE_FUNCTIONS,
    TEXT_FUNCTIONS,
    Condition,
    Entity,
    Feature,
    Kind,
)
from feature_defs.sources import MONEY_SCALE, NUMBER_SCALE, TRANSACTIONS, Column, Source
from feature_defs.windows import Window, days, hours, minutes

__all__ = [
    "Aggregation",
    "FeatureView",
    "count",
    "days",
    "deviation",
    "distinct",
    "first_time",
    "fraud_count",
    "fraud_rate",
    "hour_share",
    "hours",
    "kilometres_since_last",
    "label_count",
    "maximum",
    "mean",
    "minimum",
    "minutes",
    "quantile_rank",
    "same_share",
    "seconds_between",
    "seconds_since_last",
    "share",
    "speed_since_last",
    "standard_deviation",
    "total",
]


@dataclass(frozen=True)
class FeatureView:
    """Aggregations of the events of one source, per entity; each window gives one feature.

    A view may also read the standard attributes of `attributes.py`, and those that it declares in
    `attributes`: a bank's own.
    """

    entity: Entity
    source: Source
    aggregations: tuple[Aggregation, ...]
    description: str
    attributes: tuple[Attribute, ...] = ()

    def __post_init__(self) -> None:
        items = self.aggregations
        if not isinstance(items, tuple) or not all(isinstance(one, Aggregation) for one in items):
            raise DefinitionError(
                f"view of {self.entity.name}: aggregations must be a tuple, such as "
                "(count(days(7)),); a tuple of one aggregation needs a comma at its end"
            )
        if not items:
            raise DefinitionError(f"view of {self.entity.name}: add at least one aggregation")
        if self.source is not TRANSACTIONS:
            raise DefinitionError(
                f"view of {self.entity.name}: its source must be {TRANSACTIONS.name}, not "
                f"{self.source.name}; use fraud_rate, fraud_count or label_count to read labels"
            )
        errors = self._attribute_errors()
        errors += [text for key in self.entity.keys for text in self._key_errors(key)]
        for aggregation in self.aggregations:
            errors += self._column_errors(aggregation)
            errors += [
                f"{aggregation.title}: the window {window.suffix} starts {window.lookback_days} "
                f"days before the transaction; the limit for {self.source.name} is "
                f"{self.source.max_lookback_days} days"
                for window in aggregation.windows
                if window.lookback_days > self.source.max_lookback_days
            ]
        if errors:
            raise DefinitionError(f"view of {self.entity.name}: {'; '.join(errors)}")

    def _attribute_errors(self) -> list[str]:
        items = self.attributes
        if not isinstance(items, tuple) or not all(isinstance(one, Attribute) for one in items):
            return [
                'attributes must be a tuple, such as (Attribute("tier", Kind.CATEGORY, "Tier."),)'
            ]
        errors = []
        for one in items:
            known = STANDARD_ATTRIBUTES.get(one.name)
            if one.name in {column.name for column in self.source.columns}:
                errors.append(f"attribute {one.name}: {self.source.name} has this column already")
            elif known is not None and known.kind is not one.kind:
                errors.append(
                    f"attribute {one.name}: the standard attribute of this name is of kind "
                    f"{known.kind.value}; use that kind, or another name"
                )
        return errors

    def _attribute(self, name: str) -> Attribute | None:
        """Return a standard attribute, or one that the view declares."""
        own = {one.name: one for one in self.attributes}
        return own.get(name) or STANDARD_ATTRIBUTES.get(name)

    def _column(self, name: str) -> Column | None:
        """Return a column of the source, or an attribute as a column."""
        attribute = self._attribute(name)
        if attribute is not None:
            return attribute.column
        by_name = {column.name: column for column in self.source.columns}
        return by_name.get(name)

    def _type(self, name: str) -> str:
        column = self._column(name)
        assert column is not None
        return column.type

    def _missing_column(self, column: str, used_by: str) -> list[str]:
        if self._column(column) is not None:
            return []
        names = [declared.name for declared in self.source.columns]
        standard = ", ".join(STANDARD_ATTRIBUTES)
        return [
            f"{used_by}: {self.source.name} has no column {column!r}; it has: {', '.join(names)}. "
            f"Standard attributes are: {standard}. Declare another one in the view: "
            f'attributes=(Attribute("{column}", Kind.CATEGORY, "…"),)'
        ]

    def _key_errors(self, key: str) -> list[str]:
        missing = self._missing_column(key, "its key")
        if missing or self._type(key) == "string":
            return missing
        return [f"its key {key} ({self._type(key)}): use a text column"]

    def _column_errors(self, aggregation: Aggregation) -> list[str]:
        name, measure, where = aggregation.title, aggregation.measure, aggregation.where
        errors = []
        if measure is not None:
            missing = self._missing_column(measure, name)
            errors += missing or self._type_errors(aggregation, measure)
        if where is not None:
            missing = self._missing_column(where.column, f"condition {where.name}")
            errors += missing or self._comparison_errors(where)
        return errors

    def _type_errors(self, aggregation: Aggregation, measure: str) -> list[str]:
        type_, name = self._type(measure), aggregation.function.value
        if aggregation.function in TEXT_FUNCTIONS:
            if type_ == "string" and measure not in self.entity.keys:
                return []
            return [
                f"{name} {measure} ({type_}): use a text column that is not a key of the entity"
            ]
        if type_.startswith("decimal") or type_ == "double":
            return []
        return [f"{name} of {measure} ({type_}) is not a number; use a decimal or double column"]

    def _comparison_errors(self, where: Condition) -> list[str]:
        type_ = self._type(where.column)
        is_number = type_.startswith("decimal") or type_ == "double"
        number = isinstance(where.value, int | Decimal)
        if (is_number and number) or (type_ == "string" and not number):
            return []
        return [
            f"condition {where.name}: {where.column} is {type_} and cannot be compared with "
            f"{where.value!r}; compare texts with texts and numbers with numbers"
        ]

    @property
    def features(self) -> tuple[Feature, ...]:
        """Return one feature for each aggregation and window."""
        return tuple(
            self._feature(aggregation, window)
            for aggregation in self.aggregations
            for window in aggregation.windows
        )

    def _feature(self, aggregation: Aggregation, window: Window) -> Feature:
        condition = aggregation.where.name if aggregation.where else None
        function, measure = aggregation.function, aggregation.measure
        parts = [self.entity.name, measure, function.value, condition, window.suffix]
        is_double = measure is not None and self._type(measure) == "double"
        return Feature(
            name="_".join(part for part in parts if part),
            kind=KIND_OF_FUNCTION.get(function) or self._kind(measure),
            description=self.description,
            entity=self.entity,
            source=self.source.name,
            function=function,
            measure=measure,
            window=window,
            empty=aggregation.empty,
            where=aggregation.where,
            scale=NUMBER_SCALE if is_double else MONEY_SCALE,
            attributes=self._attributes_of(aggregation),
        )

    def _kind(self, measure: str | None) -> Kind:
        """Return the kind of a measure; the only number that is not an attribute is the amount."""
        attribute = self._attribute(measure) if measure else None
        return attribute.kind if attribute else Kind.AMOUNT

    def _attributes_of(self, aggregation: Aggregation) -> tuple[Column, ...]:
        """Return the attributes that a feature reads: keys, measure, condition, places."""
        names = [*self.entity.keys, aggregation.measure]
        names += [aggregation.where.column] if aggregation.where else []
        names += MERCHANT_PLACE if aggregation.function in PLACE_FUNCTIONS else ()
        found = (self._attribute(name) for name in dict.fromkeys(names) if name)
        return tuple(one.column for one in found if one)
