"""Files of a training run in its folder, to monitor it, resume it and explain its failure.

    progress.jsonl                   one line per epoch
    epoch-0003.safetensors / .json   weights, best weights and Adam's state after an epoch; the
                                     JSON is written last and contains the SHA-256 of the tensors
    rank-0.log                       last log lines of each rank, with its process id
    rank-0.scratch.json              temporary folders of its launcher, and their host
    rank-0.error.json                error with which a rank ended
    checkpoint/                      the best weights as a checkpoint, not calibrated yet

All ranks share the folder (on a common file system or in an object store).
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
import sys
import tempfile
import traceback
from collections import deque
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from feature_defs.errors import InputMissing, UsageError
from fraud_models.config import ModelConfig
from fraud_models.scoring.trained_model import tensors_under
from fraud_models.storage import delete, exists, join, names_in, read_bytes, sha256_of, write_bytes
from fraud_models.training.process_group import PeerLost

PROGRESS_FILE = "progress.jsonl"
CHECKPOINT_FOLDER = "checkpoint"
EPOCH_FILE = re.compile(r"^epoch-(\d{4})\.json$")
KEPT_EPOCHS = 2
LOG_LINES = 40
LOG_LINE = re.compile(r"^(?P<moment>\S+) pid (?P<pid>\d+) on (?P<host>\S+): ")
LOG_MOMENT = "%Y-%m-%dT%H:%M:%SZ"
FINISHED = "finished"
# An active rank writes a line every few seconds. After this silence, a rank of another machine
# counts as ended.
SILENCE_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class EpochState:
    """State of a run after an epoch."""

    phase: int
    """Finished phases."""
    phase_epoch: int
    """Finished epochs of the current phase."""
    epoch: int
    """Finished epochs of all phases."""
    best_epoch: int
    """Epoch with the lowest validation loss, among epochs with validation."""
    best_validation_loss: float
    config: dict[str, Any]
    """Config of the run; a state is never resumed with another config."""
    history: list[dict[str, Any]]
    """One entry per epoch, as in `progress.jsonl`."""
    tensors: dict[str, Tensor] = field(repr=False)
    """`model.<name>`, `best.<name>` and `adam.<parameter>.<slot>` of the current phase, and
    `learned<phase>.<name>` of the finished phases."""

    @classmethod
    def fresh(cls, config: dict[str, Any]) -> EpochState:
        """Return the state before the first epoch."""
        return cls(0, 0, 0, 0, math.inf, config, [], {})

    def scalars(self) -> dict[str, Any]:
        """Return all fields except the tensors."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "tensors"}

    def after_epoch(
        self, entry: dict[str, Any], weights: dict[str, Tensor], optimiser: dict[str, Any]
    ) -> EpochState:
        """Return the state one epoch later; without validation, the newest weights are the best."""
        has_validation = "validation_loss" in entry
        loss = entry.get("validation_loss", self.best_validation_loss)
        is_better = not has_validation or loss < self.best_validation_loss
        best = weights if is_better else tensors_under(self.tensors, "best")
        tensors = {k: v for k, v in self.tensors.items() if k.startswith("learned")}
        tensors.update({f"model.{k}": v.clone() for k, v in weights.items()})
        tensors.update({f"best.{k}": v.clone() for k, v in best.items()})
        for index, slots in optimiser["state"].items():
            tensors.update({f"adam.{index}.{k}": v.clone() for k, v in slots.items()})
        return replace(
            self,
            phase_epoch=self.phase_epoch + 1,
            epoch=entry["epoch"],
            best_epoch=entry["epoch"] if has_validation and is_better else self.best_epoch,
            best_validation_loss=min(loss, self.best_validation_loss),
            history=[*self.history, entry],
            tensors=tensors,
        )

    def next_phase(self, weights: dict[str, Tensor]) -> EpochState:
        """Return the state after a phase that ended with these weights."""
        kept = {k: v for k, v in self.tensors.items() if k.startswith("learned")}
        kept.update({f"learned{self.phase}.{k}": v for k, v in weights.items()})
        return replace(self, phase=self.phase + 1, phase_epoch=0, tensors=kept)


def save_epoch(run_dir: str, state: EpochState) -> None:
    """Write the state after an epoch; delete all but the last two states."""
    name = f"epoch-{state.epoch:04d}"
    content = safetensors.torch.save(
        {key: tensor.detach().cpu().contiguous() for key, tensor in state.tensors.items()}
    )
    write_bytes(join(run_dir, f"{name}.safetensors"), content)
    scalars = {**state.scalars(), "sha256": sha256_of(content)}
    write_bytes(join(run_dir, f"{name}.json"), json.dumps(scalars).encode())
    lines = "".join(json.dumps(entry) + "\n" for entry in state.history)
    write_bytes(join(run_dir, PROGRESS_FILE), lines.encode())
    for old in _epochs(run_dir)[:-KEPT_EPOCHS]:
        delete(join(run_dir, f"epoch-{old:04d}.json"))
        delete(join(run_dir, f"epoch-{old:04d}.safetensors"))


def load_newest_epoch(run_dir: str, config: dict[str, Any]) -> EpochState | None:
    """Return the last complete state, or None if the run has not finished an epoch.

    Raises:
        InputMissing: the state was altered, or belongs to another config; delete the folder to
            train from the start, or use another folder.
    """
    epochs = _epochs(run_dir)
    if not epochs:
        return None
    name = join(run_dir, f"epoch-{epochs[-1]:04d}")
    unusable = partial(
        InputMissing,
        expected="the state that this run wrote after its last epoch.",
        remedy=f"delete the folder {run_dir} to train from the start, or use another folder.",
    )
    content = read_bytes(f"{name}.safetensors")
    try:
        scalars = json.loads(read_bytes(f"{name}.json"))
        is_intact = scalars.pop("sha256") == sha256_of(content)
        state = EpochState(**scalars, tensors=safetensors.torch.load(content) if is_intact else {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise unusable(f"{name}.json was altered: {error}.") from error
    if not is_intact:
        raise unusable(f"{name} was altered.")
    if not _is_same_config(state.config, config):
        raise unusable(f"{name} belongs to a run with another config.")
    return state


def _is_same_config(stored: dict[str, Any], config: dict[str, Any]) -> bool:
    """Return whether a stored config is this one; an earlier version lacked settings of today."""
    try:
        return ModelConfig.from_dict(stored).to_dict() == config
    except (UsageError, TypeError):
        return False


def _epochs(run_dir: str) -> list[int]:
    matches = (EPOCH_FILE.match(name) for name in names_in(run_dir))
    return sorted(int(match.group(1)) for match in matches if match)


class RankLog:
    """The last log lines of a rank; others can read them while it runs and after it was killed."""

    def __init__(self, run_dir: str, rank: int) -> None:
        self._path = join(run_dir, f"rank-{rank}.log")
        self._lines: deque[str] = deque(maxlen=LOG_LINES)

    def write(self, text: str) -> None:
        """Add a line with time, process id and host."""
        moment = datetime.now(UTC).strftime(LOG_MOMENT)
        self._lines.append(f"{moment} pid {os.getpid()} on {socket.gethostname()}: {text}\n")
        write_bytes(self._path, "".join(self._lines).encode())


@dataclass(frozen=True)
class RankReport:
    """How one rank ended."""

    rank: int
    log: str
    """Its last log lines; empty if it never started."""
    finished: bool
    error: str | None
    """Traceback of its exception; unset if it wrote none."""
    peer_lost: bool
    """Whether its exception only reports the loss of another rank."""
    scratch: tuple[str, ...]
    """Temporary folders of its launcher on this machine, to remove."""


def write_error(run_dir: str, rank: int, error: BaseException) -> None:
    """Write the error with which a rank ended to `rank-<r>.error.json`."""
    content = {
        "rank": rank,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
        "peer_lost": isinstance(error, PeerLost),
    }
    write_bytes(join(run_dir, f"rank-{rank}.error.json"), json.dumps(content, indent=1).encode())


def write_scratch(run_dir: str, rank: int) -> None:
    """Write the temporary folders of torchrun and TorchDistributor to `rank-<r>.scratch.json`."""
    temporary = Path(tempfile.gettempdir())
    error_file = Path(os.environ.get("TORCHELASTIC_ERROR_FILE") or "none")
    script = Path(sys.argv[0]).absolute()
    folders = [str(p) for p in error_file.parents if p.name.startswith("torchelastic_")]
    if script.name == "train.py" and script.parent.parent == temporary:
        folders.append(str(script.parent))
    content = json.dumps({"host": socket.gethostname(), "folders": folders})
    write_bytes(join(run_dir, f"rank-{rank}.scratch.json"), content.encode())


def rank_reports(run_dir: str, num_ranks: int) -> list[RankReport]:
    """Return how each rank of the last attempt ended."""
    return [_report(run_dir, rank) for rank in range(num_ranks)]


def active_ranks(run_dir: str) -> list[str]:
    """Return the last log line of each active rank.

    A rank is active if its process lives on this machine, or if it logged recently on another.
    """
    numbers = (re.match(r"^rank-(\d+)\.log$", name) for name in names_in(run_dir))
    reports = [_report(run_dir, int(match.group(1))) for match in numbers if match]
    return [report.log.splitlines()[-1] for report in reports if _is_active(report)]


def _is_active(report: RankReport) -> bool:
    last = LOG_LINE.match(report.log.splitlines()[-1]) if report.log else None
    if report.finished or report.error is not None or last is None:
        return False
    if last["host"] == socket.gethostname():
        return _is_alive(int(last["pid"]))
    last_logged = datetime.strptime(last["moment"], LOG_MOMENT).replace(tzinfo=UTC)
    return (datetime.now(UTC) - last_logged).total_seconds() < SILENCE_TIMEOUT_S


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def clear_reports(run_dir: str) -> None:
    """Delete logs and reports of the ranks of an earlier attempt."""
    for name in names_in(run_dir):
        if re.match(r"^rank-\d+\.(error\.json|scratch\.json|log)$", name):
            delete(join(run_dir, name))


def _report(run_dir: str, rank: int) -> RankReport:
    log_path = join(run_dir, f"rank-{rank}.log")
    error_path = join(run_dir, f"rank-{rank}.error.json")
    scratch_path = join(run_dir, f"rank-{rank}.scratch.json")
    log = read_bytes(log_path).decode() if exists(log_path) else ""
    error = json.loads(read_bytes(error_path)) if exists(error_path) else None
    scratch = json.loads(read_bytes(scratch_path)) if exists(scratch_path) else {"host": ""}
    is_here = scratch["host"] == socket.gethostname()
    return RankReport(
        rank=rank,
        log=log,
        finished=log.rstrip().endswith(FINISHED),
        error=error["traceback"] if error else None,
        peer_lost=bool(error and error["peer_lost"]),
        scratch=tuple(scratch["folders"]) if is_here else (),
    )
