"""The receiver's spool folders, as docs/architecture.md describes them."""

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from daemon.clerk.header import read_header
from lungnode.errors import UnusableError
from lungnode.rules import Facts

# The receiver makes the folder a moment before association.json, which it locks, gets its name.
GRACE: Final = timedelta(seconds=5)
_ID_LENGTH: Final = 64
# What storage commitment leaves in a folder beside instances; the first three come from the receiver.
REQUEST: Final = ".action"
REPORT: Final = ".event"
ANSWER: Final = ".reported"
RESULT: Final = ".result"


@dataclass(frozen=True)
class Association:
    """One spool folder at one moment; `files` were whole before `is_open` was asked when it is closed."""

    folder: Path
    is_open: bool
    outcome: str  # open | released | aborted | lost
    opened_at: datetime
    ended_at: datetime | None = None  # None: nobody noted it
    host: str = ""
    facts: Facts = field(default_factory=Facts)

    @property
    def id(self) -> str:
        """The association's identifier: the folder's name."""
        return self.folder.name[:_ID_LENGTH]

    def files(self) -> list[Path]:
        """Return the acknowledged instances, in the order they came."""
        return self._named(".dcm")

    def messages(self) -> list[Path]:
        """Return the acknowledged requests for commitment and reports of it, in the order they came."""
        return self._named(REQUEST, REPORT)

    def is_worked_off(self) -> bool:
        """Whether nothing in it waits for a clerk."""
        return not self._named(".dcm", REQUEST, REPORT, ANSWER)

    def _named(self, *suffixes: str) -> list[Path]:
        with os.scandir(self.folder) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(suffixes) and entry.is_file()]
        return [self.folder / name for name in sorted(names)]


def scan(spool: Path, now: datetime) -> list[Association]:
    """Return the associations that have a folder, the oldest first."""
    if not spool.is_dir():
        return []
    found = []
    for folder in spool.iterdir():
        if folder.name.startswith("."):
            continue
        try:
            found.append(read_association(folder, now))
        except (FileNotFoundError, NotADirectoryError):
            continue  # another clerk removed it, or it is a stray file
    return sorted(found, key=lambda association: (association.opened_at, association.id))


def read_association(folder: Path, now: datetime) -> Association:
    """Say what a spool folder is; a missing or damaged association.json leaves the sender unknown.

    Raises:
        FileNotFoundError: The folder is gone.
        NotADirectoryError: It is no folder.
    """
    changed_at = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
    locked = _is_locked(folder / "association.json")
    opened = _read_json(folder / "association.json")
    ended = _read_json(folder / "ended.json")
    young = not ended and not (folder / "association.json").exists() and now - changed_at < GRACE
    outcome = "open" if locked or young else _text(ended, "outcome") or "lost"
    facts = Facts(
        calling_ae_title=_text(opened, "calling_ae_title")[:16],
        called_ae_title=_text(opened, "called_ae_title")[:16],
        address=_text(opened, "address")[:64],
    )
    return Association(
        folder=folder,
        is_open=outcome == "open",
        outcome=outcome[:32],
        opened_at=_time(_text(opened, "opened_at")) or changed_at,
        ended_at=_time(_text(ended, "at")),
        host=_text(opened, "host")[:255],
        facts=facts,
    )


def waiting_of(spool: Path, study_instance_uid: str, now: datetime) -> int:
    """Return how many acknowledged instances of a study wait here to be indexed."""
    count = 0
    for association in scan(spool, now):
        for path in association.files():
            try:
                count += read_header(path).study_instance_uid == study_instance_uid
            except (UnusableError, FileNotFoundError):
                continue  # it will be quarantined, or was indexed in this moment
    return count


@contextmanager
def held(association: Association) -> Iterator[bool]:
    """Keep other clerks of this host out of the folder; yields False when one is in it."""
    try:
        handle = os.open(association.folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _lock(handle, fcntl.LOCK_EX)
    finally:
        os.close(handle)


def remove(association: Association) -> None:
    """Remove the folder of a closed association in which nothing waits.

    It is kept when a whole file, or one that is not the receiver's, still lies in it.
    """
    if not association.is_worked_off():
        return
    # association.json last: without it the sender of what is left would be unknown.
    for pattern in ("*.part", f"*{RESULT}", "ended.json", "association.json"):
        for path in association.folder.glob(pattern):
            path.unlink(missing_ok=True)
    try:
        association.folder.rmdir()
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ENOTEMPTY}:
            raise


def _is_locked(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _lock(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def _lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    return value.replace("\0", "").strip() if isinstance(value, str) else ""


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else None
