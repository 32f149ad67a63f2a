"""Which files of the data folder a backup holds: all but those that are made again or mean nothing later."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lungnode.trash import FOLDER as TRASH

ARCHIVE: Final = "archive"
OUTPUTS: Final = "outputs"
QUARANTINE: Final = "quarantine"
SPOOL: Final = "spool"
UPLOADS: Final = "uploads"
# Whole once they have their name, and never changed: on the same disk a link is as good as a copy.
NEVER_CHANGED: Final = (ARCHIVE, OUTPUTS, SPOOL)
REPLACED: Final = "replaced-"  # what a restore put aside
_LEFT_OUT: Final = frozenset(
    {
        "cache",  # made again when it is needed
        "health",  # of the processes that run now
        "metrics",  # the same
        UPLOADS,  # goes within the hour; those that are kept are copied at their own moment, see `make`
        f"{OUTPUTS}/staging",  # belongs to transactions that are not committed
        SPOOL,  # copied at its own moment, see `make`
        "lock",
        "receiver.json",
        "web.json",
        "valkey.log",
    }
)
_DATABASE: Final = "lungnode.sqlite3"  # and its journals: dumped, not copied
_UNFINISHED: Final = ".part"


def lasting_files(data: Path) -> Iterator[str]:
    """Yield the files to keep, relative to the data folder; a link to a folder elsewhere is followed."""
    yield from _files(data, "")


def _files(data: Path, below: str) -> Iterator[str]:
    for entry in sorted(_entries(data / below), key=lambda entry: entry.name):
        path = f"{below}/{entry.name}" if below else entry.name
        if _is_left_out(path):
            continue
        if entry.is_dir():
            yield from _files(data, path)
        elif entry.is_file():
            yield path


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:  # deleted meanwhile
        return []


def _is_left_out(path: str) -> bool:
    top_level = "/" not in path
    return (
        path in _LEFT_OUT
        or path.rpartition("/")[2] == TRASH  # on its way out; what is put back, a row names
        or path.endswith(_UNFINISHED)
        or (top_level and path.startswith((_DATABASE, REPLACED)))
    )


def files_of_upload(data: Path, key: str) -> Iterator[str]:
    """Yield the files of an upload."""
    yield from _files(data, f"{UPLOADS}/{key}")


def spooled_files(data: Path) -> Iterator[str]:
    """Yield what was acknowledged and waits for the clerk; of an association, first who sends."""
    for folder in _entries(data / SPOOL):
        if not folder.is_dir():
            continue
        names = [entry.name for entry in _entries(Path(folder.path)) if not _is_left_out(entry.name)]
        for name in sorted(names, key=lambda name: (name.endswith(".dcm"), name)):
            yield f"{SPOOL}/{folder.name}/{name}"
