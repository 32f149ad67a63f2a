"""Hands commitment reports to associations that are still open, through their spool folders.

A request whose association is open is held for it: the result lies beside the receiver's files, and the row's
lease is renewed while the association is open. What the peer answered, or that it hung up, ends the hold.
"""

import json
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from daemon.clerk.files import writing_to
from daemon.clerk.spool import ANSWER, RESULT, read_association
from db import commitments
from db.models import CommitmentRequest, CommitmentState
from db.session import transaction
from db.work import REPORTS, Claim, Retry, fail, finish, give_back, renew
from lungnode.commitment import Commitment, Reference, is_success
from lungnode.durable import replaced
from lungnode.settings import DeliverySettings

_log = logging.getLogger(__name__)
LEASE: Final = timedelta(seconds=60)
PATIENCE: Final = timedelta(seconds=60)  # for the answer of a peer whose association stays open


def is_open(spool: Path, association_id: str, now: datetime) -> bool:
    """Whether an association of this host is open."""
    try:
        return read_association(spool / association_id, now).is_open
    except (FileNotFoundError, NotADirectoryError):
        return False


def as_held(association_id: str, now: datetime) -> dict[str, object]:
    """Return the columns of a request whose report is left to its association."""
    return {
        "state": CommitmentState.REPORTING,
        "attempts": 1,
        "lease_owner": commitments.ASSOCIATION + association_id,
        "lease_until": now + LEASE,
    }


class Rendezvous:
    """Where the clerk and the receiver meet."""

    def __init__(self, engine: Engine, spool: Path, host: str, limits: DeliverySettings) -> None:
        self._engine = engine
        self._spool = spool
        self._host = host
        self._retry = Retry(limits.max_attempts, limits.backoff_s, limits.backoff_max_s)

    def attend(self, now: datetime) -> bool:
        """Note the answers that came, keep what waits, let go of the rest; returns whether something waits.

        Raises:
            UnavailableError: The database or the spool is away.
        """
        with writing_to(self._spool):
            self._note(sorted(self._spool.glob(f"*/*{ANSWER}")), now)
        with transaction(self._engine) as session:
            held = commitments.held_for_associations(session, self._host)
        with writing_to(self._spool):
            return sum(self._keep(row, now) for row in held) > 0

    def _note(self, answers: Iterable[Path], now: datetime) -> None:
        for path in answers:
            status = _status(path)
            with transaction(self._engine) as session:
                row = commitments.request_from(session, f"{path.parent.name}/{path.stem}")
                if row is not None and status is not None:
                    values = {"finished_at": now, "state": CommitmentState.REPORTED, "reason": ""}
                    refused = {"reason": f"The peer answered 0x{status:04X} to the report."}
                    if is_success(status):
                        finish(session, _claim(row), values)
                    else:
                        fail(session, _claim(row), refused, self._retry, now)
            path.with_suffix(RESULT).unlink(missing_ok=True)
            path.unlink()

    def _keep(self, row: CommitmentRequest, now: datetime) -> bool:
        path = (self._spool / row.source).with_suffix(RESULT)
        waited = now - (row.verified_at or now)
        if waited < PATIENCE and is_open(self._spool, row.association_id, now):
            leave_result(path, row)
            with transaction(self._engine) as session:
                return renew(session, _claim(row), now, LEASE.total_seconds())
        # A report may come twice: whoever asked knows it by its Transaction UID.
        path.unlink(missing_ok=True)
        with transaction(self._engine) as session:
            give_back(session, _claim(row), now)
        return False


def leave_result(path: Path, row: CommitmentRequest) -> None:
    """Leave a verified request's result for the receiver, unless it lies there already.

    Raises:
        OSError: It cannot be written.
    """
    if path.exists():
        return
    references = tuple(map(Reference.from_record, row.instances))
    with replaced(path) as file:
        file.write(Commitment(row.transaction_uid, references).as_json())


def _status(path: Path) -> int | None:
    """Return what the peer answered; None when a power failure took it."""
    try:
        return int(json.loads(path.read_bytes())["status"], 16)
    except (ValueError, KeyError, TypeError):
        return None


def _claim(row: CommitmentRequest) -> Claim:
    return Claim(REPORTS, row.id, commitments.ASSOCIATION + row.association_id)
