"""The checks of the audit trail's way to the syslog server."""

from collections.abc import Iterator

from sqlalchemy import func, select

from daemon.clerk.syslog import probe
from db.models import AuditBatch, ForwardState
from db.session import open_engine, transaction
from lungnode.cli._check import Check, Status
from lungnode.errors import UnavailableError
from lungnode.settings import Settings

_NAME = "syslog"
_MEND = "Look at audit.syslog; until then audit messages wait in the database, and nothing is lost."


def check_syslog(settings: Settings) -> Iterator[Check]:
    """Connect to the server, and count what waits for it; nothing where none is set."""
    server = settings.audit.syslog
    if not server.host:
        return
    try:
        probe(server)
    except UnavailableError as error:
        yield Check(_NAME, Status.WRONG, str(error), _MEND)
        return
    waiting = _waiting(settings)
    told = f" {waiting} batches of audit messages wait for it." if waiting else ""
    yield Check(_NAME, Status.OK, f"{server.host}:{server.port} by {server.transport} is there.{told}")


def _waiting(settings: Settings) -> int:
    """Count what is not sent; a database that is away is another check's."""
    engine = open_engine(settings.database, lock_wait_s=2.0)
    try:
        with transaction(engine) as session:
            unsent = select(func.count()).where(AuditBatch.state != ForwardState.SENT)
            return session.scalar(unsent) or 0
    except UnavailableError:
        return 0
    finally:
        engine.dispose()
