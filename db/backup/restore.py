"""Puts a backup into an empty data folder and an empty database, and says what is missing."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from db.backup.copying import Folders, copy_file
from db.backup.dump import (
    check_tools,
    drop_tables,
    dump_name,
    is_empty,
    restore_dump,
    verify_dump,
)
from db.backup.named import named_files
from db.backup.objects import AT_ONCE, Objects
from db.backup.record import DATA, Record, name_of, read_record
from db.backup.sums import SUMS_FILE, read_sums
from db.backup.tree import REPLACED
from db.backup.verify import damage_of, damage_of_sums
from db.session import is_known, transaction, upgrade
from db.uploads import UPLOADS
from db.work import EVERY_WORK, release_all
from lungnode.errors import UnavailableError, UnusableError

RELEASED: Final = (*EVERY_WORK, UPLOADS)
_OURS: Final = "lock"  # of whoever restores
Progress = Callable[[int, int], None]  # called with the number of files so far and of all


@dataclass(frozen=True)
class Place:
    """Where a node is restored to."""

    data: Path
    engine: Engine
    objects: Objects = field(default_factory=lambda: Objects({}))


@dataclass
class Restored:
    """What came of it."""

    record: Record
    files: int = 0
    damaged: list[str] = field(default_factory=list)  # sentences
    absent: list[str] = field(default_factory=list)  # files that rows name and that are not there
    released: int = 0  # rows that were being worked on

    def note(self, key: str, wrong: str, *, files: int = 0) -> None:
        """Count files that are restored, or tell what is wrong with one."""
        self.files += 0 if wrong else files
        if wrong:
            self.damaged.append(f"{key} {wrong}.")


def restore_backup(
    backup: Path, place: Place, now: datetime, *, replace: bool, progress: Progress
) -> Restored:
    """Restore all that is sound; what is damaged is left out and named.

    Args:
        backup: A finished one.
        place: Data folder and database; the caller holds the folder's lock.
        now: The time.
        replace: What is in the data folder is put aside in it, and tables of the database are dropped.
        progress: Shows how far it is.

    Raises:
        UnusableError: It is no backup, not for this database or version, or the place is not empty.
        UnavailableError: The database is away, or the data folder cannot be written.
    """
    record = read_record(backup)
    _check(record, place.engine)
    _check_dump(backup, record)
    if replace:
        _put_aside(place, now)
    _check_empty(place)
    restored = Restored(record, damaged=[*damage_of_sums(backup, record.sums_sha256)])
    try:
        _restore_files(backup, place, restored, progress)
    except OSError as error:
        raise UnavailableError(f"{place.data} cannot be restored to: {error.strerror}.") from error
    os.sync()  # as when it was made
    restore_dump(place.engine, backup)
    upgrade(place.engine)
    _set_going(place, restored, now)
    return restored


def _check(record: Record, engine: Engine) -> None:
    if record.database != dump_name(engine):
        raise UnusableError(
            f"The backup has a {record.database}, and database_url names one of {engine.dialect.name}: "
            "restore to the same kind of database."
        )
    if not is_known(record.revision):
        raise UnusableError(
            f"The backup was made by Lungnode {record.lungnode}, which is newer than this one: "
            "install that version, then restore."
        )
    check_tools(engine)


def _check_dump(backup: Path, record: Record) -> None:
    wrong = verify_dump(backup / record.database)
    if wrong:
        raise UnusableError(
            f"The database in {backup} cannot be restored ({wrong}): restore an older backup, or copy its "
            "data/ by hand and run `lungnode studies reindex`, which finds studies, no labels, no models."
        )


def _check_empty(place: Place) -> None:
    found = [path.name for path in place.data.iterdir() if path.name != _OURS and not _is_aside(path)]
    if found:
        raise UnusableError(
            f"{place.data} is not empty (it has {sorted(found)[0]}): name another folder with --data, or put "
            "what is there aside with --replace."
        )
    if not is_empty(place.engine):
        raise UnusableError(
            f"The database {place.engine.url.render_as_string()} has tables: name an empty one, or drop them "
            "with --replace."
        )


def _put_aside(place: Place, now: datetime) -> None:
    aside = place.data / f"{REPLACED}{name_of(now)}"
    aside.mkdir(mode=0o700)
    for path in place.data.iterdir():
        if path.name != _OURS and not _is_aside(path):
            path.rename(aside / path.name)
    if not is_empty(place.engine):
        drop_tables(place.engine)


def _is_aside(path: Path) -> bool:
    return path.name.startswith(REPLACED)


def _restore_files(backup: Path, place: Place, restored: Restored, progress: Progress) -> None:
    folders = Folders(backup / DATA, place.data)
    listed = read_sums(backup / SUMS_FILE)
    while piece := list(islice(listed, AT_ONCE)):
        objects = {}
        for key, digest in piece:
            below, _, path = key.partition("/")
            if below != DATA or not path:
                restored.note(key, damage_of(backup / key, digest))
            elif place.objects.holds(path):
                objects[path] = (backup / key, digest)
            else:
                wrong = _restore_one(backup / key, place.data / path, digest, folders, path)
                restored.note(key, wrong, files=1)
        for path, wrong in place.objects.send(objects).items():
            restored.note(f"{DATA}/{path}", wrong, files=1)
        progress(restored.files, restored.record.files)


def _restore_one(source: Path, target: Path, digest: str, folders: Folders, path: str) -> str:
    """Copy a file, and return what is wrong with it; it is then not there."""
    if not source.is_file():
        return "is missing"
    folders.make_for(path)
    if copy_file(source, target) == digest:
        return ""
    target.unlink()
    return "is damaged"


def _set_going(place: Place, restored: Restored, now: datetime) -> None:
    """Give back what was being worked on, and look for files that rows name."""
    with transaction(place.engine) as session:
        restored.released = sum(release_all(session, work, now) for work in RELEASED)
        named = (path for path, _ in named_files(session))
        while piece := list(islice(named, AT_ONCE)):
            restored.absent += place.objects.absent([path for path in piece if place.objects.holds(path)])
            local = (path for path in piece if not place.objects.holds(path))
            restored.absent += [path for path in local if not (place.data / path).exists()]
