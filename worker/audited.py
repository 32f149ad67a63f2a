"""The courier's entries in the audit trail: one for each delivery that has ended."""

from collections import Counter
from urllib.parse import urlsplit

from pydicom.uid import Comprehensive3DSRStorage
from sqlalchemy.orm import Session

from db import audit
from db.models import Delivery
from lungnode.audit import codes, events
from lungnode.audit.message import Participant
from lungnode.settings import Hl7Destination, WebDestination
from worker.answers import Meaning
from worker.carriers.line import Addressed
from worker.hold import Node
from worker.parcel import Parcel


def note_delivery(
    session: Session, node: Node, row_id: int, parcel: Parcel, destination: Addressed | None
) -> None:
    """Note that a delivery has ended, and how much of it the peer stored.

    Args:
        session: The one that has just ended it.
        node: This worker's.
        row_id: The delivery.
        parcel: All of its instances, with what the peer said of each.
        destination: Where it went; None where the settings do not tell.
    """
    delivery = session.get_one(Delivery, row_id, populate_existing=True)
    # A message says what the report says.
    stored = Counter(
        item.sop_class_uid or str(Comprehensive3DSRStorage)
        for item in parcel.items
        if item.meaning is Meaning.STORED
    )
    audit.record_sent(session, delivery, _receiver(delivery, destination), stored, node.clock())


def _receiver(delivery: Delivery, destination: Addressed | None) -> Participant:
    if destination is None:
        return events.peer("", delivery.destination, codes.DESTINATION)
    if isinstance(destination, WebDestination):
        return events.peer("", urlsplit(destination.url).hostname or "", codes.DESTINATION)
    if isinstance(destination, Hl7Destination):
        return events.peer("", destination.host, codes.DESTINATION)
    return events.peer(destination.ae_title, destination.host, codes.DESTINATION)
