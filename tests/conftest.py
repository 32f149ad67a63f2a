"""Shared fixtures: the real test data, and real databases."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from db.session import open_engine, upgrade
from lungnode.settings import Settings
from tests.command_line import CommandLine

if TYPE_CHECKING:
    from tests.couriers import MakeCourier
    from tests.spooling import ClerkNode

SHARED_DATA: Final = Path(__file__).resolve().parents[2] / "shared/data"
_PG_BINARIES: Final = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real studies and images; they are never part of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real test data is absent: {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="module")
def command_line() -> Iterator[CommandLine]:
    """One process for all commands of a module: TensorFlow is loaded once."""
    line = CommandLine()
    yield line
    line.close()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a private PostgreSQL server on a Unix socket; it opens no port."""
    if not _PG_BINARIES:
        pytest.skip("PostgreSQL is absent: apt install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="lungnode-pg-"))
    account = _unprivileged_account()
    if account:
        shutil.chown(folder, account)
    server = _PostgreSQL(_PG_BINARIES[-1], folder, account)
    try:
        server.start()
        yield f"postgresql://lungnode@/postgres?host={folder}"
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged_account() -> str | None:
    # PostgreSQL refuses to run as root.
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


class _PostgreSQL:
    """A private server in one folder."""

    def __init__(self, binaries: Path, folder: Path, account: str | None) -> None:
        self._binaries, self._folder, self._account = binaries, folder, account

    def start(self) -> None:
        self._run("initdb", "--no-sync", "--auth=trust", "--username=lungnode", "--encoding=UTF8")
        options = f"-c listen_addresses= -c unix_socket_directories={self._folder} -c fsync=off"
        self._run("pg_ctl", "--wait", f"--log={self._folder}/log", f"--options={options}", "start")

    def stop(self) -> None:
        if (self._folder / "data/postmaster.pid").exists():
            self._run("pg_ctl", "--wait", "--mode=immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), f"--pgdata={self._folder}/data", *arguments]
        subprocess.run(
            command, user=self._account, cwd=self._folder, check=True, stdout=subprocess.DEVNULL, timeout=60
        )


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database without tables, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'lungnode.sqlite3'}"
        return
    server: str = request.getfixturevalue("postgresql")
    name = f"test_{uuid4().hex}"
    execute(server, f"CREATE DATABASE {name} TEMPLATE template0")
    yield server.replace("/postgres?", f"/{name}?")
    execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def execute(server: str, statement: str) -> None:
    """Run a statement on a server, outside of any transaction."""
    engine = open_engine(server)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An empty database with all tables, on SQLite and on PostgreSQL."""
    engine = open_engine(database_url)
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def clerk_node(engine: Engine, tmp_path: Path) -> "ClerkNode":
    """A clerk with an empty data folder, on SQLite and on PostgreSQL."""
    from tests.spooling import ClerkNode  # noqa: PLC0415 - so that other tests need not load the clerk

    return ClerkNode(engine, Settings(data=tmp_path / "data"))


@pytest.fixture
def courier(tmp_path: Path) -> Iterator["MakeCourier"]:
    """Makes couriers on SQLite: delivery knows no dialect."""
    from tests.couriers import courier_maker  # noqa: PLC0415 - so that other tests need not load the courier

    engine = open_engine(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    upgrade(engine)
    yield courier_maker(engine, tmp_path)
    engine.dispose()


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the test's own."""
    shared_memory = Path("/dev/shm")  # noqa: S108 - a file system that Linux always has
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="lungnode-", dir=shared_memory))
    yield folder
    shutil.rmtree(folder)
