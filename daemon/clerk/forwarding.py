"""Sends batches of the audit trail to the syslog server, in their order; what fails waits in its row."""

import logging
import os
import socket
from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import uuid4

from sqlalchemy import Engine, select

from daemon.clerk.syslog import AUDIT, CHAIN, encode, send
from db.models import AuditBatch, AuditEvent, ForwardState
from db.session import transaction
from db.work import FORWARDS, Claim, Retry, claim, fail, finish, take_back
from lungnode.errors import UnavailableError
from lungnode.settings import Settings

_FOR_EVER: Final = 1 << 30  # attempts
_LEASE_S: Final = 60.0  # beyond the time limit of an attempt
_log = logging.getLogger(__name__)


class Forwarder:
    """Sends what other clerks do not, one batch after the other."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._server = settings.audit.syslog
        self._retry = Retry(_FOR_EVER, settings.clerk.sweep_s, self._server.retry_max_s)
        self._is_away = False

    def round(self, clock: Callable[[], datetime], stopping: Callable[[], bool]) -> None:
        """Send what is due until nothing is, or the server does not take it.

        Raises:
            UnavailableError: The database is away.
        """
        while self._server.host and not stopping() and self._send_oldest(clock):
            pass

    def _send_oldest(self, clock: Callable[[], datetime]) -> bool:
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        with transaction(self._engine) as session:
            take_back(session, FORWARDS, clock(), _FOR_EVER)
            unsent = select(AuditBatch).where(AuditBatch.state != ForwardState.SENT)
            batch = session.scalar(unsent.order_by(AuditBatch.id).limit(1))
            if batch is None:
                return False
            held = Claim(FORWARDS, batch.id, owner)
            if not claim(session, held, clock(), self._server.timeout_s + _LEASE_S):
                return False  # another clerk sends it, or it waits after a failure
            rows = session.scalars(
                select(AuditEvent).where(AuditEvent.batch_id == batch.id).order_by(AuditEvent.id)
            )
            messages = [_message_of(row) for row in rows]
        return self._send(held, [*messages, _head_of(batch)], clock)

    def _send(self, held: Claim, messages: list[bytes], clock: Callable[[], datetime]) -> bool:
        reason = ""
        try:
            send(self._server, messages)
        except UnavailableError as error:
            reason = str(error)
        with transaction(self._engine) as session:
            now = clock()
            if reason:
                fail(session, held, {"reason": reason}, self._retry, now)
            else:
                finish(session, held, {"state": ForwardState.SENT, "finished_at": now, "reason": ""})
        self._tell(reason)
        return not reason

    def _tell(self, reason: str) -> None:
        if reason and not self._is_away:
            _log.error("audit messages wait in the database: %s", reason)
        elif self._is_away and not reason:
            _log.info("the syslog server takes audit messages again")
        self._is_away = bool(reason)


def _message_of(row: AuditEvent) -> bytes:
    return encode(AUDIT, row.at, row.message, is_failure=bool(row.outcome))


def _head_of(batch: AuditBatch) -> bytes:
    said = f"batch={batch.id} events={len(batch.events)} head={batch.head} previous={batch.previous}"
    return encode(CHAIN, batch.created_at, said)
