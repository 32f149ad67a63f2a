"""A store of objects, at the keys `<prefix>archive/<study>/…` and `<prefix>outputs/<study>/…`.

A key names the content: `<name>.<SHA-256>.dcm`. So a repeat writes the same bytes, and two files that differ
never meet. Nothing is assumed of the store but that what it took is there, and that it lists what there is.

A study leaves its place by a note below `.trash/`: until that is gone, nothing of it counts as present.
"""

import json
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from lungnode.digest import file_digest
from lungnode.errors import UnavailableError
from lungnode.store.bucket import THREADS, Answer, Bucket
from lungnode.store.copies import Copies
from lungnode.store.files import Arrival, StoreAwayError, StoredFile
from lungnode.trash import FOLDER as TRASH

_LOG = logging.getLogger(__name__)
_DIGEST: Final = "sha256"
_CHANGED: Final = "received-ns"  # time of change of the file that was stored
_SUFFIX: Final = ".dcm"
_NAMED: Final = re.compile(r"\.[0-9a-f]{64}\.dcm$")  # a path of ours, not one that a folder had


class ObjectStore:
    """One tree of a bucket, with local copies of what is read."""

    def __init__(self, bucket: Bucket, prefix: str, copies: Copies) -> None:
        """Hold what is needed; nothing is connected yet.

        Args:
            bucket: Of the store.
            prefix: What the keys of this tree begin with, with a slash at its end.
            copies: Where files that are read lie.
        """
        self._bucket, self._prefix, self._copies = bucket, prefix, copies

    def __reduce__(self) -> tuple[type["ObjectStore"], tuple[Bucket, str, Copies]]:
        """Let another process open the same store."""
        return ObjectStore, (self._bucket, self._prefix, self._copies)

    @property
    def root(self) -> Path:
        """Folder of the local copies."""
        return self._copies.root

    def place_of(self, path: str) -> str:
        """Return the object's URL."""
        return f"{self._bucket.url}/{self._prefix}{path}"

    def check(self) -> None:
        """Make sure that the store answers."""
        self._bucket.check()

    def probe(self) -> None:
        """Write an object, read it back and delete it."""
        key, said = f"{self._prefix}.probe-{os.urandom(4).hex()}", os.urandom(64)
        self._bucket.put_bytes(key, said)
        try:
            heard = b"".join(self._bucket.get(key).pieces())
        except FileNotFoundError:
            heard = b""
        self._bucket.delete(key)
        if heard != said:
            raise StoreAwayError(f"The object store {self._bucket.url} does not give back what it took.")

    def keep(self, arrivals: Sequence[Arrival]) -> list[str]:
        """Store files; what a repeat finds is not sent again."""
        paths = [self.path_for(each.study, each.sop_instance_uid, each.digest) for each in arrivals]
        there = self._listed({each.study for each in arrivals})
        new = {
            path: each for path, each in zip(paths, arrivals, strict=True) if there.get(path) != _size(each)
        }
        self._put({path: each.source for path, each in new.items()})
        for path, each in new.items():
            self._copies.adopt(each.source, path)
        return paths

    def present(self, paths: Sequence[str]) -> set[str]:
        """Look once at each study, and whether it is on its way out."""
        studies = {_study(path) for path in paths}
        leaving = {_study_of_note(note) for note, _ in self._bucket.keys(f"{self._prefix}{TRASH}/")}
        there = self._listed(studies - leaving)
        return {path for path in paths if path in there}

    def path_for(self, folder: str, stem: str, digest: str) -> str:
        """Return a path that only this content has."""
        return f"{folder}/{stem}.{digest}{_SUFFIX}"

    def prepare(self, files: Mapping[str, Path]) -> None:
        """Store files: no other run's can have these paths."""
        self._put(files)

    def place(self, files: Mapping[str, Path]) -> None:
        """Keep what was stored as local copies as well: a courier may need them soon."""
        for path, file in files.items():
            self._copies.adopt(file, path)

    def fetch(self, files: Sequence[StoredFile]) -> list[Path]:
        """Return local copies, made and checked where there are none."""
        missing = {file.path: file for file in files if not self._copies.has(file)}
        _each(self._bring, missing.values())
        return [self.root / file.path for file in files]

    def studies(self) -> Iterator[str]:
        """Yield the studies, in the order of their keys."""
        yield from (name for name in self._bucket.folders(self._prefix) if name != TRASH)

    def sizes(self, study: str) -> dict[str, int]:
        """List a study's objects."""
        return {path: size for path, size in self._listed({study}).items() if path.endswith(_SUFFIX)}

    def read_back(self, path: str, into: Path | None = None) -> tuple[int, str] | None:
        """Read an object to its end; no local copy is believed.

        Raises:
            StoreAwayError: The store does not answer.
        """
        try:
            answer = self._bucket.get(self._prefix + path)
        except FileNotFoundError:
            return None
        with (into or Path(os.devnull)).open("wb") as file:
            found = _copied(answer, file)
        if into is not None:
            os.utime(into, ns=(time.time_ns(), _received_ns(answer)))
        return found

    def throw_away(self, study: str) -> "ObjectTrash | None":
        """Note that what there is of a study is on its way out."""
        paths = sorted(self._listed({study}))
        if not paths:
            return None
        note = f"{self._prefix}{TRASH}/{study}.{os.urandom(4).hex()}"
        self._bucket.put_bytes(note, json.dumps(paths).encode())
        return ObjectTrash(self, note, tuple(paths))

    def trash(self) -> "list[ObjectTrash]":
        """Read the notes."""
        found = []
        for note, _ in self._bucket.keys(f"{self._prefix}{TRASH}/"):
            try:
                paths = json.loads(b"".join(self._bucket.get(note).pieces()))
            except FileNotFoundError:
                continue  # another clerk was faster
            found.append(ObjectTrash(self, note, tuple(paths)))
        return found

    def delete(self, paths: Iterable[str], note: str) -> None:
        """Delete objects and their copies, and at last the note that says so."""
        _each(lambda path: self._bucket.delete(self._prefix + path), paths)
        self._bucket.delete(note)

    def _listed(self, studies: Iterable[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for listed in _each(self._of_study, studies):
            found |= listed
        return found

    def _of_study(self, study: str) -> dict[str, int]:
        keys = self._bucket.keys(f"{self._prefix}{study}/")
        return {key.removeprefix(self._prefix): size for key, size in keys}

    def _put(self, files: Mapping[str, Path]) -> None:
        _each(self._put_one, files.items())

    def _put_one(self, item: tuple[str, Path]) -> None:
        path, file = item
        digest, changed = file_digest(file), file.stat().st_mtime_ns
        if _NAMED.search(path) and digest not in path:
            raise UnavailableError(f"{file} is not what it was a moment ago; it is read again.")
        is_checked = self._bucket.put(self._prefix + path, file, {_DIGEST: digest, _CHANGED: str(changed)})
        if not is_checked and self.read_back(path) != (file.stat().st_size, digest):
            self._bucket.delete(self._prefix + path)
            raise StoreAwayError(f"{self.place_of(path)} is not what was sent: it is sent again.")

    def _bring(self, file: StoredFile) -> None:
        """Make the local copy of an object that is there."""
        try:
            answer = self._bucket.get(self._prefix + file.path)
        except FileNotFoundError:
            self._copies.drop(file.path)
            return
        wanted = file.digest or answer.told.get(_DIGEST, "")
        try:
            with self._copies.written(file.path, _received_ns(answer)) as copy:
                _, found = _copied(answer, copy)
                self._refuse_damage(file.path, wanted, found)
        except OSError as error:
            raise UnavailableError(f"The folder {self.root} cannot be used: {error.strerror}.") from error

    def _refuse_damage(self, path: str, wanted: str, found: str) -> None:
        if wanted and found != wanted:
            _LOG.error("%s is damaged: its digest is another one", self.place_of(path))
            raise UnavailableError(
                f"{self.place_of(path)} is not what was received: its digest is another one.",
                advice="Restore it from the store's versions or a backup.",
            )


@dataclass
class ObjectTrash:
    """Objects that are on their way out, as a note says."""

    store: ObjectStore
    note: str
    doomed: tuple[str, ...]

    def __str__(self) -> str:
        return self.note

    @property
    def name(self) -> str:
        """The study."""
        return _study_of_note(self.note)

    def paths(self) -> list[str]:
        """Return what is to be deleted."""
        return list(self.doomed)

    def put_back(self, path: str) -> None:
        """Leave an object where it is."""
        self.doomed = tuple(each for each in self.doomed if each != path)

    def empty(self) -> bool:
        """Delete the objects, then the note.

        Raises:
            StoreAwayError: The store does not answer; the note stays.
        """
        self.store.delete(self.doomed, self.note)
        return True


def _copied(answer: Answer, file: BinaryIO) -> tuple[int, str]:
    """Write an object into a file; return its bytes and SHA-256."""
    digest, size = sha256(), 0
    for piece in answer.pieces():
        digest.update(piece)
        size += file.write(piece)
    return size, digest.hexdigest()


def _received_ns(answer: Answer) -> int:
    return int(answer.told.get(_CHANGED) or answer.stored_at_ns)


def _each(work: Any, items: Iterable[Any]) -> list[Any]:
    """Do the same with each, several at once."""
    todo = list(items)
    if len(todo) <= 1:
        return [work(item) for item in todo]
    with ThreadPoolExecutor(THREADS, "store") as pool:
        return list(pool.map(work, todo))


def _study_of_note(note: str) -> str:
    return PurePosixPath(note).name.rpartition(".")[0]


def _study(path: str) -> str:
    return path.partition("/")[0]


def _size(arrival: Arrival) -> int:
    return arrival.source.stat().st_size
