"""Reads a whole backup and says what is wrong with it."""

from collections.abc import Callable, Iterator
from pathlib import Path

from db.backup.dump import verify_dump
from db.backup.record import read_record
from db.backup.sums import SUMS_FILE, read_sums
from lungnode.digest import file_digest


def verify_backup(backup: Path, progress: Callable[[int], None]) -> Iterator[str]:
    """Yield a sentence for everything that is wrong; `progress` is called with the number of files read.

    Raises:
        UnusableError: The folder is no backup.
    """
    record = read_record(backup)
    yield from damage_of_sums(backup, record.sums_sha256)
    for number, (path, digest) in enumerate(read_sums(backup / SUMS_FILE), start=1):
        wrong = damage_of(backup / path, digest)
        if wrong:
            yield f"{path} {wrong}."
        progress(number)
    wrong = verify_dump(backup / record.database)
    if wrong:
        yield f"{record.database} cannot be restored: {wrong}."


def damage_of_sums(backup: Path, digest: str) -> Iterator[str]:
    """Yield a sentence when the list of files is not the one that was written."""
    wrong = damage_of(backup / SUMS_FILE, digest)
    if wrong:
        yield f"{SUMS_FILE} {wrong}."


def damage_of(path: Path, digest: str) -> str:
    """Say what is wrong with a file; nothing when it has the digest."""
    try:
        return "" if file_digest(path) == digest else "is damaged"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
