"""Model configuration: frozen dataclasses that are checked on construction.

A checkpoint stores its config as JSON, so a stored model never depends on today's defaults.
Unknown keys are rejected: a misspelt setting must not silently become a default.

    >>> from fraud_models.recipes import lstm_autoencoder
    >>> ModelConfig.from_dict(lstm_autoencoder().to_dict()) == lstm_autoencoder()
    True
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any, TypeVar

from feature_defs.catalogue import FEATURES
from feature_defs.errors import UsageError
from feature_defs.sequences import CARD_EVENTS

T = TypeVar("T")

UNSUPERVISED, ONE_CLASS, SEMI_SUPERVISED = "unsupervised", "one_class", "semi_supervised"
SUPERVISIONS = (UNSUPERVISED, ONE_CLASS, SEMI_SUPERVISED)
BY_ERROR, BY_RARITY, BY_HEAD = "reconstruction_error", "rarity", "fraud_head"
RANKINGS = (BY_ERROR, BY_RARITY, BY_HEAD)


def _require(is_valid: bool, name: str, value: object, expected: str) -> None:
    """Raise a `UsageError` that names a setting and its value, unless it is valid."""
    if not is_valid:
        raise UsageError(
            f"{name} is {value!r}.",
            expected=f"{expected}.",
            remedy="correct it in the recipe or settings.",
        )


def _require_whole(config: object, *names: str, prefix: str = "") -> None:
    for name in names:
        value = getattr(config, name)
        is_valid = type(value) is int and value >= 1
        _require(is_valid, f"{prefix}{name}", value, "a whole number, 1 or more")


def _require_positive(config: object, *names: str, prefix: str = "") -> None:
    for name in names:
        value = getattr(config, name)
        _require(0 < value < math.inf, f"{prefix}{name}", value, "a number above 0")


def _require_one_of(name: str, value: str, options: tuple[str, ...]) -> None:
    _require(value in options, name, value, f"one of: {', '.join(options)}")


def _from_dict(cls: type[T], values: dict[str, Any], **nested: Any) -> T:
    settings = {item.name for item in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - settings)
    if unknown:
        raise UsageError(
            f"{cls.__name__} has no setting {', '.join(unknown)}.",
            expected=f"only: {', '.join(sorted(settings))}.",
            remedy="correct the name, or use the version that wrote this config.",
        )
    return cls(**{**values, **nested})


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the network."""

    architecture: str = "lstm_autoencoder"
    """Name of a file in `fraud_models/networks`."""
    hidden_width: int = 64
    """Units per layer of the history encoder, and of the decoder's hidden layers."""
    code_width: int = 4
    """Z: width of the code between encoder and decoder; at most half the number of columns."""
    num_layers: int = 1
    """Layers of the history encoder."""
    dropout: float = 0.0
    """Share of the history encoder's outputs that training drops, 0 to below 1."""
    kernel_width: int = 3
    """Events per convolution; convolutions only."""
    num_heads: int = 4
    """Attention heads, a divisor of `hidden_width`; transformers only."""
    adversarial_weight: float = 0.0
    """Weight of the discriminator's loss on codes, relative to the reconstruction loss; 0: none."""
    input_limit: float = 8.0
    """Encoded units (about standard deviations) at which the network's inputs are clipped. A low
    limit keeps anomalous values out of the code, so that they show as reconstruction error."""
    scale_floor: float = 0.4
    """Smallest likelihood scale of a channel, in encoded units (about standard deviations)."""
    degrees_of_freedom: float = 3.0
    """Degrees of freedom of the Student-t likelihood; fewer means heavier tails."""
    amount_degrees_of_freedom: float = 30.0
    """The same for amounts: nearly Gaussian, so that a very large payment has a large error."""
    category_width: int = 8
    """Width of the vector that stands for a category at the input."""
    category_floor: float = 1e-3
    """Share of each category's probability that is spread evenly over its classes; bounds the error
    of a category that was never seen, to 9.6 nats for 15 classes."""

    def __post_init__(self) -> None:
        _require_whole(
            self,
            "hidden_width",
            "code_width",
            "num_layers",
            "kernel_width",
            "num_heads",
            "category_width",
        )
        _require_positive(
            self, "input_limit", "scale_floor", "degrees_of_freedom", "amount_degrees_of_freedom"
        )
        divides = self.hidden_width % self.num_heads == 0
        _require(divides, "num_heads", self.num_heads, f"a divisor of {self.hidden_width}")
        _require(0 <= self.dropout < 1, "dropout", self.dropout, "0 to below 1")
        weight = self.adversarial_weight
        _require(0 <= weight < math.inf, "adversarial_weight", weight, "0 or more")
        floor = self.category_floor
        _require(0 < floor < 1, "category_floor", floor, "a number above 0 and below 1")


@dataclass(frozen=True)
class OptimisationConfig:
    """How the network is trained."""

    epochs: int = 6
    """Maximum number of passes over the snapshot."""
    batch_size: int = 64
    """Sequences per step, over all ranks together."""
    events_per_batch: int = 65_536
    """Maximum events per step and rank, padding included; bounds memory."""
    learning_rate: float = 3e-3
    """Initial learning rate of Adam; decays along a half cosine to a twentieth."""
    patience: int = 2
    """Epochs without a better validation loss before training stops."""
    seed: int = 7
    """Seed of weights, shuffling and dropout, and of the baselines fitted beside the model."""
    gradient_clip: float = 1.0
    """Maximum norm of a step's gradient."""

    def __post_init__(self) -> None:
        _require_whole(self, "epochs", "batch_size", "events_per_batch", "patience")
        _require_positive(self, "learning_rate", "gradient_clip")
        is_seed = type(self.seed) is int and 0 <= self.seed < 2**32
        _require(is_seed, "seed", self.seed, "a whole number from 0 to below 2**32")


@dataclass(frozen=True)
class HeadConfig:
    """The supervised head of a semi-supervised model, and how it is trained."""

    hidden_width: int = 32
    """Units in each of its two hidden layers."""
    epochs: int = 12
    """Passes over the labelled events, after the autoencoder is trained; no event is held out."""
    batch_size: int = 4096
    """Labelled events per step, over all ranks together."""
    learning_rate: float = 1e-2
    """Initial learning rate of AdamW; decays as the autoencoder's does."""
    weight_decay: float = 1e-3
    """Weight decay of AdamW."""
    knots: tuple[float, ...] = ()
    """Knots of the piecewise linear encoding, in encoded units; empty: values are not split."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "knots", tuple(float(knot) for knot in self.knots))
        rising = all(low < high for low, high in pairwise(self.knots))
        are_knots = len(self.knots) != 1 and rising and all(map(math.isfinite, self.knots))
        _require(
            are_knots, "head.knots", self.knots, "empty, or two or more finite, increasing numbers"
        )
        _require_whole(self, "hidden_width", "epochs", "batch_size", prefix="head.")
        _require_positive(self, "learning_rate", prefix="head.")
        _require(self.weight_decay >= 0, "head.weight_decay", self.weight_decay, "0 or more")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that determines a trained model, except the data."""

    recipe: str
    """Name of the recipe that this config came from."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """Shape of the network."""
    optimisation: OptimisationConfig = field(default_factory=OptimisationConfig)
    """How the network is trained."""
    supervision: str = ONE_CLASS
    """How labels are used. `unsupervised`: not at all, and no column may be derived from them;
    `one_class`: known frauds are not targets; `semi_supervised`: known frauds are not targets of
    the autoencoder, and a head is trained on all mature labels."""
    ranking: str = BY_ERROR
    """What orders transactions: the sum of their columns' errors (`reconstruction_error`), how
    rare the rarest of their errors are (`rarity`), or the head (`fraud_head`)."""
    ranked_columns: tuple[str, ...] = ()
    """Columns whose errors count in the ranking; empty means all. The head reads all columns."""
    rarity_weights: Mapping[str, float] = field(default_factory=dict)
    """Weight of a ranked column in a `rarity` ranking, where it is not 1."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """The head of a semi-supervised model."""
    train_days: int = 35
    """Days before `as_of` whose events are targets, the validation days included."""
    validation_days: int = 7
    """Last of the train days: held out for early stopping and calibration."""
    columns: tuple[str, ...] = CARD_EVENTS.columns
    """Feature columns that the model reads, in this order."""
    context_period_days: int = CARD_EVENTS.period_days
    """Length of a context period in days, counted from 1970-01-01."""
    max_context_events: int = CARD_EVENTS.max_events
    """Maximum events per block of a context."""
    max_categories: int = 200
    """Most frequent values of a categorical column that are told apart; all others are one class.
    A class takes 4 bytes per event of a batch, so 200 classes take 52 MB at 65,536 events."""
    warm_up_events: int = CARD_EVENTS.warm_up_events
    """Unscored events that a block repeats from the end of the previous block."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "ranked_columns", tuple(self.ranked_columns))
        _require_whole(
            self, "train_days", "validation_days", "context_period_days", "max_categories"
        )
        _require(
            self.validation_days < self.train_days,
            "validation_days",
            self.validation_days,
            f"1 to below {self.train_days}",
        )
        is_unique = len(self.columns) > 0 and len(set(self.columns)) == len(self.columns)
        _require(is_unique, "columns", self.columns, "at least one column, without duplicates")
        _require(
            self.network.code_width * 2 <= len(self.columns),
            "code_width",
            self.network.code_width,
            f"at most half of the {len(self.columns)} columns: a wider code could copy them",
        )
        is_shorter = 0 < self.warm_up_events < self.max_context_events
        _require(is_shorter, "warm_up_events", self.warm_up_events, "1 to below max_context_events")
        self._check_supervision()
        self._check_ranking()

    def _check_supervision(self) -> None:
        _require_one_of("supervision", self.supervision, SUPERVISIONS)
        # A column that is no longer in the catalogue belongs to an old model, which was checked
        # when it was new.
        features = [FEATURES[name] for name in self.columns if name in FEATURES]
        label_columns = [feature.name for feature in features if feature.reads_labels]
        _require(
            self.supervision != UNSUPERVISED or not label_columns,
            "columns",
            ", ".join(label_columns),
            f"no column derived from labels, because supervision is {UNSUPERVISED}",
        )

    def _check_ranking(self) -> None:
        _require_one_of("ranking", self.ranking, RANKINGS)
        _require(
            (self.ranking == BY_HEAD) == (self.supervision == SEMI_SUPERVISED),
            "ranking",
            self.ranking,
            f"{BY_HEAD} if and only if supervision is {SEMI_SUPERVISED}; "
            f"here it is {self.supervision}",
        )
        are_columns = set(self.ranked_columns) <= set(self.columns)
        is_unique = len(set(self.ranked_columns)) == len(self.ranked_columns)
        _require(
            are_columns and is_unique,
            "ranked_columns",
            self.ranked_columns,
            "columns of the model, without duplicates",
        )
        are_weights = all(
            name in self.ranked and 0 < weight < math.inf
            for name, weight in self.rarity_weights.items()
        )
        _require(
            are_weights and (not self.rarity_weights or self.ranking == BY_RARITY),
            "rarity_weights",
            dict(self.rarity_weights),
            f"numbers above 0 for ranked columns, and only with the ranking {BY_RARITY}",
        )

    @property
    def ranked(self) -> tuple[str, ...]:
        """Columns whose errors count in the ranking, in the order of `columns`."""
        ranked = self.ranked_columns or self.columns
        return tuple(name for name in self.columns if name in ranked)

    def to_dict(self) -> dict[str, Any]:
        """Return the config as plain values for JSON."""
        values = asdict(self)
        values["head"]["knots"] = list(self.head.knots)
        lists = {"columns": list(self.columns), "ranked_columns": list(self.ranked_columns)}
        return {**values, **lists}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Return the config that `to_dict` wrote.

        Raises:
            UsageError: a key is unknown, or a value is out of range; correct it, or use the
                version that wrote the config.
        """
        return _from_dict(
            cls,
            values,
            network=_from_dict(NetworkConfig, values.get("network", {})),
            optimisation=_from_dict(OptimisationConfig, values.get("optimisation", {})),
            head=_from_dict(HeadConfig, values.get("head", {})),
        )
