"""The spool: what was acknowledged lies here, durable, until the clerk takes it (docs/architecture.md)."""

import fcntl
import json
import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from lungnode.durable import sync_folder

_FRAGMENTS: Final = 512  # held back for one writev; the kernel takes at most 1,024
_FILE_MODE: Final = 0o640  # patients' data: nobody else reads it
_FOLDER_MODE: Final = 0o750


class AssociationOutcome(StrEnum):
    """How an association ended; the words of ended.json."""

    RELEASED = "released"
    ABORTED = "aborted"
    LOST = "lost"


@dataclass(frozen=True)
class AssociationIdentity:
    """What association.json says."""

    id: str
    host: str
    process: int
    calling_ae_title: str
    called_ae_title: str
    address: str
    opened_at: str


def identify(calling_ae_title: str, called_ae_title: str, address: str) -> AssociationIdentity:
    """Name an association that begins now, in this process."""
    opened_at = datetime.now(UTC)
    return AssociationIdentity(
        id=f"{opened_at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:16]}",
        host=socket.gethostname(),
        process=os.getpid(),
        calling_ae_title=calling_ae_title,
        called_ae_title=called_ae_title,
        address=address,
        opened_at=opened_at.isoformat(),
    )


class FileKind(StrEnum):
    """What a durable file of the spool holds; its suffix."""

    INSTANCE = "dcm"
    COMMITMENT_REQUEST = "action"  # of an N-ACTION-RQ
    COMMITMENT_REPORT = "event"  # of an N-EVENT-REPORT-RQ


class SpoolFile:
    """One data set on its way to disk. Any method may raise OSError; then only `discard` is left to do."""

    def __init__(
        self, folder: int, name: str, kind: FileKind, head: bytes, sync_parent: Callable[[], None]
    ) -> None:
        self.name = name
        self._folder = folder
        self._kind = kind
        self._sync_parent = sync_parent
        self._fragments: list[bytes | memoryview] = [head]
        self._descriptor = os.open(
            f"{name}.part", os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE, dir_fd=folder
        )

    def append(self, fragment: memoryview) -> None:
        """Add to the file; `fragment` must stay valid until `flush`."""
        self._fragments.append(fragment)
        if len(self._fragments) >= _FRAGMENTS:
            self.flush()

    def flush(self) -> None:
        """Write what was held back."""
        fragments, self._fragments = self._fragments, []
        wanted = sum(map(len, fragments))
        written = os.writev(self._descriptor, fragments) if fragments else 0
        if written < wanted:
            _write_all(self._descriptor, memoryview(b"".join(fragments))[written:])

    def commit(self) -> None:
        """Make the file durable under its final name: data first, then the name."""
        self.flush()
        os.fdatasync(self._descriptor)
        self._close()
        final = f"{self.name}.{self._kind}"
        os.rename(f"{self.name}.part", final, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.fsync(self._folder)
        self._sync_parent()

    def discard(self) -> None:
        """Remove the file, whatever its name is by now; it was never acknowledged."""
        self._fragments = []
        self._close()
        for suffix in ("part", self._kind):
            try:
                os.unlink(f"{self.name}.{suffix}", dir_fd=self._folder)
            except FileNotFoundError:
                continue

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class SpoolFolder:
    """The folder of one association; made at its first file, so that a port probe leaves nothing."""

    def __init__(self, spool: Path, identity: AssociationIdentity) -> None:
        self._spool = spool
        self._identity = identity
        self._folder = -1
        self._lock = -1
        self._count = 0
        self._is_durable = False  # whether the folder's own name is

    def new_file(self, head: bytes, kind: FileKind = FileKind.INSTANCE) -> SpoolFile:
        """Return the file of the next data set, which starts with `head`.

        Raises:
            OSError: The spool cannot be written.
        """
        if self._folder < 0:
            self._make()
        self._count += 1
        return SpoolFile(self._folder, f"{self._count:08d}", kind, head, self._sync_parent)

    def read(self, name: str) -> bytes | None:
        """Return what the clerk left under a name; None while it left nothing.

        Raises:
            OSError: It cannot be read.
        """
        try:
            descriptor = os.open(name, os.O_RDONLY, dir_fd=self._folder)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def note(self, name: str, value: dict[str, object]) -> None:
        """Leave a note for the clerk; it is not synchronised, so a power failure may take it.

        Raises:
            OSError: It cannot be written.
        """
        os.close(self._write_json(name, value))

    def end(self, outcome: AssociationOutcome, at: datetime) -> None:
        """Write ended.json and drop the lock; nothing to do when no instance came.

        Raises:
            OSError: It cannot be written; the lock is dropped, so the association counts as lost.
        """
        if self._folder < 0:
            return
        try:
            # After a power failure the association counts as lost, which is as good.
            self.note("ended.json", {"outcome": outcome.value, "at": at.isoformat()})
        finally:
            os.close(self._lock)
            os.close(self._folder)
            self._folder = self._lock = -1

    def _make(self) -> None:
        path = self._spool / self._identity.id
        path.mkdir(mode=_FOLDER_MODE, parents=True)
        try:
            self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            self._lock = self._write_json("association.json", asdict(self._identity))
            os.fdatasync(self._lock)
        except OSError:
            self._unmake(path)
            raise

    def _sync_parent(self) -> None:
        # Once, and last: the folder's own synchronisation has just written the same journal.
        if not self._is_durable:
            sync_folder(self._spool)
            self._is_durable = True

    def _unmake(self, path: Path) -> None:
        # The disk was full: the next instance tries again from the beginning.
        for descriptor in (self._lock, self._folder):
            if descriptor >= 0:
                os.close(descriptor)
        self._folder = self._lock = -1
        for name in ("association.json", "association.json.part"):
            (path / name).unlink(missing_ok=True)
        path.rmdir()

    def _write_json(self, name: str, value: dict[str, object]) -> int:
        """Write `name` so that it is never seen without its content and its lock; return its descriptor."""
        descriptor = os.open(
            f"{name}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE, dir_fd=self._folder
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _write_all(descriptor, memoryview(json.dumps(value).encode("ascii")))
            os.rename(f"{name}.part", name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def _write_all(descriptor: int, data: memoryview) -> None:
    # A short write is how a nearly full disk begins; the next call says ENOSPC.
    while data:
        data = data[os.write(descriptor, data) :]
