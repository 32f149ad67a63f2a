"""What a web process tidies up now and then: uploads whose time has come, sessions and jobs that ended."""

import logging
from datetime import datetime
from threading import Event
from typing import Final

from daemon.web.node import WebNode
from daemon.web.unpacking import remove
from db import accounts, jobs
from db.session import transaction
from db.uploads import ATTEMPTS, UPLOADS, expired_uploads
from db.work import take_back
from lungnode.errors import LungnodeError

_LOG = logging.getLogger(__name__)
EVERY_S: Final = 30.0


def sweep(node: WebNode, now: datetime) -> int:
    """Tidy up once; several web processes may do so at the same time. Returns how many uploads went.

    Raises:
        UnavailableError: The database is away.
    """
    with transaction(node.engine) as session:
        accounts.sweep_sessions(session, node.lifetime, now)
        jobs.end_silent(session, now)
        take_back(session, UPLOADS, now, ATTEMPTS)
        gone = expired_uploads(session, now)
        keys = [row.key for row in gone]
        for row in gone:
            session.delete(row)
    for key in keys:
        remove(node.settings.uploads / key)
    return len(keys)


def sweep_until(node: WebNode, stopping: Event) -> None:
    """Tidy up until the process stops."""
    while not stopping.wait(EVERY_S):
        try:
            count = sweep(node, node.clock())
        except LungnodeError as error:
            _LOG.warning("nothing was tidied up: %s", error)
            continue
        if count:
            _LOG.info("%d uploads were deleted", count)
