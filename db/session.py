"""Engines, sessions and the schema: SQLite in WAL mode by default, PostgreSQL by URL."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.orm import Session

from db.derived import drop_derived, make_derived
from db.postgresql import open_postgresql
from lungnode.errors import SettingsError, UnavailableError, UnusableError

LOCK_WAIT_S: Final = 30.0  # for another writer of a SQLite file; every transaction here is far shorter
WAL_WAIT_S: Final = 5.0  # for another program to switch a new file to WAL, which takes milliseconds
_MIGRATIONS: Final = Path(__file__).parent / "migrations"
# Programs that start together upgrade one after the other; the number is arbitrary, the same in all of them.
_UPGRADE_LOCK: Final = 5_864_230_911
_ONLY_READS: Final = "lungnode_only_reads"


def open_engine(url: str, lock_wait_s: float = LOCK_WAIT_S) -> Engine:
    """Make an engine for `url`; nothing is connected yet.

    Its errors do not quote what a statement was about, for that may be a patient.

    Raises:
        SettingsError: It is no URL. Its words are kept out of the message: they may hold a password.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise SettingsError("The database_url is no SQLAlchemy URL.") from error
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite":
        return open_postgresql(parsed)
    engine = create_engine(parsed, connect_args={"timeout": lock_wait_s}, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_immediately)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see below
    _use_wal(connection)
    # Deleted rows are overwritten: a study may have to be forgotten.
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL; SQLite does not wait here when two programs switch a new file at once, so we do."""
    deadline = time.monotonic() + WAL_WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _begin_immediately(connection: Any) -> None:
    # A deferred transaction that reads first and writes later fails at once with "database is locked",
    # whatever the timeout; an immediate one waits its turn. One that only reads need not wait for writers.
    only_reads = connection.get_execution_options().get(_ONLY_READS, False)
    connection.exec_driver_sql("BEGIN DEFERRED" if only_reads else "BEGIN IMMEDIATE")


def upgrade(engine: Engine) -> None:
    """Bring the tables to the newest revision; safe when several programs start at once.

    Tables that a newer version has brought further stay as they are, if this one can work with them.

    Raises:
        UnavailableError: The database cannot be reached or stays locked.
        UnusableError: The tables are those of a newer version that this one cannot work with.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    if engine.dialect.name == "sqlite" and engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
    with translated(engine), engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
        config.attributes["connection"] = connection
        if _is_far_enough(connection):
            return
        readers = drop_derived(connection)
        command.upgrade(config, "head")
        make_derived(connection, readers)


def is_current(engine: Engine) -> bool:
    """Tell whether the tables are those that this version needs, or a newer version's that it can work with.

    Raises:
        UnavailableError: The database cannot be reached or stays locked.
    """
    with translated(engine), engine.begin() as connection, suppress(UnusableError):
        return _is_far_enough(connection)
    return False


def _is_far_enough(connection: Connection) -> bool:
    """Tell whether the tables have all that this version needs.

    Revisions of one generation, which is their number's first digit, only add, so that programs of the
    version before go on while others are upgraded.

    Raises:
        UnusableError: They are of a later generation.
    """
    found, newest = _revision(connection) or "", ScriptDirectory(str(_MIGRATIONS)).get_current_head() or ""
    if not found or is_known(found):
        return found == newest
    if found[:1] != newest[:1]:
        raise UnusableError(
            f"The tables of the database are at revision {found}, of a newer version of Lungnode; this one "
            f"knows those up to {newest}. Upgrade the programs on this host."
        )
    return True


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def revision_of(session: Session) -> str:
    """Return the revision of the tables; empty when there are none."""
    return _revision(session.connection()) or ""


def is_known(revision: str) -> bool:
    """Tell whether this version can bring tables of a revision to its own."""
    scripts = ScriptDirectory(str(_MIGRATIONS)).walk_revisions()
    return any(script.revision == revision for script in scripts)


def truncate_journal(engine: Engine) -> None:
    """Empty SQLite's journal, which holds rows as they were, if nobody reads from it just now."""
    if engine.dialect.name == "sqlite":
        connection = engine.raw_connection()
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """Yield a session; commit when the block ends, roll back when it raises.

    Raises:
        UnavailableError: The database cannot be reached or stays locked.
    """
    with translated(engine), Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """Yield a session that sees one state of the database and waits for no writer; it must not write.

    Raises:
        UnavailableError: The database cannot be reached.
    """
    options: dict[str, Any] = {_ONLY_READS: True}
    if engine.dialect.name == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    reader = engine.execution_options(**options)
    with translated(engine), Session(reader, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def translated(engine: Engine) -> Iterator[None]:
    """Translate what the database raises.

    Raises:
        UnavailableError: It cannot be reached or stays locked.
    """
    try:
        yield
    except OperationalError as error:
        raise UnavailableError(
            f"The database {engine.url.render_as_string()} is unavailable: {error.orig}."
        ) from error
