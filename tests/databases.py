"""Databases with all tables and no rows: copies, since making one takes a second and thousands are wanted."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final
from uuid import uuid4

from sqlalchemy import Engine, make_url, text

from db.session import LOCK_WAIT_S, open_engine, upgrade

TEMPLATE: Final = "empty"  # the database of a PostgreSQL server that is copied


def new_sqlite(url: str, lock_wait_s: float = LOCK_WAIT_S) -> Engine:
    """Make the file of a URL, and its folder, and open it."""
    file = Path(str(make_url(url).database))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(_empty_sqlite())
    return open_engine(url, lock_wait_s)


@cache
def _empty_sqlite() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "empty.sqlite3"
        engine = open_engine(f"sqlite:///{file}")
        upgrade(engine)
        engine.dispose()  # the last to leave puts the journal into the file
        return file.read_bytes()


@contextmanager
def copied(server: str, template: str = TEMPLATE) -> Iterator[str]:
    """Make a database on a PostgreSQL server while the block runs; gives its URL."""
    name = f"test_{uuid4().hex}"
    execute(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.replace("/postgres?", f"/{name}?")
    execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def make_template(server: str) -> None:
    """Give a PostgreSQL server the database that is copied."""
    execute(server, f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
    engine = open_engine(server.replace("/postgres?", f"/{TEMPLATE}?"))
    upgrade(engine)
    engine.dispose()


def execute(server: str, statement: str) -> None:
    """Run a statement on a server, outside of any transaction."""
    engine = open_engine(server)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    engine.dispose()
