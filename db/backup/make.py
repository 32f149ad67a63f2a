"""Makes a backup while the node runs.

The order is what makes it whole. First all files that are there, which takes long. Then the spool: what
leaves it later is in the database before. Then the database. Then the files that its rows name and that came
since.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from db.backup.copying import Folders, copy_file, is_unchanged, link_or_copy
from db.backup.dump import check_tools, dump_name, dumped
from db.backup.named import kept_uploads, named_files
from db.backup.objects import AT_ONCE, Objects, Wanted
from db.backup.record import (
    DATA,
    SETTINGS_FILE,
    UNFINISHED,
    Record,
    backups_in,
    name_of,
    sole_backup,
    write_record,
)
from db.backup.sums import SUMS_FILE, Sums, read_sums
from db.backup.tree import ARCHIVE, NEVER_CHANGED, OUTPUTS, files_of_upload, lasting_files, spooled_files
from db.session import revision_of
from lungnode.digest import file_digest
from lungnode.durable import sync_folder
from lungnode.errors import UnavailableError, UnusableError

_LOG = logging.getLogger(__name__)
_WORKING_FILE: Final = "working.sqlite3"
Progress = Callable[[int], None]  # called with the number of files so far


@dataclass(frozen=True)
class Node:
    """What is backed up."""

    data: Path
    engine: Engine
    settings_file: Path | None
    objects: Objects = field(default_factory=lambda: Objects({}))
    leaves_objects: bool = False  # to the store's own versions and copies


@dataclass
class _Tally:
    files: int = 0
    bytes: int = 0
    absent: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


class _Maker:
    """One backup in the making."""

    def __init__(self, node: Node, target: Path, before: Path | None, progress: Progress) -> None:
        self._node, self._target, self._before, self._progress = node, target, before, progress
        self._sums = Sums(target / _WORKING_FILE, read_sums(before / SUMS_FILE) if before else ())
        self._folders = Folders(node.data, target / DATA)
        self._tally = _Tally()

    def make(self, now: datetime) -> Record:
        """Fill the folder and return what it is."""
        self._take(lasting_files(self._node.data))
        self._take(spooled_files(self._node.data))
        with dumped(self._node.engine, self._target) as session:
            self._take_named(session)
            for key in kept_uploads(session):
                self._take(files_of_upload(self._node.data, key))
            revision = revision_of(session)
        self._drop_deleted()
        self._add_beside()
        self._sums.write(self._target / SUMS_FILE)
        self._sums.close()
        return Record(
            made_at=now,
            database=dump_name(self._node.engine),
            revision=revision,
            files=self._tally.files,
            bytes=self._tally.bytes,
            sums_sha256=file_digest(self._target / SUMS_FILE),
            absent=tuple(self._tally.absent),
            changed=tuple(self._tally.changed),
        )

    def _take(self, paths: Iterable[str]) -> None:
        for path in paths:
            try:
                self._take_one(path)
            except FileNotFoundError:
                continue  # deleted or moved on meanwhile: what a row names is looked for again
            self._progress(self._tally.files)

    def _take_one(self, path: str) -> None:
        key = f"{DATA}/{path}"
        source, target = self._node.data / path, self._target / key
        found = source.stat()
        digest = self._sums.before(key) if self._before else ""
        kept = self._before / key if self._before else target
        self._folders.make_for(path)
        if digest and is_unchanged(kept, found):
            digest = link_or_copy(kept, target, digest)
        elif path.partition("/")[0] in NEVER_CHANGED:
            digest = link_or_copy(source, target)
        else:
            digest = copy_file(source, target)
        self._sums.add(key, digest)
        self._tally.files += 1
        self._tally.bytes += found.st_size

    def _take_named(self, session: Session) -> None:
        """See that all files that the rows of the dump name are there, and that they are those."""
        named = named_files(session)
        while piece := list(islice(named, AT_ONCE)):
            objects = [each for each in piece if self._node.objects.holds(each[0])]
            if not self._node.leaves_objects:
                self._bring(objects)
            for path, wanted in piece:
                if not (self._node.leaves_objects and self._node.objects.holds(path)):
                    self._see(path, wanted)

    def _see(self, path: str, wanted: str) -> None:
        """See that a file is there, and that it is the one that its row names."""
        key = f"{DATA}/{path}"
        if not self._sums.digest(key):
            self._take([path])
        digest = self._sums.digest(key)
        if not digest:
            self._tally.absent.append(path)
        elif wanted and digest != wanted:
            self._tally.changed.append(path)
        self._sums.name(key)

    def _bring(self, objects: Sequence[tuple[str, str]]) -> None:
        """Take files out of an object store, unless the backup before has them."""
        wanted = []
        for path, digest in objects:
            self._folders.make_for(path)
            key = f"{DATA}/{path}"
            is_kept = self._before and self._sums.before(key) == digest
            wanted.append(Wanted(path, digest, self._before / key if self._before and is_kept else None))
        brought = self._node.objects.bring(wanted, self._target / DATA)
        for each, digest in zip(wanted, brought, strict=True):
            if digest:
                self._sums.add(f"{DATA}/{each.path}", digest)
                self._tally.files += 1
                self._tally.bytes += (self._target / DATA / each.path).stat().st_size
        self._progress(self._tally.files)

    def _drop_deleted(self) -> None:
        """Take out what was deleted from the node while the backup ran, as somebody may have had to."""
        for folder in (ARCHIVE, OUTPUTS):
            for key in self._sums.unnamed(f"{DATA}/{folder}"):
                if not (self._node.data / key.removeprefix(f"{DATA}/")).exists():
                    (self._target / key).unlink()
                    self._sums.drop(key)

    def _add_beside(self) -> None:
        """Add the dump, and the settings file in force."""
        dump = dump_name(self._node.engine)
        self._sums.add(dump, file_digest(self._target / dump))
        if self._node.settings_file:
            self._sums.add(SETTINGS_FILE, copy_file(self._node.settings_file, self._target / SETTINGS_FILE))


def make_backup(node: Node, folder: Path, now: datetime, progress: Progress) -> Path:
    """Make a backup in `folder` and return where it is; it appears there when it is whole and durable.

    Raises:
        UnusableError: The folder lies in the data folder, or a tool of the database is not installed.
        UnavailableError: The database is away, or the folder cannot be written.
    """
    if folder.resolve().is_relative_to(node.data.resolve()):
        raise UnusableError(
            f"{folder} lies in the data folder {node.data}; make backups elsewhere, on another disk."
        )
    check_tools(node.engine)
    with sole_backup(folder):
        for leftover in folder.glob(f"*{UNFINISHED}"):
            shutil.rmtree(leftover)
        try:
            return _make(node, folder, now, progress)
        except OSError as error:
            raise UnavailableError(
                f"The backup in {folder} failed: {error.strerror} ({error.filename})."
            ) from error


def _make(node: Node, folder: Path, now: datetime, progress: Progress) -> Path:
    before = next(reversed(backups_in(folder)), None)
    finished = folder / name_of(now)
    if finished.exists():
        raise UnavailableError(f"The backup {finished} was made within this second.")
    target = finished.with_name(f"{finished.name}{UNFINISHED}")
    target.mkdir(mode=0o700)
    record = _Maker(node, target, before, progress).make(now)
    os.sync()  # one call for the data of all files; a call each takes hours on a large archive
    write_record(record, target)
    target.rename(finished)
    sync_folder(folder)
    _LOG.info("backup %s: %d files, %d bytes", finished.name, record.files, record.bytes)
    return finished


def drop_oldest(folder: Path, keep: int) -> int:
    """Delete all but the newest `keep` backups, never a file that these share; return how many went."""
    with sole_backup(folder):
        surplus = backups_in(folder)[:-keep]
        for backup in surplus:
            # Without its record it is no backup any more, should the deletion be cut short.
            doomed = backup.with_name(f"{backup.name}{UNFINISHED}")
            backup.rename(doomed)
            shutil.rmtree(doomed)
    return len(surplus)
