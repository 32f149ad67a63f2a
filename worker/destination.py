"""A Storage SCU: one association that sends files as they are stored."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import SO_RCVTIMEO, SO_SNDTIMEO, SOL_SOCKET
from struct import pack
from typing import Final, Self

from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import EventHandlerType
from pynetdicom.presentation import PresentationContext

from lungnode.errors import UnavailableError, UnusableError
from lungnode.settings import Destination
from worker.answers import keep_answers

_VERIFICATION: Final = UID("1.2.840.10008.1.1")  # Source: PS3.4 A.4
_UNCOMPRESSED: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_SOP_CLASS_NOT_SUPPORTED: Final = 0x0122  # Source: PS3.7 Annex C.5.6
_REJECTED_PERMANENT: Final = 1  # Source: PS3.8 9.3.4, A-ASSOCIATE-RJ, Result


@dataclass(frozen=True)
class Answer:
    """What the peer said to one C-STORE."""

    status: int | None  # None: nothing came in time, or the association is gone
    comment: str = ""  # Error Comment (0000,0902)


class Peer:
    """An open association with a destination."""

    def __init__(self, association: Association) -> None:
        self._association = association

    @property
    def is_there(self) -> bool:
        """Whether the association is still open."""
        return bool(self._association.is_established)

    def accepts(self, sop_class_uid: str) -> bool:
        """Tell whether instances of a class may be sent, in some transfer syntax."""
        return any(c.abstract_syntax == sop_class_uid for c in self._association.accepted_contexts)

    def store(self, path: Path, transfer_syntax_uid: str, sop_class_uid: str) -> Answer:
        """Send the bytes of a file as they are, or decompressed where the peer takes nothing else.

        Raises:
            OSError: The file cannot be read.
        """
        if not self.is_there:
            return Answer(None, "the association was gone")
        instance: Path | Dataset = path
        if not self._takes(sop_class_uid, transfer_syntax_uid):
            instance = _uncompressed(path)
        try:
            response = self._association.send_c_store(instance)
        except RuntimeError:  # the association ended between the question above and the sending
            return Answer(None, "the association was gone")
        except ValueError:  # no accepted context fits
            return Answer(_SOP_CLASS_NOT_SUPPORTED, "no transfer syntax was accepted that we can send")
        return Answer(response.get("Status"), str(response.get("ErrorComment", "")))

    def _takes(self, sop_class_uid: str, transfer_syntax_uid: str) -> bool:
        return any(
            c.abstract_syntax == sop_class_uid and transfer_syntax_uid in c.transfer_syntax
            for c in self._association.accepted_contexts
        )


def _uncompressed(path: Path) -> Dataset:
    instance = dcmread(path)
    if instance.file_meta.TransferSyntaxUID.is_compressed:
        instance.decompress(generate_instance_uid=False)
    return instance


@contextmanager
def associated(
    destination: Destination, calling_ae_title: str, proposed: dict[str, set[str]]
) -> Iterator[Peer]:
    """Hold an association while the block runs; every step has the destination's time limit.

    Args:
        destination: Whom to call.
        calling_ae_title: Our AE title.
        proposed: Transfer syntaxes of the instances to send, by SOP class.

    Raises:
        UnavailableError: No association for now.
        UnusableError: The peer will never accept it.
    """
    # Without this, pynetdicom decodes and encodes each file again; what we committed is what is sent.
    _config.STORE_SEND_CHUNKED_DATASET = True
    with _association(destination, calling_ae_title, _contexts(proposed)) as association:
        yield Peer(association)


class Line:
    """An association that is opened when it is needed and kept for whatever else goes to the destination."""

    def __init__(self) -> None:
        """Be closed."""
        self._open = ExitStack()
        self._peer: Peer | None = None

    def __enter__(self) -> Self:
        """Still be closed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the association."""
        self._open.close()

    def peer(
        self, destination: Destination, calling_ae_title: str, proposed: Callable[[], dict[str, set[str]]]
    ) -> Peer:
        """Return the peer; the association is made if there is none, or none any more.

        Raises:
            UnavailableError: No association for now.
            UnusableError: The peer will never accept it.
        """
        if self._peer is None or not self._peer.is_there:
            self._open.close()
            self._peer = self._open.enter_context(associated(destination, calling_ae_title, proposed()))
        return self._peer


def echo(destination: Destination, calling_ae_title: str) -> None:
    """Ask a destination for an answer (C-ECHO).

    Raises:
        UnavailableError: It gave none.
        UnusableError: It refuses us.
    """
    with _association(destination, calling_ae_title, [build_context(_VERIFICATION)]) as association:
        status = association.send_c_echo().get("Status")
    if status != 0:
        answer = "no answer" if status is None else f"status 0x{status:04X}"
        raise UnavailableError(f"{describe(destination)} gave {answer} to a C-ECHO.")


def describe(destination: Destination) -> str:
    """Name a destination in a sentence."""
    return f"Destination {destination.name} ({destination.ae_title} at {destination.host}:{destination.port})"


def _contexts(proposed: dict[str, set[str]]) -> list[PresentationContext]:
    # A peer chooses one transfer syntax for each context, so compressed ones get a context of their own.
    contexts = []
    for sop_class_uid, transfer_syntaxes in proposed.items():
        contexts += [
            build_context(sop_class_uid, [uid]) for uid in sorted(transfer_syntaxes - {*_UNCOMPRESSED})
        ]
        contexts.append(build_context(sop_class_uid, list(_UNCOMPRESSED)))
    return contexts


@contextmanager
def _association(
    destination: Destination, calling_ae_title: str, contexts: list[PresentationContext]
) -> Iterator[Association]:
    entity = AE(ae_title=calling_ae_title)
    for name in ("acse_timeout", "dimse_timeout", "network_timeout", "connection_timeout"):
        setattr(entity, name, destination.timeout_s)
    with ExitStack() as line:
        handlers: list[EventHandlerType] = [
            (evt.EVT_CONN_OPEN, keep_answers),
            (evt.EVT_CONN_OPEN, _prepare, [destination.timeout_s, line]),
        ]
        try:
            association = entity.associate(
                destination.host, destination.port, contexts, destination.ae_title, evt_handlers=handlers
            )
        except OSError as error:  # the host's name does not resolve
            raise UnavailableError(f"{describe(destination)} cannot be reached: {error}.") from error
        if not association.is_established:
            raise _refusal(association, destination)
        try:
            yield association
        finally:
            _end(association)


def _prepare(event: evt.Event, timeout_s: float, line: ExitStack) -> None:
    """Limit the silence on a new connection, and have it closed in the end.

    pynetdicom's own limits do not cover a peer that stops in the middle of a PDU or no longer reads, and it
    leaves the socket open where the peer hung up first.
    """
    transport = event.assoc.dul.socket
    if transport is None or transport.socket is None:
        return
    limit = pack("ll", int(timeout_s), int(timeout_s % 1 * 1_000_000))
    transport.socket.setsockopt(SOL_SOCKET, SO_SNDTIMEO, limit)
    transport.socket.setsockopt(SOL_SOCKET, SO_RCVTIMEO, limit)
    line.callback(transport.socket.close)


def _end(association: Association) -> None:
    if association.is_established:
        association.release()
    if not association.is_released:
        association.abort()


def _refusal(association: Association, destination: Destination) -> UnavailableError | UnusableError:
    rejection = association.acceptor.primitive
    if association.is_rejected and rejection is not None:
        text = f"{describe(destination)} rejected the association: {rejection.reason_str}."
        return UnusableError(text) if rejection.result == _REJECTED_PERMANENT else UnavailableError(text)
    if association.rejected_contexts and not association.accepted_contexts:
        names = ", ".join(sorted({UID(c.abstract_syntax or "").name for c in association.rejected_contexts}))
        return UnusableError(f"{describe(destination)} accepts none of: {names}.")
    return UnavailableError(f"{describe(destination)} cannot be reached, or gave no answer in time.")
