"""What a model is made of and how it learns: frozen dataclasses, checked on construction.

A checkpoint carries its config as JSON, so a model never depends on today's defaults. Unknown
keys are refused: a misspelt setting must not be a silent default.

    >>> from fraud_models.recipes import lstm_autoencoder
    >>> ModelConfig.from_dict(lstm_autoencoder().to_dict()) == lstm_autoencoder()
    True
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from feature_defs.problems import UsageProblem
from feature_defs.sequences import CARD_EVENTS

T = TypeVar("T")


def _refuse(what: str, value: object, expected: str) -> None:
    raise UsageProblem(
        f"{what} is {value!r}.", expected=expected, remedy="correct it in the recipe or settings."
    )


def _from_dict(cls: type[T], values: dict[str, Any], **nested: Any) -> T:
    known = {item.name for item in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageProblem(
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
    scale_floor: float = 0.4
    """Least likelihood scale of a channel, in encoded units (about standard deviations)."""
    degrees_of_freedom: float = 3.0
    """Of the Student-t likelihood; fewer means heavier tails."""
    amount_degrees_of_freedom: float = 30.0
    """The same for amounts: nearly Gaussian, so that a very large payment is very odd."""

    def __post_init__(self) -> None:
        for name in ("hidden_width", "code_width", "num_layers", "kernel_width", "num_heads"):
            if getattr(self, name) < 1:
                _refuse(name, getattr(self, name), "1 or more.")
        for name in ("scale_floor", "degrees_of_freedom", "amount_degrees_of_freedom"):
            if not getattr(self, name) > 0:
                _refuse(name, getattr(self, name), "a number above 0.")
        if self.hidden_width % self.num_heads:
            _refuse("num_heads", self.num_heads, f"a divisor of {self.hidden_width}.")
        if not 0 <= self.dropout < 1:
            _refuse("dropout", self.dropout, "0 to below 1.")


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
    """Of weights, shuffling and dropout."""
    gradient_clip: float = 1.0
    """Largest norm of a step's gradient."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "events_per_batch", "patience"):
            if getattr(self, name) < 1:
                _refuse(name, getattr(self, name), "1 or more.")
        for name in ("learning_rate", "gradient_clip"):
            if not getattr(self, name) > 0:
                _refuse(name, getattr(self, name), "a number above 0.")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides what a trained model is, but the data."""

    recipe: str
    """Name of the recipe that this config came from."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    """Shape of the network."""
    optimisation: OptimisationConfig = field(default_factory=OptimisationConfig)
    """How it learns."""
    ranking: str = "reconstruction_error"
    """How transactions are ordered: a name in `scoring.RANKINGS`."""
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

    def to_dict(self) -> dict[str, Any]:
        """As plain values that JSON can hold."""
        return {**asdict(self), "columns": list(self.columns)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """The config that `to_dict` wrote.

        Raises:
            UsageProblem: a key that no config has, or a value out of its range.
        """
        return _from_dict(
            cls,
            values,
            network=_from_dict(NetworkConfig, values.get("network", {})),
            optimisation=_from_dict(OptimisationConfig, values.get("optimisation", {})),
        )
