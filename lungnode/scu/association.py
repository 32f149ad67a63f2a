"""Associations that we open: every step has the peer's time limit, every failure is a sentence."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from socket import SO_RCVTIMEO, SO_SNDTIMEO, SOL_SOCKET
from ssl import SSLSocket
from struct import pack
from typing import Final

from pydicom.uid import UID
from pynetdicom import AE, _config, build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import EventHandlerType
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from lungnode.errors import UnavailableError, UnusableError
from lungnode.scu.answers import keep_answers
from lungnode.scu.encryption import Encryption
from lungnode.scu.rejection import RejectionFields, is_transient, rejection_of
from lungnode.scu.watch import Watch
from lungnode.settings import DicomDestination, Peer

_VERIFICATION: Final = UID("1.2.840.10008.1.1")  # Source: PS3.4 A.4


@contextmanager
def associated(
    peer: Peer,
    calling_ae_title: str,
    contexts: list[PresentationContext],
    *,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[EventHandlerType] = (),
) -> Iterator[Association]:
    """Hold an association while the block runs; every step has the peer's time limit.

    Args:
        peer: Whom to call.
        calling_ae_title: Our AE title.
        contexts: The presentation contexts to propose.
        roles: What we are of the SOP classes that we do not only use; see `keep_answers`.
        handlers: What serves the peer's requests meanwhile.

    Raises:
        UnavailableError: No association for now.
        UnusableError: The peer will never accept it.
    """
    encryption = Encryption(peer)
    # Its handlers that log come before ours, and those after one that fails are left out.
    _config.LOG_HANDLER_LEVEL = "none"
    entity = AE(ae_title=calling_ae_title)
    for name in ("acse_timeout", "dimse_timeout", "network_timeout", "connection_timeout"):
        setattr(entity, name, peer.timeout_s)
    watch = Watch()
    with ExitStack() as line:
        every: list[EventHandlerType] = [
            (evt.EVT_CONN_OPEN, keep_answers),
            (evt.EVT_CONN_OPEN, _prepare, [peer.timeout_s, line]),
            *watch.handlers(),
            *handlers,
        ]
        try:
            association = entity.associate(
                peer.host,
                peer.port,
                contexts,
                peer.ae_title,
                ext_neg=list(roles),
                tls_args=encryption.arguments,
                evt_handlers=every,
            )
        except OSError as error:  # the host's name does not resolve
            raise UnavailableError(
                f"{describe(peer)} cannot be reached: {error}.", advice="Correct its host name."
            ) from error
        if not association.is_established:
            raise encryption.failure(describe(peer)) or _refusal(association, peer, watch)
        try:
            yield association
        finally:
            _end(association)


def abort_all() -> None:
    """Abort every association of this process, which stops; whoever waits for an answer gets none."""
    for thread in threading.enumerate():
        if isinstance(thread, Association) and thread.is_established:
            thread.abort()
            thread.dimse.msg_queue.put((None, None))  # pynetdicom wakes nobody when the abort is our own


def echo(peer: Peer, calling_ae_title: str) -> None:
    """Ask a peer for an answer (C-ECHO).

    Raises:
        UnavailableError: It gave none.
        UnusableError: It refuses us.
    """
    with associated(peer, calling_ae_title, [build_context(_VERIFICATION)]) as association:
        status = association.send_c_echo().get("Status")
    if status != 0:
        answer = "no answer" if status is None else f"status 0x{status:04X}"
        raise UnavailableError(f"{describe(peer)} gave {answer} to a C-ECHO.")


def describe(peer: Peer) -> str:
    """Name a peer in a sentence."""
    kind = "Destination" if isinstance(peer, DicomDestination) else "Peer"
    return f"{kind} {peer.name} ({peer.ae_title} at {peer.host}:{peer.port})"


def _prepare(event: evt.Event, timeout_s: float, line: ExitStack) -> None:
    """Limit the silence on a new connection, and have it closed in the end.

    pynetdicom's own limits do not cover a peer that stops in the middle of a PDU or no longer reads, and it
    leaves the socket open where the peer hung up first.
    """
    transport = event.assoc.dul.socket
    if transport is None or transport.socket is None:
        return
    line.callback(transport.socket.close)
    if isinstance(transport.socket, SSLSocket):
        transport.socket.settimeout(timeout_s)  # to OpenSSL the kernel's limits are no reason to give up
        return
    limit = pack("ll", int(timeout_s), int(timeout_s % 1 * 1_000_000))
    transport.socket.setsockopt(SOL_SOCKET, SO_SNDTIMEO, limit)
    transport.socket.setsockopt(SOL_SOCKET, SO_RCVTIMEO, limit)


def _end(association: Association) -> None:
    if association.is_established:
        association.release()
    if not association.is_released:
        association.abort()


def _refusal(association: Association, peer: Peer, watch: Watch) -> UnavailableError | UnusableError:
    if watch.rejected:
        return _rejected(watch.rejected, association.requestor.ae_title, peer)
    if association.rejected_contexts and not association.accepted_contexts:
        names = ", ".join(sorted({UID(c.abstract_syntax or "").name for c in association.rejected_contexts}))
        return UnusableError(
            f"{describe(peer)} accepts none of: {names}.", advice="Let the peer accept one of them."
        )
    return _silence(peer, watch)


def _silence(peer: Peer, watch: Watch) -> UnavailableError:
    if not watch.connected:
        text, advice = "cannot be reached", "See that it runs, and that its host and port are right."
    elif watch.aborted:
        text, advice = "aborted before it accepted an association", "Ask who runs the peer: its log says why."
    else:
        text, advice = f"accepted no association within {peer.timeout_s:g} s", "See what keeps the peer busy."
    return UnavailableError(f"{describe(peer)} {text}.", advice=advice)


def _rejected(fields: RejectionFields, calling_ae_title: str, peer: Peer) -> UnavailableError | UnusableError:
    rejection = rejection_of(fields)
    numbers = f"result {fields.result}, source {fields.source}, reason {fields.reason}"
    text = f"{describe(peer)} rejected the association: {rejection.name} ({numbers})."
    advice = rejection.advice.format(calling=calling_ae_title, called=peer.ae_title)
    return (UnavailableError if is_transient(fields) else UnusableError)(text, advice=advice)
