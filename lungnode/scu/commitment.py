"""Asks a peer for storage commitment (N-ACTION), and takes its report while the association is open.

Most peers report on an association of their own, to our receiver; a few on the one that asked.

Source: PS3.4 J.3.2 and J.3.3, Storage Commitment Push Model.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from time import monotonic
from typing import Any, Final

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import EventHandlerType

from lungnode.commitment import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    REQUEST_ACTION,
    Commitment,
    decode_report,
    is_success,
)
from lungnode.errors import UnavailableError, UnusableError
from lungnode.scu.association import associated, describe
from lungnode.settings import Peer

TRANSFER_SYNTAXES: Final[list[str | UID]] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_LOOK_S: Final = 0.25
# Source: PS3.7 Annex C. What asking again will not change.
_PERMANENT: Final = (0x0112, 0x0114, 0x0115, 0x0118, 0x0119, 0x0122, 0x0123, 0x0124, 0x0211, 0x0212)
_SUCCESS: Final = 0x0000
_PROCESSING_FAILURE: Final = 0x0110
_INVALID_ARGUMENT_VALUE: Final = 0x0115


class _Reports:
    """Takes the report that a peer sends by itself; pynetdicom calls in a thread of its own and answers."""

    def __init__(self, take: Callable[[Commitment], None]) -> None:
        self._take = take
        self._answer: int | None = None  # of a report; it has not left
        self.is_busy = False  # with a report whose answer has not left
        self.is_answered = Event()  # one was taken, and its peer knows

    @property
    def handlers(self) -> list[EventHandlerType]:
        """What an association needs."""
        return [(evt.EVT_N_EVENT_REPORT, self._on_report), (evt.EVT_PDU_SENT, self._on_sent)]

    def _on_report(self, event: evt.Event) -> tuple[int, None]:
        self.is_busy = True
        self._answer = self._answer_to(event)
        return self._answer, None

    def _answer_to(self, event: evt.Event) -> int:
        request: Any = event.request
        content = request.EventInformation.getvalue() if request.EventInformation else b""
        try:
            self._take(decode_report(content, str(event.context.transfer_syntax)))
        except UnusableError:
            return _INVALID_ARGUMENT_VALUE
        except UnavailableError:
            return _PROCESSING_FAILURE  # so that it reports again
        return _SUCCESS

    def _on_sent(self, _event: evt.Event) -> None:
        if self._answer is None:
            return
        if self._answer == _SUCCESS:
            self.is_answered.set()
        self._answer, self.is_busy = None, False


class CommitmentScp:
    """An open association with a peer that offers storage commitment."""

    def __init__(self, peer: Peer, association: Association, reports: _Reports) -> None:
        self._peer = peer
        self._association = association
        self._reports = reports

    def request(self, commitment: Commitment) -> None:
        """Ask for the commitment of instances; afterwards the peer owes us a report.

        Raises:
            UnavailableError: The peer did not take the request for now.
            UnusableError: It will not take it.
        """
        try:
            answer, _ = self._association.send_n_action(
                commitment.data_set(), REQUEST_ACTION, PUSH_MODEL, PUSH_MODEL_INSTANCE
            )
        except (RuntimeError, ValueError) as error:  # the association ended
            raise UnavailableError(f"{describe(self._peer)} ended the association.") from error
        status = answer.get("Status")
        if status is None:
            raise UnavailableError(f"{describe(self._peer)} gave no answer to a commitment request.")
        if not is_success(status):
            text = f"{describe(self._peer)} answered 0x{status:04X} to a commitment request."
            raise UnusableError(text) if status in _PERMANENT else UnavailableError(text)

    def linger(self, seconds: float, is_told: Callable[[], bool]) -> None:
        """Stay at most `seconds` for a report on this association, until `is_told` says that one came.

        An answer to one that came here leaves first: releasing before would cut the peer off.
        """
        deadline = monotonic() + seconds
        while self._association.is_established:
            is_over = monotonic() >= deadline or is_told()
            if is_over and not self._reports.is_busy:  # in this order: what came here was busy before it told
                return
            if self._reports.is_answered.wait(_LOOK_S):
                return


@contextmanager
def committing(
    peer: Peer, calling_ae_title: str, take: Callable[[Commitment], None]
) -> Iterator[CommitmentScp]:
    """Hold an association for a commitment request while the block runs; each step has the peer's limit.

    Args:
        peer: Whom to ask.
        calling_ae_title: Our AE title.
        take: Called in another thread with a report that comes on this association. What it raises is told to
            the peer as a failure.

    Raises:
        UnavailableError: No association for now.
        UnusableError: The peer offers no storage commitment to us.
    """
    reports = _Reports(take)
    contexts = [build_context(PUSH_MODEL, TRANSFER_SYNTAXES)]
    with associated(peer, calling_ae_title, contexts, handlers=reports.handlers) as association:
        yield CommitmentScp(peer, association, reports)
