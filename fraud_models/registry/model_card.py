"""The model card in Markdown: training data, intended use, excluded use, metrics and limits.

After Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019), limited to what a checkpoint
contains.
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

USE_OF_LABELS = {
    UNSUPERVISED: "Labels were not used: the training events include frauds.",
    ONE_CLASS: "Known frauds were excluded from the training events.",
    SEMI_SUPERVISED: "Known frauds were excluded from the training events of the autoencoder; "
    "a head was trained on all mature labels.",
}
RANKED_BY = {
    BY_ERROR: "the sum of the errors of the columns below",
    BY_RARITY: "how rare the rarest of the errors of the columns below is",
    BY_HEAD: "the log odds of a supervised head that reads code, errors and values",
}


def model_card(model: TrainedModel) -> str:
    """Return the model card of a trained and calibrated model."""
    config, training = model.config, model.training
    days = training_days(date.fromisoformat(model.as_of), config)
    last = days.as_of - timedelta(days=1)
    versions = ", ".join(f"`{name}` {v}" for name, v in sorted(model.data_versions.items()))
    sections = (
        f"# {config.recipe}, as of {model.as_of}",
        "## Intended use\n\n"
        "To order a night's card transactions by how anomalous they are, so that analysts "
        "investigate the most anomalous cards first. The score is a tail rank among ordinary "
        "transactions, not a probability of fraud.",
        "## Excluded use\n\n"
        + _bullet_list(
            (
                "Decisions about a card without human review: most alerts are not fraud.",
                f"Evaluation on nights before {model.as_of}: their events may be training data.",
                "Cards of another bank, currency or time zone, or features defined differently.",
                "Statements about what is normal for a person: the model reads cards, not people.",
            )
        ),
        "## Training data\n\n"
        + _bullet_list(
            (
                f"Training nights {days.train_from} to {days.validation_from - timedelta(days=1)}: "
                f"{training.get('num_train_events', 'an unknown number of')} events.",
                f"Validation and calibration nights {days.validation_from} to {last}: "
                f"{training.get('num_validation_events', 'an unknown number of')} events.",
                f"Table versions: {versions}.",
                USE_OF_LABELS[config.supervision],
                f"Trained by {training.get('world_size', 'an unknown number of')} processes on "
                f"{training.get('device', 'an unknown device')}, matrix products in "
                f"{training.get('precision', 'an unknown precision')}.",
                f"Context of an event: the card's events of the last "
                f"{config.context_period_days} to {2 * config.context_period_days - 1} days.",
            )
        ),
        f"## Ranking\n\nTransactions are ordered by {RANKED_BY[config.ranking]}.\n\n"
        + _columns(model),
        _categories(model),
        "## Metrics\n\n" + _metrics(model),
        "## Limits\n\n" + _bullet_list(_limits(model)),
    )
    return "\n\n".join(filter(None, sections)) + "\n"


def _columns(model: TrainedModel) -> str:
    ranked = set(model.config.ranked)
    header = "| column | in the ranking | derived from labels | fingerprint |"
    lines = [header, "| --- | --- | --- | --- |"]
    for name, fingerprint in model.columns.items():
        feature = FEATURES.get(name)
        from_labels = (
            "no longer in the catalogue" if feature is None else _yes_or_no(feature.reads_labels)
        )
        lines.append(
            f"| `{name}` | {_yes_or_no(name in ranked)} | {from_labels} | `{fingerprint}` |"
        )
    return "\n".join(lines)


def _categories(model: TrainedModel) -> str:
    """Return the section about categorical columns; empty if there are none."""
    vocabularies = model.encoding.vocabularies
    if not vocabularies:
        return ""
    header = "| column | values with a code of their own | training events with another value |"
    rows = [
        f"| `{name}` | {len(vocabulary.values)} | {100 * vocabulary.other_share:.2f} % |"
        for name, vocabulary in vocabularies.items()
    ]
    return "\n".join(["## Categories", "", header, "| --- | --- | --- |", *rows])


def _metrics(model: TrainedModel) -> str:
    training = model.training
    items = [
        f"{title}: {training[name]:.4f} nats per event."
        for name, title in (("train_loss", "Training loss"), ("validation_loss", "Validation loss"))
        if name in training
    ]
    if model.calibration is not None:
        items.append(f"Calibrated on {model.calibration.num_rows} validation events.")
    items.append(
        "Training does not measure how well the model detects fraud: see `evaluate` and `backtest` "
        "in the table `metrics`."
    )
    return _bullet_list(items)


def _limits(model: TrainedModel) -> Iterable[str]:
    features = [FEATURES[name] for name in model.columns if name in FEATURES]
    if any(feature.reads_labels for feature in features):
        yield (
            "Columns derived from labels contain reported fraud only: where fraud is reported late "
            "or never, merchants look better than they are."
        )
    if model.config.supervision == SEMI_SUPERVISED:
        yield "The head detects labelled kinds of fraud; new kinds show only as high errors."
    yield "Behaviour drifts: `monitor` compares each night with the last 28; retrain when it warns."


def _bullet_list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"
