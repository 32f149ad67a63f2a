"""Keeps the audit trail: takes the receiver's alerts, encodes and chains what was recorded."""

from datetime import datetime

from sqlalchemy import Engine

from daemon.clerk.alerts import AlertReader
from db.audit_chain import MOST, chain
from db.session import transaction
from lungnode.audit.message import Source
from lungnode.settings import Settings


class Auditor:
    """Chains the events of all programs; several clerks may do so."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._alerts = AlertReader(engine, settings.alerts)
        told = settings.audit
        self._source = Source(told.source or settings.receiver.ae_title, told.site, told.patients)

    def round(self, now: datetime) -> None:
        """Take alerts, then chain everything that waits, a batch a transaction.

        Raises:
            UnavailableError: The database is away.
        """
        self._alerts.round()
        is_more = True
        while is_more:
            with transaction(self._engine) as session:
                batch = chain(session, self._source, now)
            is_more = batch is not None and len(batch.events) == MOST
