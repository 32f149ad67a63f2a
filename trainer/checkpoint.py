"""All that a training goes on from, as one file that is replaced after each epoch, whole or not at all."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lungnode.durable import replaced
from lungnode.errors import UnavailableError, UnusableError
from lungnode.network import Weights
from trainer.learner import State

_META: Final = "progress"


@dataclass(frozen=True)
class EpochRecord:
    """One line of the history."""

    epoch: int  # counted from 1
    train_loss: float
    validation_loss: float
    validation_acc: float
    validation_auc: float
    seconds: float
    cpu_seconds: float
    pipeline_images_per_s: float  # that reading alone would reach
    step_images_per_s: float


@dataclass(frozen=True)
class Checkpoint:
    """A training after some epochs."""

    history: tuple[EpochRecord, ...] = ()
    best_epoch: int = 0  # with the lowest validation loss; 0: none yet
    best: Weights | None = None  # what the network learnt until then
    state: State | None = None

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return len(self.history)

    def is_finished(self, epochs: int, patience: int) -> bool:
        """Return whether the last epoch was reached, or none was better for too long."""
        return self.epoch >= epochs or self.epoch - self.best_epoch >= patience

    def after(self, record: EpochRecord, weights: Weights, state: State) -> "Checkpoint":
        """Return the training after one more epoch."""
        longer = replace(self, history=(*self.history, record), state=state)
        lowest = self.history[self.best_epoch - 1].validation_loss if self.best_epoch else float("inf")
        if record.validation_loss < lowest:
            return replace(longer, best_epoch=record.epoch, best=weights)
        return longer


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint over the last one.

    Raises:
        UnavailableError: The disk is full, or cannot be written.
    """
    arrays = {f"best/{name}": value for name, value in (checkpoint.best or {}).items()}
    arrays |= {f"state/{name}": value for name, value in (checkpoint.state or {}).items()}
    told = {"history": [asdict(record) for record in checkpoint.history], "best_epoch": checkpoint.best_epoch}
    try:
        with replaced(path) as file:
            # safetensors writes the memory of an array as it lies there, transposed or not.
            whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
            file.write(save(whole, {_META: json.dumps(told)}))
    except OSError as error:
        raise UnavailableError(f"The checkpoint {path} cannot be written: {error.strerror}.") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; where there is none, no epoch is finished.

    Raises:
        UnusableError: It is damaged.
    """
    if not path.exists():
        return Checkpoint()
    try:
        with safe_open(path, "numpy") as file:
            told = json.loads(file.metadata()[_META])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        history = tuple(EpochRecord(**record) for record in told["history"])
        return Checkpoint(history, told["best_epoch"], _below("best/", arrays), _below("state/", arrays))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UnusableError(f"The checkpoint {path} cannot be used: {error}.") from error


def _below(prefix: str, arrays: State) -> State:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
