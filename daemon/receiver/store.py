"""What happens to the data set behind a command: it is stored, or read and dropped."""

import logging
from dataclasses import dataclass, field
from typing import Final, Protocol

from daemon.receiver.associate import NegotiatedContext
from daemon.receiver.contexts import VERIFICATION
from daemon.receiver.dimse import Outcome, Request, Status, uid_text
from daemon.receiver.disk import Disk
from daemon.receiver.file_meta import Origin, encode_file_meta
from daemon.receiver.spool import SpoolFile, SpoolFolder
from lungnode.commitment import PUSH_MODEL

logger = logging.getLogger(__name__)
_NOT_STORED: Final = (VERIFICATION, PUSH_MODEL)  # abstract syntaxes whose contexts carry no instances


class Operation(Protocol):
    """Takes one message's data set and says how it ended."""

    def append(self, fragment: memoryview) -> None:
        """Take a fragment, which stays valid until `flush`."""

    def flush(self) -> None:
        """Let go of every fragment taken so far."""

    def finish(self) -> Outcome:
        """End the operation: the data set is whole."""

    def discard(self) -> None:
        """End the operation without an answer: the data set will never be whole."""


@dataclass(frozen=True)
class Dropping:
    """Reads past a data set whose outcome is known: DIMSE sends it right behind the command in any case."""

    outcome: Outcome

    def append(self, fragment: memoryview) -> None:
        """Drop it."""

    def flush(self) -> None:
        """Hold nothing."""

    def finish(self) -> Outcome:
        """Return the outcome."""
        return self.outcome

    def discard(self) -> None:
        """Leave nothing behind."""


@dataclass
class Storing:
    """Writes a data set to its file; a disk that fails costs this instance, not the association."""

    file: SpoolFile
    sop_instance_uid: str
    failure: OSError | None = field(default=None, init=False)

    def append(self, fragment: memoryview) -> None:
        """Give it to the file."""
        if self.failure is not None:
            return
        try:
            self.file.append(fragment)
        except OSError as error:
            self._fail(error)

    def flush(self) -> None:
        """Write it."""
        if self.failure is not None:
            return
        try:
            self.file.flush()
        except OSError as error:
            self._fail(error)

    def finish(self) -> Outcome:
        """Make the instance durable; only then it is a success."""
        if self.failure is None:
            try:
                self.file.commit()
            except OSError as error:
                self._fail(error)
        if self.failure is not None:
            return out_of_resources(self.failure)
        return Outcome(Status.SUCCESS)

    def discard(self) -> None:
        """Remove the file."""
        try:
            self.file.discard()
        except OSError as error:
            logger.error("a partly received file cannot be removed: %s", error.strerror)  # noqa: TRY400 - one line

    def _fail(self, error: OSError) -> None:
        self.failure = error
        logger.error("instance %s cannot be written: %s", self.sop_instance_uid, error.strerror)
        self.discard()


@dataclass(frozen=True)
class Storage:
    """What a C-STORE of one association needs."""

    folder: SpoolFolder
    disk: Disk
    origin: Origin

    def begin(self, request: Request, context: NegotiatedContext) -> Operation:
        """Start to store an instance, or to drop it with a status that says why."""
        refusal = self._refuse(request, context)
        if refusal is not None:
            return Dropping(refusal)
        head = encode_file_meta(
            request.sop_class_uid or b"",
            request.sop_instance_uid or b"",
            context.transfer_syntax,
            self.origin,
        )
        try:
            return Storing(self.folder.new_file(head), uid_text(request.sop_instance_uid))
        except OSError as error:
            logger.error("the spool cannot be written: %s: %s", error.strerror, error.filename)  # noqa: TRY400 - one line
            return Dropping(out_of_resources(error))

    def _refuse(self, request: Request, context: NegotiatedContext) -> Outcome | None:
        sop_class_uid = uid_text(request.sop_class_uid)
        if context.abstract_syntax in _NOT_STORED or sop_class_uid != context.abstract_syntax:
            return Outcome(
                Status.SOP_CLASS_NOT_SUPPORTED, "SOP Class UID is not the context's abstract syntax"
            )
        if not request.has_data_set:
            return Outcome(Status.CANNOT_UNDERSTAND, "C-STORE-RQ without a data set")
        if self.disk.is_full():
            return Outcome(Status.OUT_OF_RESOURCES, "disk full")
        return None


def out_of_resources(error: OSError) -> Outcome:
    """Return what a peer is told when a file could not be written."""
    return Outcome(Status.OUT_OF_RESOURCES, error.strerror or "disk error")
