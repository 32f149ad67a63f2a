"""Engines and sessions: SQLite in WAL mode by default, PostgreSQL by URL."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from lungnode.errors import UnavailableError

LOCK_WAIT_S = 30.0  # a SQLite writer waits this long for another; every transaction here is far shorter


def open_engine(url: str) -> Engine:
    """Make an engine for `url`; nothing is connected yet."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": LOCK_WAIT_S})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_immediately)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see below
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediately(connection: Any) -> None:
    # A deferred transaction that reads first and writes later fails at once with "database is locked",
    # whatever the timeout; an immediate one waits its turn.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """Yield a session; commit when the block ends, roll back when it raises.

    Raises:
        UnavailableError: The database cannot be reached or stays locked.
    """
    try:
        with sessionmaker(engine, expire_on_commit=False).begin() as session:
            yield session
    except OperationalError as error:
        raise UnavailableError(
            f"The database {engine.url.render_as_string()} is unavailable: {error.orig}."
        ) from error
