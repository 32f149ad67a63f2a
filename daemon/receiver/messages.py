"""P-DATA-TF PDUs to DIMSE messages: fragments in, operations run, responses out.

A command set or a data set may be spread over any number of PDVs, and those over any number of PDUs.
Source: PS3.8 9.3.5 and E.2, PS3.7 9.
"""

import logging
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from daemon.receiver.associate import NegotiatedContext
from daemon.receiver.commitment import SERVED, Commitments
from daemon.receiver.contexts import VERIFICATION
from daemon.receiver.dimse import (
    CommandField,
    Outcome,
    Request,
    Status,
    decode_request,
    encode_event_report,
    encode_response,
    uid_text,
)
from daemon.receiver.pdu import AbortReason, PduType, ProtocolError, encode_header
from daemon.receiver.store import Dropping, Operation, Storage
from daemon.receiver.wire import Wire

logger = logging.getLogger(__name__)

_PDV: Final = struct.Struct(">IBB")  # item length, context ID, message control header
_COMMAND: Final = 0x01
_LAST: Final = 0x02
_MAX_COMMAND_BYTES: Final = 1 << 16  # a real one has some 150


@dataclass
class Account:
    """What one association brought."""

    instances: int = 0
    bytes: int = 0
    refusals: Counter[str] = field(default_factory=Counter)


class Messages:
    """The messages of one established association."""

    def __init__(
        self,
        wire: Wire,
        contexts: dict[int, NegotiatedContext],
        storage: Storage,
        commitments: Commitments,
        maximum_length: int,
    ) -> None:
        self.account = Account()
        self.is_busy = False  # a message has begun and is not answered yet; another thread looks at it
        self._wire = wire
        self._contexts = contexts
        self._storage = storage
        self._commitments = commitments
        self._maximum_length = maximum_length
        self._command = b""
        self._context_id = 0
        self._request: Request | None = None
        self._operation: Operation | None = None
        self._data_set_bytes = 0
        wire.before_reuse = self._flush

    def receive(self, length: int) -> None:
        """Read a P-DATA-TF's `length` bytes from the wire and do what its fragments complete.

        Raises:
            ProtocolError: A length is wrong, or a fragment is not one that may follow.
        """
        remaining = length
        while remaining:
            if remaining < _PDV.size:
                raise ProtocolError(f"A P-DATA-TF ends with {remaining} bytes that are no PDV.")
            self._wire.need(_PDV.size)
            item_length, context_id, control = _PDV.unpack(self._wire.take(_PDV.size))
            size = item_length - 2
            if not 0 <= size <= remaining - _PDV.size:
                raise ProtocolError(f"A PDV of {item_length} bytes does not fit into its PDU.")
            self._fragment(context_id, control, size)
            remaining -= _PDV.size + size

    @property
    def awaits_report(self) -> bool:
        """Whether the peer waits for a commitment report and may be sent one."""
        return self._commitments.is_awaited and not self.is_busy

    def report(self) -> None:
        """Send the peer what the clerk found of its commitment request, if it has."""
        due = self._commitments.next_report()
        if due is not None:
            self._send(due.context_id, encode_event_report(due.message_id, due.event_type), due.data_set)

    def discard(self) -> None:
        """Forget an unfinished message and what it left on disk."""
        if self._operation is not None:
            self._operation.discard()
        self._operation = None

    def _fragment(self, context_id: int, control: int, size: int) -> None:
        if context_id not in self._contexts:
            raise ProtocolError(f"A PDV came on presentation context {context_id}, which was not accepted.")
        if self.is_busy and context_id != self._context_id:
            raise ProtocolError("A message changed its presentation context.")
        self._context_id = context_id
        self.is_busy = True
        if control & _COMMAND:
            self._command_fragment(size, is_last=bool(control & _LAST))
        else:
            self._data_fragment(size, is_last=bool(control & _LAST))

    def _command_fragment(self, size: int, *, is_last: bool) -> None:
        if self._operation is not None:
            raise ProtocolError("A command came within a data set.", AbortReason.UNEXPECTED_PDU_PARAMETER)
        if len(self._command) + size > _MAX_COMMAND_BYTES:
            raise ProtocolError(f"A command set is longer than {_MAX_COMMAND_BYTES} bytes.")
        self._wire.need(size)
        self._command += bytes(self._wire.take(size))
        if is_last:
            command, self._command = self._command, b""
            self._begin(decode_request(command))

    def _data_fragment(self, size: int, *, is_last: bool) -> None:
        operation = self._operation
        if operation is None:
            raise ProtocolError("A data set came without a command.", AbortReason.UNEXPECTED_PDU_PARAMETER)
        self._data_set_bytes += size
        wire = self._wire
        while size:
            if not wire.unread:
                wire.fill()
            fragment = wire.take(min(size, wire.unread))
            operation.append(fragment)
            size -= len(fragment)
        if is_last:
            outcome = operation.finish()
            self._operation = None
            self._respond(outcome)

    def _begin(self, request: Request) -> None:
        self._request = request
        self._data_set_bytes = 0
        operation = self._choose(request)
        if request.has_data_set:
            self._operation = operation
        else:
            self._respond(operation.finish())

    def _choose(self, request: Request) -> Operation:
        context = self._contexts[self._context_id]
        if request.command_field == CommandField.C_STORE_RQ:
            return self._storage.begin(request, context)
        if request.is_response:
            return self._pass_over(request)
        if request.command_field in SERVED:
            return self._commitments.begin(request, context)
        if request.command_field != CommandField.C_ECHO_RQ:
            return Dropping(Outcome(Status.UNRECOGNIZED_OPERATION, "this operation is not served"))
        if context.abstract_syntax != VERIFICATION:
            return Dropping(Outcome(Status.SOP_CLASS_NOT_SUPPORTED, "C-ECHO outside Verification"))
        return Dropping(Outcome(Status.SUCCESS))

    def _pass_over(self, response: Request) -> Operation:
        if not self._commitments.answered(response):
            raise ProtocolError(
                "The peer answers what was never asked.", AbortReason.UNEXPECTED_PDU_PARAMETER
            )
        return Dropping(Outcome(Status.SUCCESS))

    def _respond(self, outcome: Outcome) -> None:
        request = self._request
        if request is not None and request.is_answered:
            self._count(request, outcome)
            self._send(self._context_id, encode_response(request, outcome))
        self.is_busy = False

    def _count(self, request: Request, outcome: Outcome) -> None:
        if outcome.status != Status.SUCCESS:
            self.account.refusals[outcome.status.name] += 1
            logger.warning(
                "%s of %s from %s refused: %s (0x%04X), %s",
                request.name,
                uid_text(request.sop_instance_uid) or uid_text(request.sop_class_uid),
                self._storage.origin.calling_ae_title,
                outcome.status.name,
                outcome.status,
                outcome.comment,
            )
        elif request.command_field == CommandField.C_STORE_RQ:
            self.account.instances += 1
            self.account.bytes += self._data_set_bytes

    def _send(self, context_id: int, command_set: bytes, data_set: bytes = b"") -> None:
        pdus = self._fragments(context_id, command_set, _COMMAND) + self._fragments(context_id, data_set, 0)
        self._wire.send(b"".join(pdus))

    def _fragments(self, context_id: int, value: bytes, control: int) -> list[bytes]:
        step = max(1, len(value))
        if self._maximum_length:
            step = max(1, min(step, self._maximum_length - _PDV.size))
        pdus = []
        for start in range(0, len(value), step):
            part = value[start : start + step]
            last = _LAST if start + step >= len(value) else 0
            pdus.append(encode_header(PduType.P_DATA_TF, _PDV.size + len(part)))
            pdus.append(_PDV.pack(len(part) + 2, context_id, control | last) + part)
        return pdus

    def _flush(self) -> None:
        if self._operation is not None:
            self._operation.flush()
