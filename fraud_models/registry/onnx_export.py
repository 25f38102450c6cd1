"""A model as one ONNX file, for systems that score without this package.

    values [B, L, F] float32   contexts as scoring reads them: a card's events in order, the columns
                               in the order of the file's metadata, NaN for a missing value
    reconstruction_error, ranking_value, score [B, L] float64

Every event is scored, causally, so a caller pads contexts at their end and reads what it needs.
Shares and reasons stay here: integrated gradients are no part of a network.

What the file says is compared with the scorer's own figures before it is handed out. The
calibration is told again in torch here, which that comparison keeps true.

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
from fraud_models.scoring.rarity import LEAST_SHARE, Rarities
from fraud_models.scoring.reconstruction import Reconstruction, Reconstructor
from fraud_models.scoring.scorer import Scorer, head_of
from fraud_models.scoring.trained_model import TrainedModel
from fraud_models.sequences.event_batch import TARGET, EventBatch

OUTPUTS = ("reconstruction_error", "ranking_value", "score")
# Of what both say: relative for errors and ranking values, absolute for scores.
TOLERANCE = 1e-5
OPSET = 20
# Contexts that both are asked about: of one event, and of several windows of any memory.
COMPARED_SHAPES = ((1, 1), (3, 200))


class _TailRank(nn.Module):
    """`Calibration` in torch: ranking values [...] to tail ranks and to the shares above them."""

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
        reached = self.probabilities[last]
        beyond = (1 - reached) * (1 + self.shape * excess) ** (-1 / self.shape)
        above = values > self.quantiles[last]
        most = float(np.nextafter(1.0, 0.0))
        rank = torch.where(above, (1 - beyond).clamp(max=most), inside)
        return rank, torch.where(above, beyond, 1 - inside)


class _ByError(nn.Module):
    """Sum of the ranked columns' errors."""

    def __init__(self, ranked: list[int]) -> None:
        super().__init__()
        self.ranked = ranked

    def forward(self, found: Reconstruction) -> Tensor:
        errors: Tensor = found.errors.double()[..., self.ranked]
        return errors.sum(dim=-1)


class _ByRarity(nn.Module):
    """Logarithm of the weighted mean of reciprocal shares (`fraud_models/scoring/rarity.py`)."""

    def __init__(self, rarities: Rarities, columns: tuple[str, ...]) -> None:
        super().__init__()
        self.places = [columns.index(name) for name in rarities.by_column]
        self.ranks = nn.ModuleList(map(_TailRank, rarities.by_column.values()))
        self.log_weights: Tensor
        self.register_buffer("log_weights", torch.from_numpy(np.log(rarities.shares_of_mean)))

    def forward(self, found: Reconstruction) -> Tensor:
        errors = found.errors.double()
        shares = [
            rank(errors[..., place])[1].clamp(min=LEAST_SHARE)
            for place, rank in zip(self.places, self.ranks, strict=True)
        ]
        rarities = -torch.log(torch.stack(shares, dim=-1))
        return torch.logsumexp(rarities + self.log_weights, dim=-1)


class _ByHead(nn.Module):
    """Log odds above a usual event's."""

    def __init__(self, head: FraudHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, found: Reconstruction) -> Tensor:
        inputs = self.head.inputs(found.channels, found.errors, found.codes)
        odds: Tensor = self.head(inputs) - self.head(torch.zeros_like(inputs[..., :1, :]))
        return odds.double()


class _WholeModel(nn.Module):
    """From values to scores."""

    def __init__(self, checkpoint: TrainedModel, calibration: Calibration) -> None:
        super().__init__()
        config = checkpoint.config
        self.reconstructor = Reconstructor(config, checkpoint.encoding)
        self.reconstructor.network.load_state_dict(checkpoint.network_weights)
        self.ranking = _ranking(checkpoint)
        self.tail_rank = _TailRank(calibration)

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.reconstructor.describe(*self.reconstructor.read(values))
        ranking = self.ranking(found)
        return found.errors.double().sum(dim=-1), ranking, self.tail_rank(ranking)[0]


def _ranking(checkpoint: TrainedModel) -> nn.Module:
    config, columns = checkpoint.config, checkpoint.encoding.columns
    head = head_of(checkpoint)
    if head is not None:
        return _ByHead(head)
    if config.ranking == BY_RARITY:
        assert checkpoint.rarities is not None, "a model that scores has them"
        return _ByRarity(checkpoint.rarities, columns)
    return _ByError([columns.index(name) for name in config.ranked])


def to_onnx(checkpoint: TrainedModel, sha256: str) -> bytes:
    """The ONNX file of a calibrated model; `sha256` is of its `checkpoint.json`.

    Raises:
        InputMissing: the packages that write such files are not installed.
        FraudScoringError: the model is not calibrated, or the file would not say what the model says.
    """
    model = _WholeModel(checkpoint, checkpoint.require_calibration()).eval()
    content = _written(model, checkpoint, sha256)
    _check_same(content, checkpoint)
    return content


def _written(model: nn.Module, checkpoint: TrainedModel, sha256: str) -> bytes:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputMissing(
            f"The package {error.name} is not installed.",
            expected="what writes ONNX files and runs them.",
            remedy='pip install "fraud-scoring[onnx]".',
        ) from error
    example = torch.from_numpy(_plausible(checkpoint, COMPARED_SHAPES[-1]))
    dimensions = {0: torch.export.Dim("contexts"), 1: torch.export.Dim("events")}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Of torch's own future, and of packages that only images need: nothing to act on here.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (example,),
            input_names=["values"],
            output_names=list(OUTPUTS),
            dynamic_shapes=(dimensions,),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props["columns"] = json.dumps(dict(checkpoint.columns))
    program.model.metadata_props["checkpoint_sha256"] = sha256
    return bytes(program.model_proto.SerializeToString())


def _check_same(content: bytes, checkpoint: TrainedModel) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for shape in COMPARED_SHAPES:
        values = _plausible(checkpoint, shape)
        found = session.run(list(OUTPUTS), {"values": values})
        wanted = _by_scorer(checkpoint, values)
        worst = {
            name: float(np.max(np.abs(one - other) / _unit(name, other)))
            for name, one, other in zip(OUTPUTS, found, wanted, strict=True)
        }
        if not max(worst.values()) <= TOLERANCE:
            raise FraudScoringError(
                f"The ONNX file and the model differ on contexts of shape {shape}: "
                f"{', '.join(f'{name} by {by:.1e}' for name, by in worst.items())}.",
                expected=f"at most {TOLERANCE:.0e}.",
                remedy="report it with the versions of torch, onnxscript and onnxruntime; nothing "
                "was written.",
            )


def _unit(name: str, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.ones_like(values) if name == "score" else np.maximum(np.abs(values), 1.0)


def _plausible(checkpoint: TrainedModel, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """[B, L, F] values as events have them, some of them odd and a tenth of them missing."""
    draws = np.random.default_rng(0)
    channels = 2 * draws.standard_normal((*shape, checkpoint.encoding.num_channels))
    decoded = checkpoint.encoding.decode(torch.from_numpy(channels.astype(np.float32))).numpy()
    missing = draws.random(decoded.shape) < 0.1
    return np.where(missing, np.float32(np.nan), decoded)


def _by_scorer(
    checkpoint: TrainedModel, values: npt.NDArray[np.float32]
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
    events = Scorer(checkpoint).score_events(batch)
    found = (
        events.reconstruction_error,
        events.ranking_value,
        checkpoint.require_calibration().score(events.ranking_value),
    )
    return tuple(figures.reshape(num_contexts, length) for figures in found)
