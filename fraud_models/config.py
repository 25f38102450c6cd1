"""What a model is made of and how it learns: frozen dataclasses, checked on construction.

A checkpoint carries its config as JSON, so a model never depends on today's defaults. Unknown
keys are refused: a misspelt setting must not be a silent default.

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


def _refuse(what: str, value: object, expected: str) -> None:
    raise UsageError(
        f"{what} is {value!r}.", expected=expected, remedy="correct it in the recipe or settings."
    )


def _check_whole(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name.removeprefix("head."))
        if type(value) is not int or value < 1:
            _refuse(name, value, "a whole number, 1 or more.")


def _check_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name.removeprefix("head."))
        if not 0 < value < math.inf:
            _refuse(name, value, "a number above 0.")


def _from_dict(cls: type[T], values: dict[str, Any], **nested: Any) -> T:
    known = {item.name for item in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(
            f"{cls.__name__} has no setting {', '.join(unknown)}.",
            expected=f"only: {', '.join(sorted(known))}.",
            remedy="correct the name, or use the version that wrote this config.",
        )
    return cls(**{**values, **nested})


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the network."""

    architecture: str = "lstm_autoencoder"
    """Name of a file in `fraud_models/networks`."""
    hidden_width: int = 64
    """Units of each layer of the memory and of the decoder's hidden layer."""
    code_width: int = 4
    """Z: numbers per event between encoder and decoder; at most half the number of columns."""
    num_layers: int = 1
    """Layers of the memory."""
    dropout: float = 0.0
    """Share of the memory's outputs that is dropped in training, 0 to below 1."""
    kernel_width: int = 3
    """Events that one convolution looks at; convolutions only."""
    num_heads: int = 4
    """Attention heads, a divisor of `hidden_width`; transformers only."""
    adversarial_weight: float = 0.0
    """Of the discriminator on codes, in nats per nat of the description; 0 for none."""
    input_limit: float = 8.0
    """Encoded units (about standard deviations) beyond which inputs look alike to the network: a
    small one keeps what is odd out of the code, so that it costs where it is."""
    scale_floor: float = 0.4
    """Least likelihood scale of a channel, in encoded units (about standard deviations)."""
    degrees_of_freedom: float = 3.0
    """Of the Student-t likelihood; fewer means heavier tails."""
    amount_degrees_of_freedom: float = 30.0
    """The same for amounts: nearly Gaussian, so that a very large payment is very odd."""

    def __post_init__(self) -> None:
        _check_whole(self, "hidden_width", "code_width", "num_layers", "kernel_width", "num_heads")
        _check_positive(
            self, "input_limit", "scale_floor", "degrees_of_freedom", "amount_degrees_of_freedom"
        )
        if self.hidden_width % self.num_heads:
            _refuse("num_heads", self.num_heads, f"a divisor of {self.hidden_width}.")
        if not 0 <= self.dropout < 1:
            _refuse("dropout", self.dropout, "0 to below 1.")
        if not 0 <= self.adversarial_weight < float("inf"):
            _refuse("adversarial_weight", self.adversarial_weight, "0 or more.")


@dataclass(frozen=True)
class OptimisationConfig:
    """How the network learns."""

    epochs: int = 6
    """Most passes over the snapshot."""
    batch_size: int = 64
    """Sequences per step, over all ranks together."""
    events_per_batch: int = 65_536
    """Most events per step and rank, padding included; bounds memory."""
    learning_rate: float = 3e-3
    """Of Adam at the start; it falls along a half cosine to a twentieth."""
    patience: int = 2
    """Epochs without a better validation loss before training stops."""
    seed: int = 7
    """Of weights, shuffling and dropout, and of the baselines that are fitted beside the model."""
    gradient_clip: float = 1.0
    """Largest norm of a step's gradient."""

    def __post_init__(self) -> None:
        _check_whole(self, "epochs", "batch_size", "events_per_batch", "patience")
        _check_positive(self, "learning_rate", "gradient_clip")
        if type(self.seed) is not int or not 0 <= self.seed < 2**32:
            _refuse("seed", self.seed, "a whole number from 0 to below 2**32.")


@dataclass(frozen=True)
class HeadConfig:
    """The supervised head of a semi-supervised model, and how it learns."""

    hidden_width: int = 32
    """Units of each of its two hidden layers."""
    epochs: int = 12
    """Passes over the labelled events, after the autoencoder has learned; none is held out."""
    batch_size: int = 4096
    """Labelled events per step, over all ranks together."""
    learning_rate: float = 1e-2
    """Of AdamW at the start; it falls as the autoencoder's does."""
    weight_decay: float = 1e-3
    """Of AdamW."""
    knots: tuple[float, ...] = ()
    """Where the pieces that a value is read in end, in encoded units; none: it is read whole."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "knots", tuple(float(knot) for knot in self.knots))
        rising = all(low < high for low, high in pairwise(self.knots))
        if len(self.knots) == 1 or not rising or not all(map(math.isfinite, self.knots)):
            _refuse("head.knots", self.knots, "none, or two or more finite numbers that rise.")
        _check_whole(self, "head.hidden_width", "head.epochs", "head.batch_size")
        _check_positive(self, "head.learning_rate")
        if not self.weight_decay >= 0:
            _refuse("head.weight_decay", self.weight_decay, "0 or more.")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides what a trained model is, but the data."""

    recipe: str
    """Name of the recipe that this config came from."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """Shape of the network."""
    optimisation: OptimisationConfig = field(default_factory=OptimisationConfig)
    """How it learns."""
    supervision: str = ONE_CLASS
    """What labels are for. `unsupervised`: nothing, and no column may be made of them;
    `one_class`: known frauds are no targets; `semi_supervised`: known frauds are no targets of the
    autoencoder, and a head learns from all mature labels."""
    ranking: str = BY_ERROR
    """What orders transactions: the sum of their columns' errors (`reconstruction_error`), how
    rare the rarest of their errors are (`rarity`), or the head (`fraud_head`)."""
    ranked_columns: tuple[str, ...] = ()
    """Columns whose errors are ranked by; none named means all. The head reads all."""
    rarity_weights: Mapping[str, float] = field(default_factory=dict)
    """How much a ranked column counts in a `rarity`, where that is not 1."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """Of a semi-supervised model."""
    train_days: int = 35
    """Days before `as_of` whose events are targets, the validation days included."""
    validation_days: int = 7
    """Last of the train days: held out for early stopping and calibration."""
    columns: tuple[str, ...] = CARD_EVENTS.columns
    """Feature columns that the model reads, in this order."""
    context_period_days: int = CARD_EVENTS.period_days
    """Length of a context period in days, counted from 1970-01-01."""
    max_context_events: int = CARD_EVENTS.max_events
    """Events of a block of a context."""
    warm_up_events: int = CARD_EVENTS.warm_up_events
    """Events of the block before that a block starts with, unscored."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "ranked_columns", tuple(self.ranked_columns))
        _check_whole(self, "train_days", "validation_days", "context_period_days")
        if not 1 <= self.validation_days < self.train_days:
            _refuse("validation_days", self.validation_days, f"1 to below {self.train_days}.")
        if not self.columns or len(set(self.columns)) != len(self.columns):
            _refuse("columns", self.columns, "at least one column and none twice.")
        if self.network.code_width * 2 > len(self.columns):
            _refuse(
                "code_width",
                self.network.code_width,
                f"at most half of the {len(self.columns)} columns, or the code copies them.",
            )
        if not 0 < self.warm_up_events < self.max_context_events:
            _refuse("warm_up_events", self.warm_up_events, "1 to below max_context_events.")
        self._check_supervision()
        self._check_ranking()

    def _check_supervision(self) -> None:
        if self.supervision not in SUPERVISIONS:
            _refuse("supervision", self.supervision, f"one of: {', '.join(SUPERVISIONS)}.")
        # A column that the catalogue has no more is an old model's, which was checked then.
        known = [FEATURES[name] for name in self.columns if name in FEATURES]
        told = [feature.name for feature in known if feature.reads_labels]
        if self.supervision == UNSUPERVISED and told:
            _refuse("columns", ", ".join(told), "no column that is made of labels: unsupervised.")

    def _check_ranking(self) -> None:
        if self.ranking not in RANKINGS:
            _refuse("ranking", self.ranking, f"one of: {', '.join(RANKINGS)}.")
        if (self.ranking == BY_HEAD) != (self.supervision == SEMI_SUPERVISED):
            _refuse(
                "ranking",
                self.ranking,
                f"{BY_HEAD} with {SEMI_SUPERVISED} and nothing else; this is {self.supervision}.",
            )
        unread = [name for name in self.ranked_columns if name not in self.columns]
        if unread or len(set(self.ranked_columns)) != len(self.ranked_columns):
            _refuse("ranked_columns", self.ranked_columns, "columns of the model, none twice.")
        odd = [
            name
            for name, weight in self.rarity_weights.items()
            if name not in self.ranked or not 0 < weight < math.inf
        ]
        if odd or (self.rarity_weights and self.ranking != BY_RARITY):
            _refuse(
                "rarity_weights",
                dict(self.rarity_weights),
                f"numbers above 0 for ranked columns, where the ranking is {BY_RARITY}.",
            )

    @property
    def ranked(self) -> tuple[str, ...]:
        """Columns whose errors are ranked by, in the order of `columns`."""
        chosen = self.ranked_columns or self.columns
        return tuple(name for name in self.columns if name in chosen)

    def to_dict(self) -> dict[str, Any]:
        """As plain values that JSON can hold."""
        values = asdict(self)
        values["head"]["knots"] = list(self.head.knots)
        lists = {"columns": list(self.columns), "ranked_columns": list(self.ranked_columns)}
        return {**values, **lists}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """The config that `to_dict` wrote.

        Raises:
            UsageError: a key that no config has, or a value out of its range.
        """
        return _from_dict(
            cls,
            values,
            network=_from_dict(NetworkConfig, values.get("network", {})),
            optimisation=_from_dict(OptimisationConfig, values.get("optimisation", {})),
            head=_from_dict(HeadConfig, values.get("head", {})),
        )
