"""Keeps the audit trail: takes the receiver's alerts, chains and forwards what was recorded."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Engine

from daemon.clerk.alerts import AlertReader
from daemon.clerk.forwarding import Forwarder
from db.audit_chain import MOST, chain
from db.session import transaction
from lungnode.audit.message import Source
from lungnode.settings import Settings


class Auditor:
    """Chains the events of all programs; several clerks may do so."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._forwarder = Forwarder(engine, settings)
        self._alerts = AlertReader(engine, settings.alerts)
        told = settings.audit
        self._source = Source(told.source or settings.receiver.ae_title, told.site, told.patients)

    def take_alerts(self) -> None:
        """Take what the receiver of this host left for the audit trail.

        Raises:
            UnavailableError: The database is away.
        """
        self._alerts.round()

    def round(self, clock: Callable[[], datetime], stopping: Callable[[], bool] = lambda: False) -> None:
        """Chain everything that waits, a batch a transaction, and send it.

        Raises:
            UnavailableError: The database is away.
        """
        is_more = True
        while is_more:
            with transaction(self._engine) as session:
                batch = chain(session, self._source, clock())
            is_more = batch is not None and len(batch.events) == MOST
        self._forwarder.round(clock, stopping)
