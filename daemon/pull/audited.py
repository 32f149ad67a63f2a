"""Questions to peers, for the audit trail."""

from collections.abc import Mapping
from datetime import datetime

from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.dsutils import encode
from sqlalchemy.orm import Session

from db import audit
from lungnode.audit import codes, events
from lungnode.audit.message import Participant
from lungnode.scu.find import FIND_MODELS, identifier_of
from lungnode.settings import Peer


def note_query(session: Session, by: Participant, peer: Peer, keys: Mapping[str, str], now: datetime) -> None:
    """Note that a peer was asked for the studies that match all `keys`; see `Query.studies`."""
    identifier = encode(identifier_of("STUDY", keys), is_implicit_vr=True, is_little_endian=True)
    query = audit.Query(
        sop_class_uid=FIND_MODELS[peer.query],
        identifier=identifier or b"",
        transfer_syntax_uid=ImplicitVRLittleEndian,
        attributes=tuple(keys),
    )
    responder = events.peer(peer.ae_title, peer.host, codes.DESTINATION)
    audit.record_query(session, by, responder, query, now)
