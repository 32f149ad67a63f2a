"""What one worker process works with, and how it keeps hold of the row it works on."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event, Thread

from sqlalchemy import Engine

from db.session import transaction
from db.work import Claim, renew
from lungnode.errors import UnavailableError
from lungnode.settings import Settings
from lungnode.store import Stores

_LOG = logging.getLogger(__name__)
_RENEWALS = 3  # in one lease: two may fail before the row is taken back


class Stopped(Exception):  # noqa: N818 - it is no error: the process was asked to stop, or lost the row
    """The work was left off between two steps; nothing of it is kept."""


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Node(Stores):
    """One worker process."""

    engine: Engine
    settings: Settings
    stopping: Callable[[], bool]  # True once the process was asked to stop
    clock: Callable[[], datetime] = utc_now
    give_way: Callable[[], None] = nothing  # called between batches: returns when nobody more urgent waits


@contextmanager
def kept(node: Node, held: Claim, lease_s: float) -> Iterator[Event]:
    """Renew the lease while the block runs; the event is set when the row was lost."""
    done, lost = Event(), Event()

    def keep() -> None:
        while not done.wait(lease_s / _RENEWALS):
            try:
                with transaction(node.engine) as session:
                    mine = renew(session, held, node.clock(), lease_s)
            except UnavailableError as error:
                _LOG.warning("lease of %s not renewed: %s", held.row_id, error)
                continue
            if not mine:
                lost.set()
                return

    thread = Thread(target=keep, name=f"lease-{held.row_id}", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        done.set()
        thread.join()
