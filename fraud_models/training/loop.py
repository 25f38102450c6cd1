"""Train a model on a snapshot: the same function in a single process and in every rank of many.

All ranks take the same steps. The objective of a step is the mean over the selected events of the
global batch, so it does not depend on the number of ranks. A rank that has no rows left takes part
with a batch of weight 0. A training has one or two phases (see `phases`). After each epoch the
first rank writes the whole state. A killed run resumes from there with identical results, because
shuffling and dropout depend only on (seed, epoch, rank).

    train(TrainingRun(snapshot_uri, run_dir, lstm_autoencoder()))
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from feature_defs.errors import FraudScoringError
from fraud_models.config import ModelConfig
from fraud_models.registry.checkpoint import save_checkpoint
from fraud_models.scoring.trained_model import HEAD_WEIGHTS, TrainedModel, tensors_under
from fraud_models.storage import join
from fraud_models.training.passes import Passes
from fraud_models.training.petastorm_reader import Shard
from fraud_models.training.phases import Phase, training_phases
from fraud_models.training.prefetch import EventSelector, Step
from fraud_models.training.process_group import Ranks
from fraud_models.training.run_state import (
    CHECKPOINT_FOLDER,
    FINISHED,
    EpochState,
    RankLog,
    load_newest_epoch,
    save_epoch,
    write_error,
    write_scratch,
)
from fraud_models.training.snapshot import read_manifest, verify_manifest

SECONDS_BETWEEN_LOG_LINES = 5.0


@dataclass(frozen=True)
class TrainingRun:
    """All inputs of one training: snapshot, config, and the folder of its state."""

    snapshot_uri: str
    """Folder of a snapshot and its manifest."""
    run_dir: str
    """Folder that all ranks can write to; a second start with the same folder resumes."""
    config: ModelConfig
    timeout_s: float = 300.0
    """Time that a rank waits for the others, in seconds."""
    use_gpu: bool = True
    """Whether a rank uses the GPU that is visible to it, if any."""
    mixed_precision: bool = True
    """Whether matrix products in training use bfloat16 on GPUs that support it."""


def train(run: TrainingRun) -> dict[str, Any]:
    """Train and write `<run_dir>/checkpoint` (not calibrated); return a summary in every rank.

    The summary contains `checkpoint_uri`, `sha256` (empty except in the first rank), `best_epoch`,
    `epochs`, `train_loss` and `validation_loss` (nats per event, of the best epoch), `history` (a
    dict per epoch), `num_train_events`, `num_validation_events`, `world_size`, `device`,
    `precision` (of matrix products in training) and `seconds` (of this attempt).

    Raises:
        InputMissing: the snapshot is damaged or the reader lost rows, so write the snapshot again;
            or the folder has the state of another config, so use another folder.
        FraudScoringError: the snapshot has other columns than the config, or a loss is not finite;
            the message says what to change.
        PeerLost: another rank died or stopped responding; read the report of that rank.
    """
    ranks = Ranks.from_environment(run.use_gpu)
    log = RankLog(run.run_dir, ranks.rank)
    log.write("started")
    write_scratch(run.run_dir, ranks.rank)
    try:
        with ranks.connected(run.timeout_s):
            summary = _Trainer(run, ranks, log).run()
    except BaseException as error:
        write_error(run.run_dir, ranks.rank, error)
        raise
    log.write(FINISHED)
    return summary


@dataclass
class _LossSum:
    """Sum of the loss of a pass so far, over all ranks."""

    nats: float = 0.0
    weight: float = 0.0

    @property
    def mean(self) -> float:
        return self.nats / self.weight if self.weight else math.nan


@dataclass
class _Trainer:
    """One rank's part of a training run."""

    run_spec: TrainingRun
    ranks: Ranks
    log: RankLog
    started: float = field(default_factory=time.monotonic)
    last_line: float = 0.0

    def __post_init__(self) -> None:
        run, ranks = self.run_spec, self.ranks
        self.config = run.config
        self.manifest = read_manifest(run.snapshot_uri)
        verify_manifest(run.snapshot_uri, self.manifest, ranks.world_size)
        if tuple(self.manifest.columns) != self.config.columns:
            raise FraudScoringError(
                f"The snapshot has the columns {', '.join(self.manifest.columns)}.",
                expected=f"the columns of the config, in order: {', '.join(self.config.columns)}.",
                remedy="write a snapshot for this config.",
            )
        shard = Shard(run.snapshot_uri, self.manifest, ranks.rank, ranks.world_size)
        self.passes = Passes(shard, self.config, ranks, self._report)
        self.precision = ranks.precision(run.mixed_precision)

    def run(self) -> dict[str, Any]:
        state = load_newest_epoch(self.run_spec.run_dir, self.config.to_dict())
        if state is None:
            state = EpochState.fresh(self.config.to_dict())
        else:
            self.log.write(f"resuming after epoch {state.epoch}")
        for number, create_phase in enumerate(
            training_phases(self.config, self.manifest.encoding, self.ranks)
        ):
            phase = create_phase()
            if state.phase > number:
                phase.learner.load_state_dict(tensors_under(state.tensors, f"learned{number}"))
                continue
            self._restore(phase, state)
            while not _is_finished(phase, state):
                state = self._epoch(phase, state)
                self._save(state)
            # The next phase starts from the best weights, also in a run that is resumed here.
            best = tensors_under(state.tensors, "best")
            phase.learner.load_state_dict(best)
            state = state.next_phase(best)
        return self._finish(state)

    def _restore(self, phase: Phase, state: EpochState) -> None:
        """Restore weights and optimiser of a phase that an earlier attempt had started."""
        if state.phase_epoch == 0:
            return
        phase.learner.load_state_dict(tensors_under(state.tensors, "model"))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors_under(state.tensors, "adam").items():
            index, slot = name.split(".", 1)
            slots.setdefault(int(index), {})[slot] = tensor
        groups = phase.optimiser.state_dict()["param_groups"]
        phase.optimiser.load_state_dict({"state": slots, "param_groups": groups})

    def _save(self, state: EpochState) -> None:
        if self.ranks.is_first:
            save_epoch(self.run_spec.run_dir, state)
            sys.stdout.write(json.dumps(state.history[-1]) + "\n")
            sys.stdout.flush()
        # A barrier: no rank continues before the state is written.
        self.ranks.sum(0.0)

    def _epoch(self, phase: Phase, state: EpochState) -> EpochState:
        epoch = state.epoch + 1
        began = time.monotonic()
        torch.manual_seed(self.config.optimisation.seed + 1000 * epoch + self.ranks.rank)
        learning_rate = phase.set_learning_rate(state.phase_epoch + 1)
        train_loss = self._pass(phase, epoch, phase.select_training, training=True).mean
        validation = {}
        if phase.select_validation is not None:
            loss_sum = self._pass(phase, epoch, phase.select_validation, training=False)
            validation["validation_loss"] = loss_sum.mean
        if not all(map(math.isfinite, (train_loss, *validation.values()))):
            raise FraudScoringError(
                f"Epoch {epoch} ended with a training loss of {train_loss}"
                + "".join(f" and a validation loss of {loss}" for loss in validation.values())
                + ".",
                expected="finite numbers.",
                remedy="look for infinite feature values, or lower the learning rate.",
            )
        entry = {
            "epoch": epoch,
            "phase": phase.name,
            "train_loss": train_loss,
            **validation,
            "learning_rate": learning_rate,
            "seconds": round(time.monotonic() - began, 3),
        }
        return state.after_epoch(entry, phase.learner.state_dict(), phase.optimiser.state_dict())

    def _pass(self, phase: Phase, epoch: int, select: EventSelector, *, training: bool) -> _LossSum:
        """Process all selected events once: optimise in training, only sum the loss otherwise."""
        phase.objective.train(training)
        loss_sum = _LossSum()
        with torch.set_grad_enabled(training):
            for number, batch in enumerate(self.passes.steps(phase, epoch, select), start=1):
                self._step(phase, batch, loss_sum, training)
                kind = "training" if training else "validation"
                self._report(f"{phase.name}, epoch {epoch}, {kind}, batch {number}")
        return loss_sum

    def _step(self, phase: Phase, batch: Step, loss_sum: _LossSum, training: bool) -> None:
        values, weights, labels = (tensor.to(self.ranks.device) for tensor in batch)
        # Validation has no backward pass, for which DDP would wait, so it bypasses DDP. It has the
        # precision of scoring.
        is_mixed = training and self.precision != torch.float32
        with torch.autocast(self.ranks.device.type, self.precision, enabled=is_mixed):
            loss = (phase.replica if training else phase.objective)(values, weights, labels)
        nats, weight = self.ranks.sum(float(loss.detach()), float(weights.sum()))
        loss_sum.nats += nats
        loss_sum.weight += weight
        if not training or weight == 0:
            return
        phase.optimiser.zero_grad(set_to_none=True)
        # DDP averages over ranks; times the number of ranks, this is the sum over the global batch.
        self.ranks.backward(loss * (self.ranks.world_size / weight))
        clip = self.config.optimisation.gradient_clip
        nn.utils.clip_grad_norm_(phase.learner.parameters(), clip)
        phase.optimiser.step()

    def _finish(self, state: EpochState) -> dict[str, Any]:
        best = state.history[state.best_epoch - 1]
        (network, *heads) = (
            tensors_under(state.tensors, f"learned{number}") for number in range(state.phase)
        )
        head = {f"{HEAD_WEIGHTS}.{name}": tensor for item in heads for name, tensor in item.items()}
        summary: dict[str, Any] = {
            "best_epoch": state.best_epoch,
            "epochs": state.epoch,
            "train_loss": best["train_loss"],
            "validation_loss": best["validation_loss"],
            "history": state.history,
            "num_train_events": self.manifest.summary.num_train_events,
            "num_validation_events": self.manifest.summary.num_validation_events,
            "world_size": self.ranks.world_size,
            "device": self.ranks.device_name,
            "precision": str(self.precision).removeprefix("torch."),
            "seconds": round(time.monotonic() - self.started, 3),
        }
        uri = join(self.run_spec.run_dir, CHECKPOINT_FOLDER)
        model = TrainedModel(
            config=self.config,
            encoding=self.manifest.encoding,
            columns=self.manifest.columns,
            data_versions=self.manifest.data_versions,
            as_of=self.manifest.as_of,
            weights={**network, **head},
            training=summary,
        )
        digest = save_checkpoint(uri, model) if self.ranks.is_first else ""
        return {**summary, "checkpoint_uri": uri, "sha256": digest}

    def _report(self, text: str) -> None:
        now = time.monotonic()
        if now - self.last_line >= SECONDS_BETWEEN_LOG_LINES:
            self.last_line = now
            self.log.write(text)


def _is_finished(phase: Phase, state: EpochState) -> bool:
    """Return whether a phase has run all its epochs, or stops early."""
    epochs_since_best = state.epoch - state.best_epoch
    return state.phase_epoch >= phase.epochs or (
        phase.select_validation is not None and epochs_since_best >= phase.patience
    )
