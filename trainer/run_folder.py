"""A run folder: all of one training, so that it can be repeated, continued elsewhere, and looked at.

run.json         name and version of the model, how the run ended
recipe.json      every number, and `samples.csv` every slice with its split
environment.json versions and machine
history.csv      a line an epoch, and `curves.png`
state/           first weights, their licences, the checkpoint
model/           the candidate
"""

import csv
import fcntl
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lungnode.durable import replaced
from lungnode.errors import UnavailableError, UnusableError
from lungnode.recipe import Recipe, problem, read_recipe, save_recipe
from trainer.checkpoint import EpochRecord
from trainer.manifest import read_manifest, write_manifest
from trainer.relocation import relocate
from trainer.run_names import LOCK_FILE, SAMPLES_FILE
from trainer.samples import Sample

HISTORY_FILE: Final = "history.csv"
LICENSES: Final = "*.LICENSE.txt"  # beside a file of initial weights; they travel with what derives from it

Ending = Literal["running", "stopped", "failed", "done"]


class RunInfo(BaseModel):
    """What `run.json` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str  # of the model
    version: str
    state: Ending = "running"  # of a run that was killed, too
    reason: str = ""  # one sentence, of a failure


@dataclass(frozen=True)
class RunFolder:
    """Names of a run's files."""

    path: Path

    @property
    def first_weights(self) -> Path:
        """The weights that the training started from."""
        return self.path / "state" / "initial.safetensors"

    @property
    def checkpoint(self) -> Path:
        """All that the training goes on from."""
        return self.path / "state" / "checkpoint.safetensors"

    @property
    def model(self) -> Path:
        """The candidate."""
        return self.path / "model"

    @property
    def licenses(self) -> list[Path]:
        """Licences of the first weights."""
        return sorted((self.path / "state").glob(LICENSES))

    def info(self) -> RunInfo:
        """Read `run.json`.

        Raises:
            UnusableError: The folder is no run.
        """
        path = self.path / "run.json"
        try:
            return RunInfo.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise UnusableError(f"{self.path} is no run of a training: {problem(error)}.") from error

    def recipe(self) -> Recipe:
        """Read the recipe.

        Raises:
            UnusableError: It cannot be read.
        """
        return read_recipe(self.path)

    def samples(self, root: Path | None = None) -> list[Sample]:
        """Read the samples; with `root`, their files are looked for there by as much of their path as fits.

        Raises:
            UnusableError: The list cannot be read, or a file is not below `root`.
            UnavailableError: The list is away.
        """
        samples = read_manifest(self.path / SAMPLES_FILE)
        return relocate(samples, root) if root else samples

    def end(self, state: Ending, reason: str = "") -> None:
        """Write how the run ended."""
        info = self.info().model_copy(update={"state": state, "reason": reason})
        write_json(self.path / "run.json", info.model_dump())

    def write_history(self, history: Sequence[EpochRecord]) -> None:
        """Write the history, a line an epoch."""
        text = io.StringIO()
        table = csv.DictWriter(text, list(EpochRecord.__dataclass_fields__), lineterminator="\n")
        table.writeheader()
        table.writerows({name: _plain(value) for name, value in asdict(record).items()} for record in history)
        with replaced(self.path / HISTORY_FILE) as file:
            file.write(text.getvalue().encode())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run while the block works on it; the kernel drops the lock with the process.

        Raises:
            UnusableError: Its state is gone.
            UnavailableError: Another program works on it.
        """
        if not self.first_weights.exists():
            raise UnusableError(f"{self.path} cannot be taken up: its {self.first_weights.name} is gone.")
        with (self.path / LOCK_FILE).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UnavailableError(f"Another program trains in {self.path}.") from error
            yield


def _plain(value: float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with replaced(path) as file:
        file.write(json.dumps(document, indent=2).encode() + b"\n")


@contextmanager
def new_run(path: Path, info: RunInfo, recipe: Recipe, samples: Sequence[Sample]) -> Iterator[RunFolder]:
    """Make a run folder; the block adds to it, and it gets its name when the block ends well.

    Raises:
        UnusableError: Something lies there.
        UnavailableError: It cannot be written.
    """
    if path.exists():
        raise UnusableError(f"{path} exists already: name another folder, or go on with --resume {path}.")
    staged = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        (staged / "state").mkdir(parents=True)
        save_recipe(recipe, staged)
        write_json(staged / "run.json", info.model_dump())
        write_manifest(samples, staged / SAMPLES_FILE)
        yield RunFolder(staged)
        staged.rename(path)
    except OSError as error:
        raise UnavailableError(f"The run folder {path} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
