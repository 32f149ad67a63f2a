"""Shared fixtures: the real test data, and real databases."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from sqlalchemy import Engine

from db.session import open_engine
from lungnode.settings import Settings
from tests.command_line import CommandLine
from tests.databases import copied, make_template, new_sqlite
from tests.disks import Disks
from tests.postgres import running_postgresql
from tests.stores import ObjectServer, running_object_server

if TYPE_CHECKING:
    from tests.couriers import MakeCourier
    from tests.spooling import ClerkNode

# Where Debian's packages put servers; an ordinary user's PATH does not lead there.
os.environ["PATH"] += f"{os.pathsep}/usr/sbin"

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


@pytest.fixture(scope="session")
def object_server_process() -> Iterator[ObjectServer]:
    """An S3-compatible server on loopback."""
    with running_object_server() as server:
        yield server


@pytest.fixture
def object_server(object_server_process: ObjectServer) -> ObjectServer:
    """The same, without faults and with nothing counted."""
    object_server_process.mend()
    return object_server_process


@pytest.fixture(params=["sqlite", "postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    """Each kind of database in turn."""
    kind: str = request.param
    return kind


@pytest.fixture
def database_url(request: pytest.FixtureRequest, dialect: str, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database without tables, on SQLite and on PostgreSQL."""
    if dialect == "sqlite":
        yield f"sqlite:///{tmp_path / 'lungnode.sqlite3'}"
        return
    with copied(request.getfixturevalue("postgresql"), "template0") as url:
        yield url


@pytest.fixture(scope="session")
def template(postgresql: str) -> str:
    """The URL of a PostgreSQL server that has the database to be copied."""
    make_template(postgresql)
    return postgresql


@pytest.fixture
def engine(request: pytest.FixtureRequest, dialect: str, tmp_path: Path) -> Iterator[Engine]:
    """An empty database with all tables, on SQLite and on PostgreSQL."""
    if dialect == "sqlite":
        engine = new_sqlite(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
        yield engine
        engine.dispose()
        return
    with copied(request.getfixturevalue("template")) as url:
        engine = open_engine(url)
        yield engine
        engine.dispose()


@pytest.fixture
def clerk_node(engine: Engine, tmp_path: Path) -> "ClerkNode":
    """A clerk with an empty data folder, on SQLite and on PostgreSQL."""
    from tests.spooling import ClerkNode  # noqa: PLC0415 - so that other tests need not load the clerk

    return ClerkNode(engine, Settings(data=tmp_path / "data"))


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    """The same on SQLite alone, for what does not depend on the database."""
    engine = new_sqlite(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    yield engine
    engine.dispose()


@pytest.fixture
def courier(tmp_path: Path, sqlite: Engine) -> "MakeCourier":
    """Makes couriers on SQLite: delivery knows no dialect."""
    from tests.couriers import courier_maker  # noqa: PLC0415 - so that other tests need not load the courier

    return courier_maker(sqlite, tmp_path)


@pytest.fixture
def local_node(tmp_path: Path, sqlite: Engine) -> "ClerkNode":
    """A clerk on SQLite alone."""
    from tests.spooling import ClerkNode  # noqa: PLC0415 - so that other tests need not load the clerk

    return ClerkNode(sqlite, Settings(data=tmp_path / "data"))


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
