"""Shared fixtures: the real test data, and real databases."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from db.session import open_engine, upgrade
from lungnode.settings import Settings
from tests.command_line import CommandLine
from tests.disks import Disks
from tests.postgres import running_postgresql

if TYPE_CHECKING:
    from tests.couriers import MakeCourier
    from tests.spooling import ClerkNode

SHARED_DATA: Final = Path(__file__).resolve().parents[2] / "shared/data"


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
    with running_postgresql() as server:
        yield server.url


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


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with all tables and no rows, to be copied: making one takes half a second."""
    path = tmp_path_factory.mktemp("sqlite") / "empty.sqlite3"
    engine = open_engine(f"sqlite:///{path}")
    upgrade(engine)
    engine.dispose()
    return path


@pytest.fixture
def courier(tmp_path: Path, empty_sqlite: Path) -> Iterator["MakeCourier"]:
    """Makes couriers on SQLite: delivery knows no dialect."""
    from tests.couriers import courier_maker  # noqa: PLC0415 - so that other tests need not load the courier

    shutil.copy(empty_sqlite, tmp_path / "lungnode.sqlite3")
    engine = open_engine(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    yield courier_maker(engine, tmp_path)
    engine.dispose()


@pytest.fixture
def local_node(tmp_path: Path) -> Iterator["ClerkNode"]:
    """The same on SQLite alone, for what does not depend on the database."""
    from tests.spooling import ClerkNode  # noqa: PLC0415 - so that other tests need not load the clerk

    engine = open_engine(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    upgrade(engine)
    yield ClerkNode(engine, Settings(data=tmp_path / "data"))
    engine.dispose()


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Disks]:
    """Makes small file systems; without the right to, the test is skipped."""
    with ExitStack() as stack:
        yield Disks(tmp_path, stack)


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the test's own."""
    shared_memory = Path("/dev/shm")  # noqa: S108 - a file system that Linux always has
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="lungnode-", dir=shared_memory))
    yield folder
    shutil.rmtree(folder)
