"""Objects that are sent over HTTP, written to the same spool and with the same promise as by C-STORE.

Each is durable under its final name before it is counted as stored; the clerk takes it from there.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Final

from daemon.clerk.header import Header, read_header
from daemon.receiver.disk import Disk
from daemon.receiver.spool import AssociationIdentity, AssociationOutcome, SpoolFile, SpoolFolder, identify
from lungnode.errors import UnusableError
from lungnode.settings import Settings

_LOG = logging.getLogger(__name__)
DICOM: Final = "application/dicom"


class Failure(IntEnum):
    """Why an object is not stored. Source: PS3.18 Table I.2-2 and PS3.4 Table B.2-1."""

    OUT_OF_RESOURCES = 0xA700
    DATA_SET_DOES_NOT_MATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000
    TRANSFER_SYNTAX_NOT_SUPPORTED = 0xC122


@dataclass(frozen=True)
class Stored:
    """An object that is durable."""

    header: Header


@dataclass(frozen=True)
class Refused:
    """An object that is not stored."""

    reason: Failure
    header: Header | None = None  # unless it cannot be read


@dataclass
class Intake:
    """One request's objects, one after the other; `append` and `finish` are called between `begin`s."""

    settings: Settings
    identity: AssociationIdentity
    study_instance_uid: str = ""  # the only study that is taken; empty: any
    outcomes: list[Stored | Refused] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make nothing yet: a request without an object leaves no trace."""
        self._folder = SpoolFolder(self.settings.spool, self.identity)
        self._disk = Disk(self.settings.spool, self.settings.receiver)
        self._file: SpoolFile | None = None
        self._refusal: Failure | None = None

    def begin(self, media_type: str) -> None:
        """Take the next object."""
        self._refusal = None
        if media_type.partition(";")[0].strip().lower() != DICOM:
            self._refusal = Failure.CANNOT_UNDERSTAND
        elif self._disk.is_full():
            self._refusal = Failure.OUT_OF_RESOURCES
        else:
            self._guarded(self._open)

    def append(self, data: bytes) -> None:
        """Take a piece of the object."""
        file = self._file
        if file is not None:
            self._guarded(lambda: _write(file, data))

    def finish(self) -> None:
        """Make the object durable, or refuse it."""
        file = self._file
        header = None
        if file is not None:
            header, self._refusal = self._judged(file)
            if self._refusal is None:
                self._guarded(file.commit)
            else:
                self._discard()
        self._file = None
        if self._refusal is None and header is not None:
            self.outcomes.append(Stored(header))
        else:
            self.outcomes.append(Refused(self._refusal or Failure.CANNOT_UNDERSTAND, header))

    def close(self, outcome: AssociationOutcome, at: datetime) -> None:
        """End it; an object that was not finished is not kept."""
        self._discard()
        try:
            self._folder.end(outcome, at)
        except OSError as error:
            _LOG.error("an association's end cannot be written: %s", error.strerror)

    def _open(self) -> None:
        self._file = self._folder.new_file(b"")

    def _judged(self, file: SpoolFile) -> tuple[Header | None, Failure | None]:
        path = self.settings.spool / self.identity.id / f"{file.name}.part"
        try:
            header = read_header(path)
        except UnusableError:
            return None, Failure.CANNOT_UNDERSTAND
        except OSError as error:
            _LOG.error("the spool cannot be read: %s", error.strerror)
            return None, Failure.OUT_OF_RESOURCES
        if self.study_instance_uid not in ("", header.study_instance_uid):
            return header, Failure.DATA_SET_DOES_NOT_MATCH
        if not header.transfer_syntax_uid:
            return header, Failure.TRANSFER_SYNTAX_NOT_SUPPORTED
        return header, None

    def _guarded(self, action: Callable[[], object]) -> None:
        """Refuse the object when the disk does not take it."""
        try:
            action()
        except OSError as error:
            _LOG.error("the spool cannot be written: %s", error.strerror)
            self._refusal = Failure.OUT_OF_RESOURCES
            self._discard()

    def _discard(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.discard()
            except OSError as error:
                _LOG.error("a partly received file cannot be removed: %s", error.strerror)


def _write(file: SpoolFile, data: bytes) -> None:
    # The piece is the parser's, which reuses nothing of it once we return.
    file.append(memoryview(data))
    file.flush()


def identity_of(account: str, address: str, settings: Settings) -> AssociationIdentity:
    """Return what stands for the association of a request; the account is its calling AE title."""
    title = "".join(each for each in account.upper() if each.isascii() and (each.isalnum() or each in " ._-"))
    return identify(title[:16] or "STOW", settings.receiver.ae_title, address)
