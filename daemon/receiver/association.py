"""One connection from its first byte to its last: handshake, request, admission, messages, release or abort.

The states of PS3.8 9.2 are the order of the calls: `_await_request` is Sta2, `_admit` Sta3, `_transfer` Sta6,
`_part` Sta13.
"""

import logging
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from daemon.receiver.admission import Caller, is_within, refuse
from daemon.receiver.alerts import Alert, Alerts
from daemon.receiver.associate import (
    MAX_REQUEST_BYTES,
    AssociateRequest,
    ContextResult,
    NegotiatedContext,
    decode_request,
    encode_accept,
)
from daemon.receiver.backlog import Backlog
from daemon.receiver.commitment import Commitments
from daemon.receiver.contexts import negotiate
from daemon.receiver.disk import Disk
from daemon.receiver.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, Origin
from daemon.receiver.messages import Account, Messages
from daemon.receiver.pdu import (
    HEADER_BYTES,
    AbortReason,
    AbortSource,
    PduType,
    PeerGoneError,
    PeerSilentError,
    ProtocolError,
    Rejection,
    decode_header,
    encode_abort,
    encode_reject,
    encode_release_response,
)
from daemon.receiver.proxied import read_client
from daemon.receiver.seats import Seats
from daemon.receiver.spool import AssociationOutcome, SpoolFolder, identify
from daemon.receiver.store import Storage
from daemon.receiver.tally import Tally
from daemon.receiver.tls import Certificates, TlsError, secure
from daemon.receiver.transport import TcpTransport, Transport, part
from daemon.receiver.wire import Wire
from lungnode.settings import Settings

logger = logging.getLogger(__name__)

# Streaming makes a long PDU harmless, and some peers overlook the limit; 4 GiB is no oversight.
TOLERATED_PDUS: Final = 4
_TLS_HANDSHAKE: Final = 0x16  # how every TLS connection begins. Source: RFC 8446 5.1, ContentType
LOOK_S: Final = 0.1  # between two looks for a commitment's result
HURRY_S: Final = 0.5  # instead of ARTIM, for peers that do not close when we stop


@dataclass(frozen=True)
class Node:
    """What all associations of one process share."""

    settings: Settings
    seats: Seats
    disk: Disk
    tally: Tally  # what ended how, by name
    alerts: Alerts  # what the audit trail is to know
    backlog: Backlog
    certificates: Certificates | None = None  # for the port with TLS; None: there is none


@dataclass(frozen=True)
class Ending:
    """How a connection ends: what the spool records, what the peer is told, what the log says."""

    outcome: AssociationOutcome
    farewell: bytes
    reason: str
    name: str = "garbage"  # what it is counted as where no association came about


class Association:
    """One connection, run by one thread."""

    _wire: Wire  # from the handshake on

    def __init__(
        self, connection: socket.socket, address: str, node: Node, place: int, *, is_encrypted: bool = False
    ) -> None:
        self._connection = connection
        self._place = place
        self._transport: Transport = TcpTransport(connection)
        self._caller = Caller(address)
        self._certificates = node.certificates if is_encrypted else None
        self._node = node
        self._request: AssociateRequest | None = None
        self._messages: Messages | None = None
        self._folder: SpoolFolder | None = None
        self._opened = time.monotonic()
        self._is_stopping = False

    def run(self) -> None:
        """Serve the peer until the connection is closed."""
        ending = self._serve()
        self._record(ending)
        self._part(ending)

    def stop(self) -> None:
        """Ask, from another thread, to end after the running C-STORE."""
        self._is_stopping = True
        if self._messages is None or not self._messages.is_busy:
            self.cut(socket.SHUT_RD)

    def cut(self, how: int = socket.SHUT_RDWR) -> None:
        """Wake the thread from whatever it waits for."""
        try:
            self._connection.shutdown(how)
        except OSError:
            return  # the peer was faster

    def _serve(self) -> Ending:
        try:
            return self._converse()
        except ProtocolError as error:
            return self._aborted(AbortSource.SERVICE_PROVIDER, error.reason, str(error))
        except TlsError as error:
            return Ending(AssociationOutcome.ABORTED, error.farewell, str(error), error.trouble.name)
        except PeerSilentError as error:
            return self._aborted(AbortSource.SERVICE_USER, AbortReason.NOT_SPECIFIED, str(error))
        except PeerGoneError as error:
            lost = Ending(AssociationOutcome.LOST, b"", str(error))
            # Who asked for nothing yet is no stranger to tell of because we stop.
            return self._stopped() if self._is_stopping and self._request else lost
        except Exception:  # the edge of a thread: what is taken must be given back, whatever went wrong
            logger.exception("an association failed")
            reason = AbortReason.NOT_SPECIFIED
            return self._aborted(AbortSource.SERVICE_PROVIDER, reason, "internal error")

    def _converse(self) -> Ending:
        self._transport.limit_total(self._node.settings.receiver.artim_s)
        if is_within(self._caller.address, self._node.settings.receiver.proxies):
            self._caller = Caller(read_client(self._transport) or self._caller.address)
            self._node.seats.belong(self._place, self._caller.address)
        if self._certificates is not None:
            secured = secure(self._transport, self._certificates.context())
            self._transport = secured.transport
            self._caller = Caller(self._caller.address, secured.version, secured.certificate)
        self._wire = Wire(self._transport)
        request = self._await_request()
        rejection = self._admit(request)
        if rejection is not None:
            reason = f"rejected: {rejection.name}"
            logger.warning(
                "association of %s (%s) to %s %s",
                request.calling_ae_title,
                self._caller,
                request.called_ae_title,
                reason,
            )
            self._node.tally.add({rejection.name: 1})
            self._alert(request, rejection)
            return Ending(AssociationOutcome.ABORTED, encode_reject(rejection), reason)
        self._establish(request)
        return self._transfer()

    def _alert(self, request: AssociateRequest, rejection: Rejection) -> None:
        if rejection.is_permanent:  # a lack of room is nothing that the peer did
            titles = request.calling_ae_title, request.called_ae_title
            self._node.alerts.add(
                Alert("association rejected", rejection.name, self._caller.address, *titles)
            )

    def _await_request(self) -> AssociateRequest:
        pdu_type, length = self._next_pdu()
        if pdu_type != PduType.A_ASSOCIATE_RQ:
            raise _unexpected(pdu_type)
        if length > MAX_REQUEST_BYTES:
            raise ProtocolError(
                f"An A-ASSOCIATE-RQ has at most {MAX_REQUEST_BYTES} bytes, this one {length}."
            )
        self._wire.need(length)
        return decode_request(bytes(self._wire.take(length)))

    def _admit(self, request: AssociateRequest) -> Rejection | None:
        rejection = refuse(request, self._caller, self._node.settings.receiver)
        if rejection is not None:
            return rejection
        if self._node.disk.is_congested() or self._node.backlog.is_congested():
            return Rejection.TEMPORARY_CONGESTION
        rejection = self._node.seats.take(self._place)
        if rejection is None:
            self._request = request
        return rejection

    def _establish(self, request: AssociateRequest) -> None:
        settings = self._node.settings.receiver
        contexts = negotiate(
            request.contexts,
            unknown_sop_classes=settings.unknown_sop_classes,
            commitment=self._node.settings.commitment.accept,
        )
        accepted = {
            context.context_id: context for context in contexts if context.result == ContextResult.ACCEPTANCE
        }
        identity = identify(request.calling_ae_title, request.called_ae_title, self._caller.address)
        self._folder = SpoolFolder(self._node.settings.spool, identity)
        origin = Origin(request.calling_ae_title, request.called_ae_title)
        storage = Storage(self._folder, self._node.disk, origin)
        commitments = Commitments(self._folder, self._node.disk, origin)
        self._messages = Messages(self._wire, accepted, storage, commitments, request.maximum_length)
        self._note_refused(request, contexts, self._messages.account)
        implementation = (IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME)
        self._transport.limit_silence(settings.idle_s)
        self._wire.send(encode_accept(request, contexts, settings.max_pdu_bytes, implementation))

    def _note_refused(
        self, request: AssociateRequest, contexts: tuple[NegotiatedContext, ...], account: Account
    ) -> None:
        refused = [context for context in contexts if context.result != ContextResult.ACCEPTANCE]
        if not refused:
            return
        account.refusals.update(context.result.name for context in refused)
        first = refused[0]
        logger.warning(
            "association of %s (%s): %d of %d presentation contexts refused, the first: %s with %s, %s",
            request.calling_ae_title,
            self._caller,
            len(refused),
            len(contexts),
            first.abstract_syntax,
            first.transfer_syntax,
            first.result.name,
        )

    def _transfer(self) -> Ending:
        messages = self._messages
        limit = self._node.settings.receiver.max_pdu_bytes * TOLERATED_PDUS
        while messages is not None and (messages.is_busy or not self._is_stopping):
            self._attend(messages)
            pdu_type, length = self._next_pdu()
            if pdu_type == PduType.P_DATA_TF and length <= limit:
                messages.receive(length)
            elif pdu_type == PduType.A_RELEASE_RQ:
                return Ending(AssociationOutcome.RELEASED, encode_release_response(), "released")
            elif pdu_type == PduType.A_ABORT:
                return Ending(AssociationOutcome.ABORTED, b"", "the peer aborted")
            elif pdu_type == PduType.P_DATA_TF:
                raise ProtocolError(
                    f"A P-DATA-TF has at most {limit // TOLERATED_PDUS} bytes, this one {length}."
                )
            else:
                raise _unexpected(pdu_type)
        return self._stopped()

    def _attend(self, messages: Messages) -> None:
        """While the peer is silent because it waits for a commitment report, look for one and send it."""
        settings = self._node.settings
        deadline = time.monotonic() + settings.receiver.idle_s + settings.commitment.wait_s
        while messages.awaits_report and not self._wire.is_ready(LOOK_S):
            if time.monotonic() > deadline:
                raise PeerSilentError("The peer fell silent.")
            messages.report()

    def _next_pdu(self) -> tuple[int, int]:
        self._wire.need(HEADER_BYTES)
        return decode_header(self._wire.take(HEADER_BYTES))

    def _stopped(self) -> Ending:
        return self._aborted(AbortSource.SERVICE_USER, AbortReason.NOT_SPECIFIED, "the receiver is stopping")

    def _aborted(self, source: AbortSource, reason: AbortReason, message: str) -> Ending:
        return Ending(AssociationOutcome.ABORTED, encode_abort(source, reason), message)

    def _record(self, ending: Ending) -> None:
        """Leave the spool and the log as the association ended, before the peer can know that it did."""
        if self._messages is not None:
            self._messages.discard()
        if self._folder is not None:
            try:
                self._folder.end(ending.outcome, datetime.now(UTC))
            except OSError as error:
                logger.error("the end of an association cannot be recorded: %s", error.strerror)  # noqa: TRY400 - one line
        if self._request is None:
            self._log_stranger(ending)
            return
        self._node.seats.give_back(self._place)
        self._log(self._request, self._messages.account if self._messages else Account(), ending)

    def _log_stranger(self, ending: Ending) -> None:
        if ending.outcome == AssociationOutcome.LOST:
            self._node.tally.add({"probe": 1})
            logger.debug("%s connected and went without a request", self._caller)
        elif not ending.reason.startswith("rejected"):
            self._node.tally.add({ending.name: 1})
            self._node.alerts.add(Alert("connection refused", ending.name, self._caller.address))
            logger.warning("%s sent no usable A-ASSOCIATE-RQ: %s", self._caller, ending.reason)

    def _log(self, request: AssociateRequest, account: Account, ending: Ending) -> None:
        ended = {ending.outcome.value: 1, "instances": account.instances, "bytes": account.bytes}
        self._node.tally.add(ended | account.refusals)
        logger.log(
            logging.WARNING if ending.outcome == AssociationOutcome.LOST else logging.INFO,
            "association of %s (%s) to %s %s: %d instances, %d bytes, %.1f s, refused: %s; %s",
            request.calling_ae_title,
            self._caller,
            request.called_ae_title,
            ending.outcome.value,
            account.instances,
            account.bytes,
            time.monotonic() - self._opened,
            ", ".join(f"{count} {name}" for name, count in account.refusals.items()) or "nothing",
            ending.reason,
        )

    def _part(self, ending: Ending) -> None:
        """Say the last word, and let the peer close first for as long as ARTIM allows."""
        if ending.farewell:
            artim_s = self._node.settings.receiver.artim_s
            part(self._transport, ending.farewell, min(artim_s, HURRY_S) if self._is_stopping else artim_s)


def _unexpected(pdu_type: int) -> ProtocolError:
    if pdu_type == _TLS_HANDSHAKE:
        return ProtocolError("TLS is not spoken on this port.", AbortReason.UNRECOGNIZED_PDU)
    if pdu_type in PduType.__members__.values():
        name = PduType(pdu_type).name
        return ProtocolError(f"A PDU came that has no place here: {name}.", AbortReason.UNEXPECTED_PDU)
    return ProtocolError(f"A PDU of unknown type {pdu_type:#04x} came.", AbortReason.UNRECOGNIZED_PDU)
