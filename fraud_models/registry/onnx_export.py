"""Export a model as one ONNX file, for systems that score without this package.

    values [B, L, F] float32   contexts as scoring reads them: a card's events in order, the columns
                               in the order of the file's metadata, NaN for a missing value
    categories [B, L, K] int64 only if the model reads categories, which `values` then leaves out:
                               the place of each value in its list in the metadata, the length of
                               the list for any other value, -1 for a missing one
    reconstruction_error, ranking_value, score [B, L] float64

The metadata `columns` holds all columns with their fingerprints, in order. For a model with
categories, `vocabularies` holds the lists of values by column, in the order of `categories`.

Every event is scored, causally, so a caller pads contexts at their end and reads the events it
needs. Contributions and reasons are not exported: integrated gradients are not part of a network.

The calibration is implemented a second time here, in torch. Before a file is returned, its outputs
are compared with those of the scorer, so the two implementations cannot differ unnoticed.

    pip install "fraud-scoring[onnx]"
"""

from __future__ import annotations

import json
import logging
import warnings

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from feature_defs.errors import FraudScoringError, InputMissing
from fraud_models.config import BY_RARITY
from fraud_models.networks.fraud_head import FraudHead
from fraud_models.scoring.calibration import Calibration
from fraud_models.scoring.rarity import MIN_TAIL_SHARE, Rarities
from fraud_models.scoring.reconstruction import Reconstruction, Reconstructor
from fraud_models.scoring.scorer import Scorer, load_head
from fraud_models.scoring.trained_model import TrainedModel
from fraud_models.sequences.event_batch import TARGET, EventBatch

OUTPUTS = ("reconstruction_error", "ranking_value", "score")
# Largest accepted difference: relative for errors and ranking values, absolute for scores.
TOLERANCE = 1e-5
OPSET = 20
# Contexts to compare: a single event, and several attention windows.
COMPARED_SHAPES = ((1, 1), (3, 200))


class _TailRank(nn.Module):
    """`Calibration` in torch: from ranking values [...] to tail ranks and tail shares [...]."""

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.shape, self.scale = calibration.tail_shape, calibration.tail_scale
        for name in ("probabilities", "quantiles"):
            table = torch.tensor(getattr(calibration, name), dtype=torch.float64)
            self.register_buffer(name, table)
        self.probabilities: Tensor
        self.quantiles: Tensor

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        last = len(self.quantiles) - 1
        after = (values[..., None] >= self.quantiles).sum(dim=-1).clamp(1, last)
        low, high = self.quantiles[after - 1], self.quantiles[after]
        start, end = self.probabilities[after - 1], self.probabilities[after]
        inside = start + ((values - low) / (high - low)).clamp(0, 1) * (end - start)
        inside = torch.where(values < self.quantiles[0], torch.zeros_like(inside), inside)
        excess = (values - self.quantiles[last]).clamp(min=0) / self.scale
        top = self.probabilities[last]
        beyond = (1 - top) * (1 + self.shape * excess) ** (-1 / self.shape)
        above = values > self.quantiles[last]
        below_one = float(np.nextafter(1.0, 0.0))
        rank = torch.where(above, (1 - beyond).clamp(max=below_one), inside)
        return rank, torch.where(above, beyond, 1 - inside)


class _ByError(nn.Module):
    """Ranking value: the sum of the ranked columns' errors."""

    def __init__(self, ranked: list[int]) -> None:
        super().__init__()
        self.ranked = ranked

    def forward(self, reconstruction: Reconstruction) -> Tensor:
        errors: Tensor = reconstruction.errors.double()[..., self.ranked]
        return errors.sum(dim=-1)


class _ByRarity(nn.Module):
    """Ranking value: the log of the weighted mean of reciprocal tail shares (see `rarity.py`)."""

    def __init__(self, rarities: Rarities, columns: tuple[str, ...]) -> None:
        super().__init__()
        self.indices = [columns.index(name) for name in rarities.by_column]
        self.ranks = nn.ModuleList(map(_TailRank, rarities.by_column.values()))
        self.log_weights: Tensor
        self.register_buffer("log_weights", torch.from_numpy(np.log(rarities.normalised_weights)))

    def forward(self, reconstruction: Reconstruction) -> Tensor:
        errors = reconstruction.errors.double()
        shares = [
            rank(errors[..., index])[1].clamp(min=MIN_TAIL_SHARE)
            for index, rank in zip(self.indices, self.ranks, strict=True)
        ]
        rarities = -torch.log(torch.stack(shares, dim=-1))
        return torch.logsumexp(rarities + self.log_weights, dim=-1)


class _ByHead(nn.Module):
    """Ranking value: log odds above those of the reference event."""

    def __init__(self, head: FraudHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, reconstruction: Reconstruction) -> Tensor:
        inputs = self.head.inputs(
            reconstruction.channels,
            reconstruction.errors,
            reconstruction.codes,
            reconstruction.categories,
        )
        odds: Tensor = self.head(inputs) - self.head(torch.zeros_like(inputs[..., :1, :]))
        return odds.double()


class _ExportedModel(nn.Module):
    """The exported network: from values to reconstruction errors, ranking values and scores."""

    def __init__(self, model: TrainedModel, calibration: Calibration) -> None:
        super().__init__()
        config = model.config
        self.reconstructor = Reconstructor(config, model.encoding)
        self.reconstructor.network.load_state_dict(model.network_weights)
        self.ranking = _ranking(model)
        self.tail_rank = _TailRank(calibration)

    def forward(
        self, values: Tensor, categories: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        if categories is not None:
            values = self._with_categories(values, categories)
        reconstruction = self.reconstructor.reconstruct(*self.reconstructor.encode(values))
        ranking = self.ranking(reconstruction)
        errors = reconstruction.errors.double()
        return errors.sum(dim=-1), ranking, self.tail_rank(ranking)[0]

    def _with_categories(self, values: Tensor, categories: Tensor) -> Tensor:
        """Return values [B, L, F] of all columns, in order, as scoring reads them."""
        codes = categories.to(values.dtype)
        codes = torch.where(categories < 0, torch.full_like(codes, torch.nan), codes)
        categorical = self.reconstructor.encoding.categorical
        num_columns = len(self.reconstructor.encoding.columns)
        numeric = [index for index in range(num_columns) if index not in categorical]
        place = {column: at for at, column in enumerate((*numeric, *categorical))}
        order = [place[column] for column in range(num_columns)]
        return torch.cat([values, codes], dim=-1)[..., order]


def _ranking(model: TrainedModel) -> nn.Module:
    config, columns = model.config, model.encoding.columns
    head = load_head(model)
    if head is not None:
        return _ByHead(head)
    if config.ranking == BY_RARITY:
        assert model.rarities is not None, "a calibrated model that ranks by rarity has them"
        return _ByRarity(model.rarities, columns)
    return _ByError([columns.index(name) for name in config.ranked])


def to_onnx(model: TrainedModel, sha256: str) -> bytes:
    """Return the ONNX file of a calibrated model; `sha256` is that of its `checkpoint.json`.

    Raises:
        InputMissing: packages for ONNX are not installed; install `fraud-scoring[onnx]`.
        FraudScoringError: the model is not calibrated, so finish its training job; or the file's
            outputs differ from the model's, so report it.
    """
    network = _ExportedModel(model, model.require_calibration()).eval()
    content = _export(network, model, sha256)
    _check_equal_outputs(content, model)
    return content


def _export(network: nn.Module, model: TrainedModel, sha256: str) -> bytes:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputMissing(
            f"The package {error.name} is not installed.",
            expected="the packages that write and run ONNX files.",
            remedy='pip install "fraud-scoring[onnx]".',
        ) from error
    feeds = _feeds(model, _example_values(model, COMPARED_SHAPES[-1]))
    examples = tuple(torch.from_numpy(array) for array in feeds.values())
    dimensions = {0: torch.export.Dim("contexts"), 1: torch.export.Dim("events")}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Warnings about future changes in torch and about image packages; no action is needed.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            examples,
            input_names=list(feeds),
            output_names=list(OUTPUTS),
            dynamic_shapes=(dimensions,) * len(examples),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props["columns"] = json.dumps(dict(model.columns))
    vocabularies = model.encoding.vocabularies
    if vocabularies:
        lists = {name: vocabulary.values for name, vocabulary in vocabularies.items()}
        program.model.metadata_props["vocabularies"] = json.dumps(lists)
    program.model.metadata_props["checkpoint_sha256"] = sha256
    return bytes(program.model_proto.SerializeToString())


def _feeds(
    model: TrainedModel, values: npt.NDArray[np.float32]
) -> dict[str, npt.NDArray[np.generic]]:
    """Return the file's inputs for values [B, L, F] as scoring reads them."""
    categorical = list(model.encoding.categorical)
    if not categorical:
        return {"values": values}
    codes = values[..., categorical]
    categories = np.where(np.isnan(codes), -1, codes).astype(np.int64)
    return {"values": np.delete(values, categorical, axis=-1), "categories": categories}


def _check_equal_outputs(content: bytes, model: TrainedModel) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for shape in COMPARED_SHAPES:
        values = _example_values(model, shape)
        exported = session.run(list(OUTPUTS), _feeds(model, values))
        reference = _scorer_outputs(model, values)
        differences = {
            name: float(np.max(np.abs(output - expected) / _unit(name, expected)))
            for name, output, expected in zip(OUTPUTS, exported, reference, strict=True)
        }
        if not max(differences.values()) <= TOLERANCE:
            raise FraudScoringError(
                f"The ONNX file and the model differ on contexts of shape {shape}: "
                f"{', '.join(f'{name} by {by:.1e}' for name, by in differences.items())}.",
                expected=f"at most {TOLERANCE:.0e}.",
                remedy="report it with the versions of torch, onnxscript and onnxruntime; no "
                "file was written.",
            )


def _unit(name: str, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.ones_like(values) if name == "score" else np.maximum(np.abs(values), 1.0)


def _example_values(model: TrainedModel, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return plausible values [B, L, F]; some are anomalous and a tenth are missing."""
    rng = np.random.default_rng(0)
    channels = 2 * rng.standard_normal((*shape, model.encoding.num_channels))
    # `other` included.
    codes = rng.integers(0, model.encoding.class_counts, (*shape, len(model.encoding.categorical)))
    decoded = model.encoding.decode(
        torch.from_numpy(channels.astype(np.float32)), torch.from_numpy(codes)
    ).numpy()
    missing = rng.random(decoded.shape) < 0.1
    return np.where(missing, np.float32(np.nan), decoded)


def _scorer_outputs(
    model: TrainedModel, values: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], ...]:
    num_contexts, length, _ = values.shape
    batch = EventBatch(
        values=values,
        roles=np.full((num_contexts, length), TARGET, dtype=np.uint8),
        lengths=np.full(num_contexts, length, dtype=np.int64),
        first_position=np.zeros(num_contexts, dtype=np.int64),
        rows=np.empty((num_contexts, 0), dtype=np.int64),
        source=None,
    )
    events = Scorer(model).score_events(batch)
    outputs = (
        events.reconstruction_error,
        events.ranking_value,
        model.require_calibration().score(events.ranking_value),
    )
    return tuple(output.reshape(num_contexts, length) for output in outputs)
