"""Takes what storage commitment left in the spool into the database: requests of peers, and their reports.

Order: commit the rows, unlink from the spool. A file that is met again after a crash changes nothing.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from pydicom.filereader import read_file_meta_info
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from daemon.clerk.files import writing_to
from daemon.clerk.index import UNREADABLE
from daemon.clerk.plan import Received
from daemon.clerk.quarantine import Rejected, set_aside
from daemon.clerk.spool import REQUEST, Association
from db import commitments, confirmations, intake
from db.commitments import Asked
from db.session import transaction
from db.work import Retry
from lungnode.commitment import Commitment, decode_report, decode_request
from lungnode.durable import sync_folder
from lungnode.errors import UnusableError
from lungnode.rules import Facts
from lungnode.settings import DeliverySettings, Settings
from lungnode.untrusted import untrusted

_log = logging.getLogger(__name__)
# Preamble, prefix and the element that says how long the File Meta group is.
_META_START: Final = 144


def take_messages(
    engine: Engine, settings: Settings, associations: Sequence[Association], now: datetime
) -> bool:
    """Take the messages of these associations; tells whether there was a request among them.

    Raises:
        UnavailableError: The database is away; nothing is lost.
    """
    waiting = [Received(path, each) for each in associations for path in each.messages()]
    requests, reports, rejected = [], [], []
    for received in waiting:
        try:
            if received.path.suffix == REQUEST:
                requests.append(_asked(received))
            else:
                reports.append(_decode(received.path, decode_report))
        except UnusableError as error:
            rejected.append(Rejected(received, str(error)))
    if requests or reports:
        with transaction(engine) as session:
            intake.serialise(session)
            for asked in requests:
                commitments.add_request(session, asked, now)
            _apply(session, reports, settings.delivery, now)
    _set_aside(engine, settings, rejected, now)
    for received in waiting:
        received.path.unlink(missing_ok=True)
    return bool(requests)


def _asked(received: Received) -> Asked:
    path, facts = received.path, received.association.facts if received.association else Facts()
    association_id = received.association.id if received.association else ""
    return Asked(
        source=f"{association_id}/{path.stem}",
        association_id=association_id,
        calling_ae_title=facts.calling_ae_title,
        called_ae_title=facts.called_ae_title,
        address=facts.address,
        commitment=_decode(path, decode_request),
    )


def _apply(session: Session, reports: Iterable[Commitment], limits: DeliverySettings, now: datetime) -> None:
    retry = Retry(limits.max_attempts, limits.backoff_s, limits.backoff_max_s)
    for report in reports:
        state = confirmations.apply_report(session, report, retry, now)
        level = logging.INFO if state else logging.WARNING
        _log.log(
            level,
            "commitment of transaction %s reported: %s",
            report.transaction_uid,
            state or "it is not ours, or answered already",
        )


def _decode(path: Path, decode: Callable[[bytes, str], Commitment]) -> Commitment:
    content = _content(path)
    with untrusted("Its File Meta group cannot be read"):
        transfer_syntax_uid = str(read_file_meta_info(path).TransferSyntaxUID)
    start = _META_START + int.from_bytes(content[_META_START - 4 : _META_START], "little")
    return decode(content[start:], transfer_syntax_uid)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise
        raise UnusableError(f"The file cannot be read: {error.strerror}.") from error


def _set_aside(engine: Engine, settings: Settings, rejected: Sequence[Rejected], now: datetime) -> None:
    if not rejected:
        return
    with writing_to(settings.quarantine):
        rows = [set_aside(each, settings.quarantine, now) for each in rejected]
        sync_folder(settings.quarantine)
    with transaction(engine) as session:
        intake.serialise(session)
        intake.add_quarantined(session, rows)
    for each in rejected:
        _log.error("a message of storage commitment cannot be used: %s", each.reason)
