"""`backup.json`, which makes a folder a backup, and the backups that a folder holds."""

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from lungnode import __version__
from lungnode.durable import replaced
from lungnode.errors import UnavailableError, UnusableError

RECORD_FILE: Final = "backup.json"
SETTINGS_FILE: Final = "settings.toml"
DATA: Final = "data"
UNFINISHED: Final = ".part"
_NAME: Final = "%Y%m%dT%H%M%SZ"


class Record(BaseModel):
    """What a backup is."""

    model_config = ConfigDict(frozen=True)

    made_at: datetime
    lungnode: str = __version__
    database: str  # file name of its dump
    revision: str  # of its tables
    files: int
    bytes: int
    sums_sha256: str  # of SHA256SUMS
    absent: tuple[str, ...]  # files that rows name and the node had lost
    changed: tuple[str, ...]  # files that are not those of their rows


def write_record(record: Record, backup: Path) -> None:
    """Make a folder a backup."""
    with replaced(backup / RECORD_FILE) as file:
        file.write(record.model_dump_json(indent=2).encode() + b"\n")


def read_record(backup: Path) -> Record:
    """Return what a backup is.

    Raises:
        UnusableError: The folder is no backup.
    """
    try:
        return Record.model_validate(json.loads((backup / RECORD_FILE).read_bytes()))
    except (OSError, ValueError, ValidationError) as error:
        raise UnusableError(f"{backup} is no finished backup: its {RECORD_FILE} cannot be read.") from error


def name_of(now: datetime) -> str:
    """Return the name of a backup."""
    return now.strftime(_NAME)


def backups_in(folder: Path) -> Sequence[Path]:
    """Return the finished backups of a folder, the oldest first."""
    return sorted(
        path.parent for path in folder.glob(f"*/{RECORD_FILE}") if not path.parent.name.endswith(UNFINISHED)
    )


def find_backup(path: Path) -> Path:
    """Return `path` where it is a backup, else the newest one in it.

    Raises:
        UnusableError: There is none.
    """
    if (path / RECORD_FILE).is_file():
        return path
    found = backups_in(path)
    if not found:
        raise UnusableError(f"{path} is no backup and holds none.")
    return found[-1]


@contextmanager
def sole_backup(folder: Path) -> Iterator[None]:
    """Keep other backups out of the folder while the block runs.

    Raises:
        UnavailableError: Another one is being made, or the folder cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / "lock").open("a")
    except OSError as error:
        raise UnavailableError(f"The folder {folder} cannot be written: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UnavailableError(f"Another backup is being made in {folder}.") from error
        yield
