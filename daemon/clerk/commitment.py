"""Takes what storage commitment left in the spool into the database: requests that peers made of us.

Order: commit the rows, unlink from the spool. A file that is met again after a crash changes nothing.
"""

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from pydicom.filereader import read_file_meta_info
from sqlalchemy import Engine

from daemon.clerk.files import writing_to
from daemon.clerk.plan import Received
from daemon.clerk.quarantine import Rejected, set_aside
from daemon.clerk.spool import REQUEST, Association
from db import commitments, intake
from db.commitments import Asked
from db.session import transaction
from lungnode.commitment import Commitment, decode_request
from lungnode.durable import sync_folder
from lungnode.errors import UnusableError
from lungnode.settings import Settings

_log = logging.getLogger(__name__)
# Preamble, prefix and the element that says how long the File Meta group is.
_META_START: Final = 144


def take_messages(
    engine: Engine, settings: Settings, associations: Sequence[Association], now: datetime
) -> int:
    """Take the messages of these associations; returns how many requests there were.

    Raises:
        UnavailableError: The database is away; nothing is lost.
    """
    waiting = [Received(path, each) for each in associations for path in each.messages()]
    taken, rejected = [], []
    for received in waiting:
        try:
            taken.append(_read(received))
        except UnusableError as error:
            rejected.append(Rejected(received, str(error)))
    if taken:
        with transaction(engine) as session:
            intake.serialise(session)
            for asked in taken:
                commitments.add_request(session, asked, now)
    _set_aside(engine, settings, rejected, now)
    for received in waiting:
        received.path.unlink(missing_ok=True)
    return len(taken)


def _read(received: Received) -> Asked:
    path, association = received.path, received.association
    if association is None or path.suffix != REQUEST:
        raise UnusableError("No delivery of ours asked for this report.")
    commitment = _decode(path)
    return Asked(
        source=f"{association.id}/{path.stem}",
        association_id=association.id,
        calling_ae_title=association.facts.calling_ae_title,
        called_ae_title=association.facts.called_ae_title,
        address=association.facts.address,
        commitment=commitment,
    )


def _decode(path: Path) -> Commitment:
    content = path.read_bytes()
    start = _META_START + int.from_bytes(content[_META_START - 4 : _META_START], "little")
    return decode_request(content[start:], str(read_file_meta_info(path).TransferSyntaxUID))


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
