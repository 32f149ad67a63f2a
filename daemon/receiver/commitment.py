"""Storage commitment: requests and reports become durable files, results go to a peer that still waits.

The receiver cannot judge a request, for it knows neither the index nor the archive. It makes the request
durable and says so; the clerk verifies it and leaves the result in the association's folder, under the
request's number. A peer whose association is still open gets it from there (docs/architecture.md).

Source: PS3.4 Annex J, Storage Commitment Service Class.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from daemon.receiver.associate import NegotiatedContext
from daemon.receiver.dimse import CommandField, Outcome, Request, Status, type_of, uid_text
from daemon.receiver.disk import Disk
from daemon.receiver.file_meta import Origin, encode_file_meta
from daemon.receiver.spool import FileKind, SpoolFolder
from daemon.receiver.store import Dropping, Operation
from lungnode.commitment import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    REQUEST_ACTION,
    Commitment,
    EventType,
    decode_report,
    decode_request,
)
from lungnode.errors import UnusableError

logger = logging.getLogger(__name__)

MOST_BYTES: Final = 1 << 22  # of action or event information: some 36,000 instances


@dataclass(frozen=True)
class _Service:
    """One of the two messages that peers send."""

    kind: FileKind
    types: tuple[int, ...]
    no_such_type: Status
    decode: Callable[[bytes, str], Commitment]


# Source: PS3.4 J.3.2, N-ACTION, and J.3.3, N-EVENT-REPORT.
_SERVICES: Final = {
    CommandField.N_ACTION_RQ: _Service(
        FileKind.COMMITMENT_REQUEST, (REQUEST_ACTION,), Status.NO_SUCH_ACTION_TYPE, decode_request
    ),
    CommandField.N_EVENT_REPORT_RQ: _Service(
        FileKind.COMMITMENT_REPORT, tuple(EventType), Status.NO_SUCH_EVENT_TYPE, decode_report
    ),
}
SERVED: Final = frozenset(_SERVICES)


@dataclass(frozen=True)
class DueReport:
    """An N-EVENT-REPORT-RQ to send now."""

    context_id: int
    message_id: int
    event_type: EventType
    data_set: bytes


class Commitments:
    """Storage commitment on one association."""

    def __init__(self, folder: SpoolFolder, disk: Disk, origin: Origin) -> None:
        self._folder = folder
        self._disk = disk
        self._origin = origin
        self._awaited: dict[str, NegotiatedContext] = {}  # requests without a report, by their file's name
        self._sent = ""  # the one whose report the peer has not answered yet
        self._message_id = 0

    @property
    def is_awaited(self) -> bool:
        """Whether the peer asked for something that it was not told yet."""
        return bool(self._awaited)

    def begin(self, request: Request, context: NegotiatedContext) -> Operation:
        """Start to take a request or a report, or to drop it with a status that says why."""
        service = _SERVICES[CommandField(request.command_field)]
        refusal = self._refuse(request, context, service)
        if refusal is not None:
            return Dropping(refusal)
        return _Taking(lambda data_set: self._take(service, context, data_set))

    def next_report(self) -> DueReport | None:
        """Return what the clerk found meanwhile; None while it found nothing, or a report is unanswered."""
        if self._sent:
            return None
        for name, context in self._awaited.items():
            result = self._result(name)
            if result is not None:
                self._sent = name
                self._message_id += 1
                data_set = result.encoded(context.transfer_syntax)
                return DueReport(context.context_id, self._message_id, result.event_type, data_set)
        return None

    def answered(self, response: Request) -> bool:
        """Note for the clerk how the peer answered our report; False when it was sent none."""
        if not self._sent or response.message_id != self._message_id or not response.is_event_report_answer:
            return False
        name, self._sent = self._sent, ""
        del self._awaited[name]
        try:
            self._folder.note(f"{name}.reported", {"status": f"0x{response.status or 0:04X}"})
        except OSError as error:
            logger.error("the answer to a commitment report cannot be noted: %s", error.strerror)  # noqa: TRY400 - one line
        return True

    def _refuse(self, request: Request, context: NegotiatedContext, service: _Service) -> Outcome | None:
        if {context.abstract_syntax, uid_text(request.sop_class_uid)} != {PUSH_MODEL}:
            return Outcome(Status.NO_SUCH_SOP_CLASS, "only Storage Commitment Push Model is served")
        if uid_text(request.sop_instance_uid) != PUSH_MODEL_INSTANCE:
            return Outcome(Status.NO_SUCH_SOP_INSTANCE, f"the SOP Instance is {PUSH_MODEL_INSTANCE}")
        if type_of(request) not in service.types:
            return Outcome(service.no_such_type, f"the types are {service.types}")
        if not request.has_data_set:
            return Outcome(Status.INVALID_ARGUMENT_VALUE, "there is no data set")
        if self._disk.is_full():
            return Outcome(Status.RESOURCE_LIMITATION, "disk full")
        return None

    def _take(self, service: _Service, context: NegotiatedContext, data_set: bytes) -> Outcome:
        try:
            commitment = service.decode(data_set, context.transfer_syntax)
            name = self._write(service.kind, context, data_set)
        except UnusableError as error:
            return Outcome(Status.INVALID_ARGUMENT_VALUE, str(error))
        except OSError as error:
            logger.error("the spool cannot be written: %s: %s", error.strerror, error.filename)  # noqa: TRY400 - one line
            return Outcome(Status.RESOURCE_LIMITATION, error.strerror or "disk error")
        asks = service.kind is FileKind.COMMITMENT_REQUEST
        if asks:
            self._awaited[name] = context
        logger.info(
            "commitment of %d instances %s by %s, transaction %s",
            len(commitment.references),
            "requested" if asks else "reported",
            self._origin.calling_ae_title,
            commitment.transaction_uid,
        )
        return Outcome(Status.SUCCESS)

    def _write(self, kind: FileKind, context: NegotiatedContext, data_set: bytes) -> str:
        head = encode_file_meta(
            PUSH_MODEL.encode("ascii"),
            PUSH_MODEL_INSTANCE.encode("ascii"),
            context.transfer_syntax,
            self._origin,
        )
        file = self._folder.new_file(head, kind)
        try:
            file.append(memoryview(data_set))
            file.commit()
        except OSError:
            file.discard()
            raise
        return file.name

    def _result(self, name: str) -> Commitment | None:
        try:
            content = self._folder.read(f"{name}.result")
        except OSError as error:
            logger.error("a commitment's result cannot be read: %s", error.strerror)  # noqa: TRY400 - one line
            return None
        return None if content is None else Commitment.from_json(content)


class _Taking:
    """Collects a data set of bounded size in memory."""

    def __init__(self, take: Callable[[bytes], Outcome]) -> None:
        self._take = take
        self._data_set = bytearray()
        self._is_too_long = False

    def append(self, fragment: memoryview) -> None:
        """Copy it."""
        self._is_too_long |= len(self._data_set) + len(fragment) > MOST_BYTES
        if self._is_too_long:
            self._data_set.clear()
        else:
            self._data_set += fragment

    def flush(self) -> None:
        """Hold nothing."""

    def finish(self) -> Outcome:
        """Take the data set, unless it is too long."""
        if self._is_too_long:
            return Outcome(Status.RESOURCE_LIMITATION, f"more than {MOST_BYTES} bytes")
        return self._take(bytes(self._data_set))

    def discard(self) -> None:
        """Leave nothing behind."""
