"""Room on the disk: neither a full one nor a store that is away may cost a study an attempt."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import make_url

from lungnode.errors import UnavailableError
from lungnode.settings import Settings
from lungnode.store import Store, StoreAwayError

# An analysis writes less: each destination's outputs have at most 20 MB, and most destinations share them.
LEAST_BYTES: Final = 60_000_000
# Until a study is tried again. Nothing is claimed while the disk is full, so to ask soon costs nothing; a
# store is asked by each study that waits for it.
FULL_WAIT_S: Final = 5.0
AWAY_WAIT_S: Final = 30.0
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def check_room(settings: Settings) -> None:
    """Make sure that what an analysis writes will fit, before one is claimed.

    Raises:
        UnavailableError: It will not.
    """
    for folder in _written(settings):
        free = _free_bytes(folder)
        if free < LEAST_BYTES:
            raise UnavailableError(
                f"The disk of {folder} has {free / 1e6:.1f} MB free; analyses wait until it has "
                f"{LEAST_BYTES / 1e6:.0f} MB."
            )


def is_full(error: BaseException | None) -> bool:
    """Tell whether an error, or what caused it, is a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__
    return False


@dataclass(frozen=True)
class Wait:
    """Why work waits through no fault of its own, and for how long."""

    reason: str
    seconds: float


def why_wait(error: BaseException, archive: Store) -> Wait | None:
    """Return why work waits; None: it failed."""
    if is_full(error):
        return Wait(f"The disk was full: {error}", FULL_WAIT_S)
    if isinstance(error, StoreAwayError):
        return Wait(str(error), AWAY_WAIT_S)
    if isinstance(error, UnavailableError):  # a file cannot be read: is any there?
        try:
            archive.check()
        except StoreAwayError as away:
            return Wait(str(away), AWAY_WAIT_S)
    return None


def _written(settings: Settings) -> list[Path]:
    database = make_url(settings.database)
    file = database.database if database.get_backend_name() == "sqlite" else None
    return [settings.outputs, *([Path(file).parent] if file else [])]


def _free_bytes(folder: Path) -> int:
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    status = os.statvfs(existing)
    return status.f_bavail * status.f_frsize
