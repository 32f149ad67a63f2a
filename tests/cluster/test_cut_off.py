"""What one host that is cut off does to the others, and they to it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Event

import pytest
from sqlalchemy import Engine, text

from db.intake import serialise
from db.session import open_engine, transaction
from lungnode.errors import UnavailableError
from tests.cluster.hosts import Host, Network, network
from tests.cluster.node import IMPATIENT, skip_where_impossible
from tests.postgres import running_postgresql

URL = f"postgresql://lungnode@10.0.0.31/postgres?{IMPATIENT}"
PATIENCE_S = 60.0  # of a busy machine; without limits it would be hours


@pytest.fixture
def hosts() -> Iterator[Network]:
    skip_where_impossible()
    with network() as hosts, ExitStack() as stack:
        with hosts.add("database", "10.0.0.31").inside():
            stack.enter_context(running_postgresql("10.0.0.31", "10.0.0.0/24"))
        for name, address in (("one", "10.0.0.11"), ("two", "10.0.0.12")):
            hosts.add(name, address)
        yield hosts


@contextmanager
def at(host: Host) -> Iterator[Engine]:
    """A program of a host, connected to the database."""
    with host.inside():
        engine = open_engine(URL)
        yield engine
        engine.dispose()


def test_a_host_that_is_cut_off_does_not_keep_the_lock_of_the_clerks(hosts: Network) -> None:
    one, two = hosts.hosts["one"], hosts.hosts["two"]
    is_held, is_free = Event(), Event()

    def hold() -> None:
        with at(one) as engine, transaction(engine) as session:
            serialise(session)
            is_held.set()
            is_free.wait(PATIENCE_S)
            session.execute(text("SELECT 1"))

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(hold)
        assert is_held.wait(PATIENCE_S)
        one.cut()
        with at(two) as engine, transaction(engine) as session:
            session.execute(text(f"SET LOCAL lock_timeout = '{PATIENCE_S:.0f}s'"))
            serialise(session)
        is_free.set()

        with pytest.raises(UnavailableError):
            holding.result(PATIENCE_S)


def test_a_program_whose_host_is_cut_off_is_told_that_the_database_is_away(hosts: Network) -> None:
    one = hosts.hosts["one"]
    with at(one) as engine:
        with transaction(engine) as session:
            session.execute(text("SELECT 1"))
        one.cut()

        with pytest.raises(UnavailableError), transaction(engine) as session:
            session.execute(text("SELECT 1"))

        one.mend()
        with transaction(engine) as session:
            session.execute(text("SELECT 1"))
