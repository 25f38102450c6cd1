"""Out-of-time splits: days for training and validation, and whether a night is out of sample.

All times are UTC. A model `as_of` day D uses what was known at D 00:00: a label counts if its
`label_time` is not later.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from fraud_models.config import ModelConfig

# Cards with a fraud known from these days are excluded. The handbook's protocol: its training
# week and the week of the label delay.
KNOWN_FRAUD_LOOKBACK_DAYS = 14


@dataclass(frozen=True)
class TrainingDays:
    """Days of a training: `[train_from, validation_from)` and `[validation_from, as_of)`."""

    train_from: date
    validation_from: date
    as_of: date
    """First day that training must not read."""


def training_days(as_of: date, config: ModelConfig) -> TrainingDays:
    """Return the training and validation days of a model trained as of a day.

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
    """Return whether a model trained as of a day has read no event of a night."""
    return as_of <= night
