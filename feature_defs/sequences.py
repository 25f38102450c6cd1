"""The event sequence that models read: its entity, its length and its default columns.

A recipe may name other columns of the catalogue (`fraud_models/recipes.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from feature_defs.errors import DefinitionError
from feature_defs.feature import CARD, Entity


@dataclass(frozen=True)
class SequenceView:
    """The event sequence of an entity, as models read it.

    The context of a night is the entity's events since its context start, ordered by (`event_time`,
    `transaction_id`). The context start is the first day of the period before the night's own;
    periods have `period_days` days and are counted from 1970-01-01 (`context_periods.py`). A
    context of more than `max_events` events is split into blocks, counted from its start. Each
    block is preceded by the last `warm_up_events` events of the block before.
    """

    entity: Entity
    period_days: int
    max_events: int
    warm_up_events: int
    columns: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.period_days < 1:
            raise DefinitionError(f"a period must be at least 1 day long, not {self.period_days}")
        if not 0 < self.warm_up_events < self.max_events:
            raise DefinitionError(
                f"warm_up_events ({self.warm_up_events}) must be at least 1 and below "
                f"max_events ({self.max_events})"
            )
        if len(set(self.columns)) != len(self.columns):
            raise DefinitionError("a sequence has the same column more than once")


CARD_EVENTS = SequenceView(
    entity=CARD,
    period_days=28,
    max_events=4096,
    warm_up_events=256,
    # An explicit list: a new feature in the catalogue does not change what models read.
    columns=(
        "transaction_amount",
        "transaction_hour_of_day",
        "transaction_day_of_week",
        "card_count_1d",
        "card_count_7d",
        "card_count_30d",
        "card_amount_mean_1d",
        "card_amount_mean_7d",
        "card_amount_mean_30d",
        "card_seconds_since_last_30d",
        "merchant_count_1d_delay_7d",
        "merchant_count_7d_delay_7d",
        "merchant_count_30d_delay_7d",
        "merchant_fraud_rate_1d_delay_7d",
        "merchant_fraud_rate_7d_delay_7d",
        "merchant_fraud_rate_30d_delay_7d",
    ),
)
