"""The model card: what a model was trained on, what it is for, and what it is not, in Markdown.

After Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019), as far as a checkpoint knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

from feature_defs.catalogue import FEATURES
from fraud_models.config import (
    BY_ERROR,
    BY_HEAD,
    BY_RARITY,
    ONE_CLASS,
    SEMI_SUPERVISED,
    UNSUPERVISED,
)
from fraud_models.evaluation.splits import training_days
from fraud_models.scoring.trained_model import TrainedModel

MODEL_CARD_FILE = "MODEL_CARD.md"

LABELS_ARE_FOR = {
    UNSUPERVISED: "Nothing: frauds are among the events that it learned from.",
    ONE_CLASS: "Transactions known to be frauds were left out of what it learned from.",
    SEMI_SUPERVISED: "Transactions known to be frauds were left out of what the autoencoder "
    "learned from; a head learned from all labels that were mature.",
}
RANKED_BY = {
    BY_ERROR: "the sum of the errors of the columns below",
    BY_RARITY: "how rare the rarest of the errors of the columns below is",
    BY_HEAD: "the log odds of a supervised head on code, errors and values",
}


def model_card(checkpoint: TrainedModel) -> str:
    """The card of a trained and calibrated model."""
    config, training = checkpoint.config, checkpoint.training
    days = training_days(date.fromisoformat(checkpoint.as_of), config)
    last = days.as_of - timedelta(days=1)
    versions = ", ".join(f"`{name}` {v}" for name, v in sorted(checkpoint.data_versions.items()))
    sections = (
        f"# {config.recipe}, as of {checkpoint.as_of}",
        "## What it is for\n\n"
        "Ordering a night's card transactions by how odd they are, so that people look at the "
        "oddest cards first. The score is a tail rank among ordinary transactions, not a "
        "probability of fraud.",
        "## What it must not be used for\n\n"
        + _listed(
            (
                "Deciding about a card without a person: most alerts of a night are no frauds.",
                f"Judging nights before {checkpoint.as_of}: it has seen them.",
                "Cards of another bank, currency or time zone, or features of another meaning.",
                "Saying what is normal for a person: it knows cards, not people.",
            )
        ),
        "## What it learned from\n\n"
        + _listed(
            (
                f"Nights {days.train_from} to {days.validation_from - timedelta(days=1)}: "
                f"{training.get('num_train_events', 'an unknown number of')} events.",
                f"Chosen and calibrated on {days.validation_from} to {last}: "
                f"{training.get('num_validation_events', 'an unknown number of')} events.",
                f"Versions of the tables: {versions}.",
                LABELS_ARE_FOR[config.supervision],
                f"Learned by {training.get('world_size', 'an unknown number of')} processes on "
                f"{training.get('device', 'an unknown device')}, products in "
                f"{training.get('precision', 'an unknown precision')}.",
                f"Context of an event: the card's events of {config.context_period_days} to "
                f"{2 * config.context_period_days - 1} days.",
            )
        ),
        f"## What it ranks by\n\nTransactions are ordered by {RANKED_BY[config.ranking]}.\n\n"
        + _columns(checkpoint),
        "## Figures\n\n" + _figures(checkpoint),
        "## Limits\n\n" + _listed(_limits(checkpoint)),
    )
    return "\n\n".join(sections) + "\n"


def _columns(checkpoint: TrainedModel) -> str:
    ranked = set(checkpoint.config.ranked)
    lines = ["| column | ranked by | made of labels | fingerprint |", "| --- | --- | --- | --- |"]
    for name, fingerprint in checkpoint.columns.items():
        feature = FEATURES.get(name)
        told = "not in the catalogue any more" if feature is None else _yes(feature.reads_labels)
        lines.append(f"| `{name}` | {_yes(name in ranked)} | {told} | `{fingerprint}` |")
    return "\n".join(lines)


def _figures(checkpoint: TrainedModel) -> str:
    training = checkpoint.training
    told = [
        f"{words}: {training[name]:.4f} nats per event."
        for name, words in (("train_loss", "Training"), ("validation_loss", "Validation"))
        if name in training
    ]
    if checkpoint.calibration is not None:
        told.append(f"Calibrated on {checkpoint.calibration.num_rows} validation events.")
    told.append(
        "How well it finds frauds is not known from training: see `evaluate` and `backtest` in the "
        "table `metrics`."
    )
    return _listed(told)


def _limits(checkpoint: TrainedModel) -> Iterable[str]:
    labelled = [name for name in checkpoint.columns if name in FEATURES]
    if any(FEATURES[name].reads_labels for name in labelled):
        yield (
            "Columns made of labels know what was reported, not what was done: where frauds are "
            "found late or not at all, merchants look better than they are."
        )
    if checkpoint.config.supervision == SEMI_SUPERVISED:
        yield "The head knows kinds of fraud that were labelled; new kinds only show as errors."
    yield "Habits drift: `monitor` compares each night with the last 28; train again when it warns."


def _listed(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
