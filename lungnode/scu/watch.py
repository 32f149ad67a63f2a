"""What pynetdicom does not tell of a peer: whether it was reached, aborted, or rejected and why."""

from pynetdicom import evt
from pynetdicom.events import EventHandlerType
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_RJ

from lungnode.scu.rejection import REJECTIONS, RejectionFields


class Watch:
    """Looks at what arrives over one association."""

    def __init__(self) -> None:
        """Have seen nothing yet."""
        self.connected = False
        self.aborted = False
        self.rejected: RejectionFields | None = None

    def handlers(self) -> list[EventHandlerType]:
        """Return what lets it see."""
        return [(evt.EVT_CONN_OPEN, self._connect), (evt.EVT_PDU_RECV, self._look)]

    def _connect(self, _event: evt.Event) -> None:
        self.connected = True

    def _look(self, event: evt.Event) -> None:
        if isinstance(event.pdu, A_ABORT_RQ):
            self.aborted = True
        elif isinstance(event.pdu, A_ASSOCIATE_RJ):
            self.rejected = _taken_from(event.pdu)


def _taken_from(pdu: A_ASSOCIATE_RJ) -> RejectionFields:
    """Return the fields, and leave such as do not kill pynetdicom's thread: it dies of reserved ones."""
    fields = RejectionFields(pdu.result or 0, pdu.source or 0, pdu.reason_diagnostic or 0)
    if fields.result not in (1, 2) or (fields.source, fields.reason) not in REJECTIONS:
        pdu.result = pdu.source = pdu.reason_diagnostic = 1
    return fields
