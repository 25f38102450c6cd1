"""Train a network on a snapshot: the same function in one process or in every rank of many.

All ranks do the same steps. A step's objective is the mean over the target events of the global
batch, so one rank and two optimise the same thing; a rank whose rows have run out goes along with
a batch of weight 0. After each epoch the first rank writes the whole state, and a run that was
killed goes on from there as if nothing had happened: shuffling and dropout follow from
(seed, epoch, rank) alone.

    train(TrainingRun(snapshot_uri, run_dir, lstm_autoencoder()))
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from feature_defs.problems import Problem
from fraud_models.checkpoint import Checkpoint, save_checkpoint
from fraud_models.config import ModelConfig
from fraud_models.encoding import Encoding
from fraud_models.event_batch import TARGET, VALIDATION_TARGET, EventBatch
from fraud_models.loss import channel_nats, training_nats, weighted_sum
from fraud_models.networks import build
from fraud_models.networks.autoencoder import Autoencoder
from fraud_models.petastorm_reader import RowCount, Shard, check_num_rows, read_batches
from fraud_models.ranks import Ranks
from fraud_models.run_state import (
    CHECKPOINT_FOLDER,
    FINISHED,
    EpochState,
    RankLog,
    load_newest_epoch,
    save_epoch,
    write_error,
    write_scratch,
)
from fraud_models.snapshot import read_manifest, verify
from fraud_models.storage import join

LEAST_LEARNING_RATE_SHARE = 0.05
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


def train(run: TrainingRun) -> dict[str, Any]:
    """Train and write `<run_dir>/checkpoint` (not calibrated); every rank returns a summary.

    The summary holds `checkpoint_uri`, `sha256` (empty but in the first rank), `best_epoch`,
    `epochs`, `train_loss` and `validation_loss` (nats per event, of the best epoch), `history` (a
    dict per epoch), `num_train_events`, `num_validation_events`, `world_size` and `seconds` (of
    this attempt).

    Raises:
        InputMissing: the snapshot is damaged, or rows went missing while reading.
        PeerLost: another rank went away.
    """
    ranks = Ranks.from_environment()
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


class _Objective(nn.Module):
    """Encoded batch to weighted nats: what DDP wraps, so that every parameter takes part."""

    def __init__(self, network: Autoencoder, encoding: Encoding, freedom: Tensor) -> None:
        super().__init__()
        self.network = network
        self.encoding = encoding
        self.register_buffer("freedom", freedom, persistent=False)
        self.freedom: Tensor
        self.register_buffer("owner", torch.tensor(encoding.channel_owner), persistent=False)
        self.owner: Tensor

    def forward(self, values: Tensor, weights: Tensor) -> Tensor:
        channels, present = self.encoding.encode(values)
        codes = self.network.encode(self.encoding.inputs(channels, present))
        # Only targets are decoded; an event of weight 0 stands in where there is none.
        chosen = weights > 0
        if not bool(chosen.any()):
            chosen = torch.zeros_like(chosen)
            chosen[0, 0] = True
        scale = self.network.scale()
        location = self.network.decode(codes[chosen])
        nats = channel_nats(channels[chosen], location, scale, self.freedom)
        per_event = training_nats(nats, present[chosen], self.owner, scale)
        return weighted_sum(per_event, weights[chosen])


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
            raise Problem(
                f"The snapshot holds the columns {', '.join(self.manifest.columns)}.",
                expected=f"those of the config, in order: {', '.join(self.config.columns)}.",
                remedy="write a snapshot for this config.",
            )
        self.shard = Shard(run.snapshot_uri, self.manifest, ranks.rank, ranks.world_size)
        encoding = self.manifest.encoding
        torch.manual_seed(self.config.optimisation.seed)
        network = build(self.config.network, encoding.num_inputs, encoding.num_channels)
        freedom = encoding.freedom(self.config.network)
        self.network = network.to(ranks.device)
        self.objective = _Objective(self.network, encoding, freedom).to(ranks.device)
        self.replica = ranks.replicate(self.objective)
        optimisation = self.config.optimisation
        self.adam = torch.optim.Adam(self.network.parameters(), lr=optimisation.learning_rate)

    def run(self) -> dict[str, Any]:
        state = load_newest_epoch(self.run_spec.run_dir, self.config.to_dict())
        if state is None:
            state = EpochState(0, 0, math.inf, self.config.to_dict(), [], self._tensors({}))
        else:
            self._restore(state)
            self.log.write(f"goes on after epoch {state.epoch}")
        optimisation = self.config.optimisation
        while (
            state.epoch < optimisation.epochs
            and state.epoch - state.best_epoch < optimisation.patience
        ):
            state = self._epoch(state)
            if self.ranks.is_first:
                save_epoch(self.run_spec.run_dir, state)
                sys.stdout.write(json.dumps(state.history[-1]) + "\n")
                sys.stdout.flush()
            # Nobody goes on before the state is written.
            self.ranks.sum(0.0)
        return self._finish(state)

    def _epoch(self, state: EpochState) -> EpochState:
        epoch = state.epoch + 1
        began = time.monotonic()
        torch.manual_seed(self.config.optimisation.seed + 1000 * epoch + self.ranks.rank)
        learning_rate = self._learning_rate(epoch)
        for group in self.adam.param_groups:
            group["lr"] = learning_rate
        train_loss = self._pass(epoch, TARGET).mean
        validation_loss = self._pass(epoch, VALIDATION_TARGET).mean
        if not (math.isfinite(train_loss) and math.isfinite(validation_loss)):
            raise Problem(
                f"Epoch {epoch} ended with a training loss of {train_loss} and a validation loss "
                f"of {validation_loss}.",
                expected="finite numbers.",
                remedy="look for infinite feature values, or lower the learning rate.",
            )
        entry = {
            "epoch": epoch,
            "train_loss": train_loss,
            "validation_loss": validation_loss,
            "learning_rate": learning_rate,
            "seconds": round(time.monotonic() - began, 3),
        }
        better = validation_loss < state.best_validation_loss
        best = self.network.state_dict() if better else _part(state.tensors, "best")
        return EpochState(
            epoch=epoch,
            best_epoch=epoch if better else state.best_epoch,
            best_validation_loss=min(validation_loss, state.best_validation_loss),
            config=state.config,
            history=[*state.history, entry],
            tensors=self._tensors(best),
        )

    def _pass(self, epoch: int, role: int) -> _Progress:
        """All rows once: a step per batch for targets, loss only for validation targets."""
        training = role == TARGET
        self.objective.train(training)
        progress, counted = _Progress(), RowCount()
        batches = read_batches(self.shard, self.config.optimisation, epoch, counted)
        weighted = _with_role(batches, role)
        with torch.set_grad_enabled(training):
            for number, batch in enumerate(self._until_all_are_done(weighted), start=1):
                self._step(batch, progress, training)
                self._report(f"epoch {epoch}, role {role}, batch {number}")
        (num_rows,) = self.ranks.sum(counted.num_rows)
        check_num_rows(self.shard, int(num_rows))
        return progress

    def _until_all_are_done(
        self, batches: Iterator[tuple[Tensor, Tensor]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            batch = next(batches, None)
            (num_left,) = self.ranks.sum(float(batch is not None))
            if num_left == 0:
                return
            yield batch if batch is not None else self._nothing()

    def _nothing(self) -> tuple[Tensor, Tensor]:
        values = torch.zeros(1, 1, len(self.config.columns))
        return values, torch.zeros(1, 1)

    def _step(self, batch: tuple[Tensor, Tensor], progress: _Progress, training: bool) -> None:
        values, weights = (tensor.to(self.ranks.device) for tensor in batch)
        # Validation needs no gradients, so it goes past DDP, whose ranks would wait for them.
        loss = (self.replica if training else self.objective)(values, weights)
        nats, weight = self.ranks.sum(float(loss.detach()), float(weights.sum()))
        progress.nats += nats
        progress.weight += weight
        if not training or weight == 0:
            return
        self.adam.zero_grad(set_to_none=True)
        # DDP averages over ranks; times their number it is the sum over the global batch.
        self.ranks.backward(loss * (self.ranks.world_size / weight))
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimisation.gradient_clip)
        self.adam.step()

    def _learning_rate(self, epoch: int) -> float:
        optimisation = self.config.optimisation
        done = (epoch - 1) / max(1, optimisation.epochs - 1)
        share = LEAST_LEARNING_RATE_SHARE + (1 - LEAST_LEARNING_RATE_SHARE) * 0.5 * (
            1 + math.cos(math.pi * done)
        )
        return optimisation.learning_rate * share

    def _tensors(self, best: dict[str, Tensor]) -> dict[str, Tensor]:
        tensors = {f"model.{k}": v.clone() for k, v in self.network.state_dict().items()}
        tensors.update({f"best.{k}": v.clone() for k, v in best.items()})
        for index, slots in self.adam.state_dict()["state"].items():
            tensors.update({f"adam.{index}.{k}": v.clone() for k, v in slots.items()})
        return tensors

    def _restore(self, state: EpochState) -> None:
        self.network.load_state_dict(_part(state.tensors, "model"))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _part(state.tensors, "adam").items():
            index, slot = name.split(".", 1)
            slots.setdefault(int(index), {})[slot] = tensor
        groups = self.adam.state_dict()["param_groups"]
        self.adam.load_state_dict({"state": slots, "param_groups": groups})

    def _finish(self, state: EpochState) -> dict[str, Any]:
        best = state.history[state.best_epoch - 1]
        summary: dict[str, Any] = {
            "best_epoch": state.best_epoch,
            "epochs": state.epoch,
            "train_loss": best["train_loss"],
            "validation_loss": best["validation_loss"],
            "history": state.history,
            "num_train_events": self.manifest.summary.num_train_events,
            "num_validation_events": self.manifest.summary.num_validation_events,
            "world_size": self.ranks.world_size,
            "seconds": round(time.monotonic() - self.started, 3),
        }
        uri = join(self.run_spec.run_dir, CHECKPOINT_FOLDER)
        checkpoint = Checkpoint(
            config=self.config,
            encoding=self.manifest.encoding,
            columns=self.manifest.columns,
            data_versions=self.manifest.data_versions,
            as_of=self.manifest.as_of,
            weights=_part(state.tensors, "best"),
            training=summary,
        )
        digest = save_checkpoint(uri, checkpoint) if self.ranks.is_first else ""
        return {**summary, "checkpoint_uri": uri, "sha256": digest}

    def _report(self, text: str) -> None:
        now = time.monotonic()
        if now - self.last_line >= SECONDS_BETWEEN_LOG_LINES:
            self.last_line = now
            self.log.write(text)


def _with_role(batches: Iterator[EventBatch], role: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Values [B, L, F] and weights [B, L] of the sequences that have an event of this role."""
    for batch in batches:
        weights = batch.roles == role
        chosen = weights.any(axis=1)
        if not chosen.any():
            continue
        # What follows the last target does not matter to a causal model.
        longest = int(np.flatnonzero(weights.any(axis=0))[-1]) + 1
        yield (
            torch.from_numpy(batch.values[chosen, :longest]),
            torch.from_numpy(weights[chosen, :longest].astype(np.float32)),
        )


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
