"""Which events train, which judge, and which cards are out of the game.

All clocks are UTC. "Night D" knows what was known at D 00:00: a label counts when its
`label_time` is not after that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from fraud_models.config import ModelConfig

# The handbook's protocol: frauds of the training week and the week of the delay count.
KNOWN_FRAUD_LOOKBACK_DAYS = 14


@dataclass(frozen=True)
class TrainingDays:
    """Half-open ranges of days: `[train_from, validation_from)`, `[validation_from, as_of)`."""

    train_from: date
    validation_from: date
    as_of: date
    """First day that training must not see."""


def training_days(as_of: date, config: ModelConfig) -> TrainingDays:
    """The days that a model trained as of a day learns from.

    >>> from fraud_models.recipes import lstm_autoencoder
    >>> str(training_days(date(2018, 7, 4), lstm_autoencoder()).validation_from)
    '2018-06-27'
    """
    return TrainingDays(
        train_from=as_of - timedelta(days=config.train_days),
        validation_from=as_of - timedelta(days=config.validation_days),
        as_of=as_of,
    )


def is_out_of_sample(as_of: date, night: date) -> bool:
    """Whether a model trained as of a day saw nothing of a night."""
    return as_of <= night
