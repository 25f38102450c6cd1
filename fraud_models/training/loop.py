"""Train a network on a snapshot: the same function in one process or in every rank of many.

All ranks do the same steps. A step's objective is the mean over the chosen events of the global
batch, so one rank and two optimise the same thing; a rank whose rows have run out goes along with
a batch of weight 0. A training has one phase or two (`fraud_models/training/phases.py`). After each epoch
the first rank writes the whole state, and a run that was killed goes on from there as if nothing
had happened: shuffling and dropout follow from (seed, epoch, rank) alone.

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
from fraud_models.scoring.trained_model import HEAD_WEIGHTS, TrainedModel, part
from fraud_models.storage import join
from fraud_models.training.passes import Passes
from fraud_models.training.petastorm_reader import Shard
from fraud_models.training.phases import Phase, phases_of
from fraud_models.training.prefetch import Choice, Step
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
from fraud_models.training.snapshot import read_manifest, verify

SECONDS_BETWEEN_LOG_LINES = 5.0


@dataclass(frozen=True)
class TrainingRun:
    """One training, whole: what is learned from, how, and where its state lives."""

    snapshot_uri: str
    """Folder of a snapshot with its manifest."""
    run_dir: str
    """Folder that all ranks can write to; a second start with the same one resumes."""
    config: ModelConfig
    timeout_s: float = 300.0
    """How long a rank waits for the others, in seconds."""
    use_gpu: bool = True
    """Whether a rank computes on the GPU that it sees, where it sees one."""
    mixed_precision: bool = True
    """Whether a GPU that has bfloat16 multiplies in it while the network learns."""


def train(run: TrainingRun) -> dict[str, Any]:
    """Train and write `<run_dir>/checkpoint` (not calibrated); every rank returns a summary.

    The summary holds `checkpoint_uri`, `sha256` (empty but in the first rank), `best_epoch`,
    `epochs`, `train_loss` and `validation_loss` (nats per event, of the best epoch), `history` (a
    dict per epoch), `num_train_events`, `num_validation_events`, `world_size`, `device`,
    `precision` (of the products while learning) and `seconds` (of this attempt).

    Raises:
        InputMissing: the snapshot is damaged, or rows went missing while reading.
        PeerLost: another rank went away.
    """
    ranks = Ranks.from_environment(run.use_gpu)
    log = RankLog(run.run_dir, ranks.rank)
    log.write("started")
    write_scratch(run.run_dir, ranks.rank)
    try:
        with ranks.joined(run.timeout_s):
            summary = _Trainer(run, ranks, log).run()
    except BaseException as error:
        write_error(run.run_dir, ranks.rank, error)
        raise
    log.write(FINISHED)
    return summary


@dataclass
class _Progress:
    """Loss of a pass so far, over all ranks."""

    nats: float = 0.0
    weight: float = 0.0

    @property
    def mean(self) -> float:
        return self.nats / self.weight if self.weight else math.nan


@dataclass
class _Trainer:
    run_spec: TrainingRun
    ranks: Ranks
    log: RankLog
    started: float = field(default_factory=time.monotonic)
    last_line: float = 0.0

    def __post_init__(self) -> None:
        run, ranks = self.run_spec, self.ranks
        self.config = run.config
        self.manifest = read_manifest(run.snapshot_uri)
        verify(run.snapshot_uri, self.manifest, ranks.world_size)
        if tuple(self.manifest.columns) != self.config.columns:
            raise FraudScoringError(
                f"The snapshot holds the columns {', '.join(self.manifest.columns)}.",
                expected=f"those of the config, in order: {', '.join(self.config.columns)}.",
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
            self.log.write(f"goes on after epoch {state.epoch}")
        for number, make in enumerate(phases_of(self.config, self.manifest.encoding, self.ranks)):
            phase = make()
            if state.phase > number:
                phase.learner.load_state_dict(part(state.tensors, f"learned{number}"))
                continue
            self._begin(phase, state)
            while not _is_over(phase, state):
                state = self._epoch(phase, state)
                self._keep(state)
            # What comes next builds on the best, and so does a run that goes on from here.
            best = part(state.tensors, "best")
            phase.learner.load_state_dict(best)
            state = state.next_phase(best)
        return self._finish(state)

    def _begin(self, phase: Phase, state: EpochState) -> None:
        """Put a phase where a run that was stopped had left it."""
        if state.phase_epoch == 0:
            return
        phase.learner.load_state_dict(part(state.tensors, "model"))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part(state.tensors, "adam").items():
            index, slot = name.split(".", 1)
            slots.setdefault(int(index), {})[slot] = tensor
        groups = phase.optimiser.state_dict()["param_groups"]
        phase.optimiser.load_state_dict({"state": slots, "param_groups": groups})

    def _keep(self, state: EpochState) -> None:
        if self.ranks.is_first:
            save_epoch(self.run_spec.run_dir, state)
            sys.stdout.write(json.dumps(state.history[-1]) + "\n")
            sys.stdout.flush()
        # Nobody goes on before the state is written.
        self.ranks.sum(0.0)

    def _epoch(self, phase: Phase, state: EpochState) -> EpochState:
        epoch = state.epoch + 1
        began = time.monotonic()
        torch.manual_seed(self.config.optimisation.seed + 1000 * epoch + self.ranks.rank)
        learning_rate = phase.set_learning_rate(state.phase_epoch + 1)
        train_loss = self._pass(phase, epoch, phase.teaches, training=True).mean
        judged = {}
        if phase.judges is not None:
            judged["validation_loss"] = self._pass(phase, epoch, phase.judges, training=False).mean
        if not all(map(math.isfinite, (train_loss, *judged.values()))):
            raise FraudScoringError(
                f"Epoch {epoch} ended with a training loss of {train_loss}"
                + "".join(f" and a validation loss of {loss}" for loss in judged.values())
                + ".",
                expected="finite numbers.",
                remedy="look for infinite feature values, or lower the learning rate.",
            )
        entry = {
            "epoch": epoch,
            "phase": phase.name,
            "train_loss": train_loss,
            **judged,
            "learning_rate": learning_rate,
            "seconds": round(time.monotonic() - began, 3),
        }
        return state.after(entry, phase.learner.state_dict(), phase.optimiser.state_dict())

    def _pass(self, phase: Phase, epoch: int, choose: Choice, *, training: bool) -> _Progress:
        """All events once: a step per batch in training, else loss only."""
        phase.objective.train(training)
        progress = _Progress()
        with torch.set_grad_enabled(training):
            for number, batch in enumerate(self.passes.steps(phase, epoch, choose), start=1):
                self._step(phase, batch, progress, training)
                kind = "teaching" if training else "judging"
                self._report(f"{phase.name}, epoch {epoch}, {kind}, batch {number}")
        return progress

    def _step(self, phase: Phase, batch: Step, progress: _Progress, training: bool) -> None:
        values, weights, labels = (tensor.to(self.ranks.device) for tensor in batch)
        # Judging needs no gradients, so it goes past DDP, whose ranks would wait for them; and it
        # is as precise as scoring.
        lower = training and self.precision != torch.float32
        with torch.autocast(self.ranks.device.type, self.precision, enabled=lower):
            loss = (phase.replica if training else phase.objective)(values, weights, labels)
        nats, weight = self.ranks.sum(float(loss.detach()), float(weights.sum()))
        progress.nats += nats
        progress.weight += weight
        if not training or weight == 0:
            return
        phase.optimiser.zero_grad(set_to_none=True)
        # DDP averages over ranks; times their number it is the sum over the global batch.
        self.ranks.backward(loss * (self.ranks.world_size / weight))
        clip = self.config.optimisation.gradient_clip
        nn.utils.clip_grad_norm_(phase.learner.parameters(), clip)
        phase.optimiser.step()

    def _finish(self, state: EpochState) -> dict[str, Any]:
        best = state.history[state.best_epoch - 1]
        (network, *heads) = (
            part(state.tensors, f"learned{number}") for number in range(state.phase)
        )
        head = {f"{HEAD_WEIGHTS}.{name}": tensor for made in heads for name, tensor in made.items()}
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
        checkpoint = TrainedModel(
            config=self.config,
            encoding=self.manifest.encoding,
            columns=self.manifest.columns,
            data_versions=self.manifest.data_versions,
            as_of=self.manifest.as_of,
            weights={**network, **head},
            training=summary,
        )
        digest = save_checkpoint(uri, checkpoint) if self.ranks.is_first else ""
        return {**summary, "checkpoint_uri": uri, "sha256": digest}

    def _report(self, text: str) -> None:
        now = time.monotonic()
        if now - self.last_line >= SECONDS_BETWEEN_LOG_LINES:
            self.last_line = now
            self.log.write(text)


def _is_over(phase: Phase, state: EpochState) -> bool:
    waited = state.epoch - state.best_epoch
    return state.phase_epoch >= phase.epochs or (
        phase.judges is not None and waited >= phase.patience
    )
