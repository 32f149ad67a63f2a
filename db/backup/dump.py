"""The database out of a running node and back: SQLite by its backup interface, PostgreSQL by its tools."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, create_engine, inspect, text
from sqlalchemy.orm import Session

from db.session import translated
from lungnode.errors import UnavailableError, UnusableError

SQLITE: Final = "sqlite"
_NAMES: Final = {SQLITE: "database.sqlite3", "postgresql": "database.dump"}


def dump_name(engine: Engine) -> str:
    """Return the file's name in a backup."""
    return _NAMES[engine.dialect.name]


def check_tools(engine: Engine) -> None:
    """See that what dumps and restores this database is installed.

    Raises:
        UnusableError: It is not.
    """
    if engine.dialect.name == SQLITE:
        return
    for tool in ("pg_dump", "pg_restore"):
        if shutil.which(tool) is None:
            raise UnusableError(
                f"{tool} is not installed: PostgreSQL is backed up and restored by its own client, of the "
                "server's version or newer (Debian: postgresql-client)."
            )


@contextmanager
def dumped(engine: Engine, folder: Path) -> Iterator[Session]:
    """Write the dump while others write to the database, and yield a session that sees exactly what it holds.

    Raises:
        UnavailableError: The database is away, or its tool failed.
    """
    file = folder / dump_name(engine)
    if engine.dialect.name == SQLITE:
        _dump_sqlite(Path(str(engine.url.database)), file)
        copy = create_engine(f"sqlite:///{file}")
        with Session(copy) as session:
            yield session
        copy.dispose()
        return
    with translated(engine), engine.connect() as connection:
        frozen = connection.execution_options(isolation_level="REPEATABLE READ")
        snapshot = str(frozen.scalar(text("SELECT pg_export_snapshot()")))
        _run(engine, "pg_dump", "--format=custom", f"--snapshot={snapshot}", f"--file={file}")
        with Session(frozen) as session:
            yield session


def _dump_sqlite(source: Path, target: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as database,
            closing(sqlite3.connect(target)) as copy,
        ):
            # All pages at once: in steps it would begin again with each commit of the node.
            database.backup(copy)
            # Then it is one file, and can be read where nobody may write.
            copy.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise UnavailableError(f"The database {source} cannot be copied: {error}.") from error


def verify_dump(file: Path) -> str:
    """Say what is wrong with a dump; nothing when it can be restored."""
    if file.name == _NAMES[SQLITE]:
        try:
            with closing(
                sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
            ) as database:
                found = str(database.execute("PRAGMA integrity_check(1)").fetchone()[0])
        except sqlite3.Error as error:
            return f"{error}"
        return "" if found == "ok" else found
    listed = subprocess.run(  # noqa: S603 - PostgreSQL's own tool
        ["pg_restore", "--list", file],  # noqa: S607 - from the PATH, as check_tools found it
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return _first_line(listed.stderr) if listed.returncode else ""


def is_empty(engine: Engine) -> bool:
    """Tell whether the database has no tables."""
    if engine.dialect.name == SQLITE and not Path(str(engine.url.database)).exists():
        return True
    with translated(engine):
        return not inspect(engine).get_table_names()


def restore_dump(engine: Engine, folder: Path) -> None:
    """Fill the database, which has no tables, from the dump of a backup.

    Raises:
        UnavailableError: The database is away, or its tool failed.
    """
    file = folder / dump_name(engine)
    if engine.dialect.name != SQLITE:
        # Functions outlive the tables that used them.
        options = ("--single-transaction", "--exit-on-error", "--clean", "--if-exists")
        _run(engine, "pg_restore", *options, str(file))
        return
    target = Path(str(engine.url.database))
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    shutil.copyfile(file, part)
    with part.open("rb") as copied:
        os.fsync(copied.fileno())
    part.rename(target)


def drop_tables(engine: Engine) -> None:
    """Remove all tables of the database, and what depends on them."""
    cascade = "" if engine.dialect.name == SQLITE else " CASCADE"
    with translated(engine), engine.begin() as connection:
        quote = engine.dialect.identifier_preparer.quote
        for name in inspect(connection).get_table_names():
            connection.execute(text(f"DROP TABLE IF EXISTS {quote(name)}{cascade}"))


def _run(engine: Engine, tool: str, *arguments: str) -> None:
    """Run a tool of PostgreSQL on the database; a password goes by its environment, where `ps` shows none."""
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415 - only with PostgreSQL

    _, values = engine.dialect.create_connect_args(engine.url)
    secret = {"PGPASSWORD": str(values["password"])} if values.get("password") else {}
    shown = {name: value for name, value in values.items() if name not in {"password", "context"}}
    command = [tool, "--no-owner", "--no-privileges", f"--dbname={make_conninfo(**shown)}", *arguments]
    done = subprocess.run(  # noqa: S603 - PostgreSQL's own tool
        command,
        env=os.environ | secret,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UnavailableError(f"{tool} failed: {_first_line(done.stderr)}")


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "no detail")
