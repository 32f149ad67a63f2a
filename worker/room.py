"""Room on the disk: neither a full one nor a store that is away may cost a study an attempt."""

import errno
import os
from pathlib import Path
from typing import Final

from sqlalchemy import make_url

from lungnode.errors import UnavailableError
from lungnode.settings import Settings
from lungnode.store import Store, StoreAwayError

# An analysis writes less: each destination's outputs have at most 20 MB, and most destinations share them.
LEAST_BYTES: Final = 60_000_000
WAIT_S: Final = 30.0  # until a study is tried again that found the disk full
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


def why_wait(error: BaseException, archive: Store) -> str:
    """Return why work waits through no fault of its own; empty: it failed."""
    if is_full(error):
        return f"The disk was full: {error}"
    if isinstance(error, StoreAwayError):
        return str(error)
    if isinstance(error, UnavailableError):  # a file cannot be read: is any there?
        try:
            archive.check()
        except StoreAwayError as away:
            return str(away)
    return ""


def _written(settings: Settings) -> list[Path]:
    database = make_url(settings.database)
    file = database.database if database.get_backend_name() == "sqlite" else None
    return [settings.outputs, *([Path(file).parent] if file else [])]


def _free_bytes(folder: Path) -> int:
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    status = os.statvfs(existing)
    return status.f_bavail * status.f_frsize
