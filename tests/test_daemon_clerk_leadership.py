from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
from sqlalchemy import Engine

from daemon.clerk.leadership import DUTY, LEASE_S, Leading
from daemon.clerk.main import run
from db.models import Analysis, AnalysisState, Leadership, Study
from db.session import open_engine, transaction
from lungnode.errors import UnavailableError
from lungnode.settings import ClerkSettings, Settings
from tests.nodes import wait_for

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


class Clerks:
    """Two clerks over one database, and a clock."""

    def __init__(self, engine: Engine) -> None:
        self.now = NOON
        self.one, self.two = (Leading(engine, 1.0, lambda: self.now) for _ in range(2))

    def leaders(self) -> list[bool]:
        """Who leads, when each asks."""
        return [self.one(), self.two()]


@pytest.fixture
def clerks(engine: Engine) -> Clerks:
    return Clerks(engine)


def test_the_first_clerk_leads_as_long_as_it_lives(clerks: Clerks) -> None:
    assert clerks.leaders() == [True, False]

    for _ in range(3):
        clerks.now += timedelta(seconds=LEASE_S * 0.9)
        assert clerks.leaders() == [True, False]


def test_when_the_leader_falls_silent_the_next_clerk_leads_and_stays_it(clerks: Clerks) -> None:
    assert clerks.one()
    clerks.now += timedelta(seconds=LEASE_S - 1)
    assert not clerks.two()

    clerks.now += timedelta(seconds=2)

    assert clerks.two()
    assert clerks.leaders() == [False, True]


def test_a_leader_that_stops_is_not_waited_for(clerks: Clerks) -> None:
    assert clerks.one()

    clerks.one.resign()

    assert clerks.two()


def test_a_clerk_that_does_not_lead_takes_nothing_away_when_it_stops(clerks: Clerks) -> None:
    assert clerks.leaders() == [True, False]

    clerks.two.resign()

    assert not clerks.two()


def test_without_a_database_nobody_leads(tmp_path: Path) -> None:
    engine = open_engine(f"postgresql://lungnode@/lungnode?host={tmp_path}")

    with pytest.raises(UnavailableError):
        Leading(engine, 1.0, lambda: NOON)()


@contextmanager
def running(settings: Settings) -> Iterator[Event]:
    """Run a clerk until the block ends, or until the event is set."""
    stop = Event()
    thread = Thread(target=run, args=(settings, stop))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


def test_what_was_abandoned_is_taken_back_by_the_next_to_lead(engine: Engine, tmp_path: Path) -> None:
    url = engine.url.render_as_string(hide_password=False)
    fast = ClerkSettings(poll_s=0.01, sweep_s=0.05)
    settings = Settings(data=tmp_path / "data", database_url=url, clerk=fast)

    def leader() -> str:
        with transaction(engine) as session:
            row = session.get(Leadership, DUTY)
            return row.owner if row else ""

    with running(settings) as stop_first:
        first = wait_for(leader, what="the first clerk")
        with running(settings):
            stop_first.set()
            wait_for(lambda: leader() != first, what="the second clerk")
            with transaction(engine) as session:
                study = Study(
                    study_instance_uid="1.2", state="complete", revision=1, created_at=NOON, changed_at=NOON
                )
                gone = {"state": AnalysisState.RUNNING, "lease_owner": "gone", "lease_until": NOON}
                session.add(
                    Analysis(study=study, revision=1, attempts=1, created_at=NOON, due_at=NOON, **gone)
                )

            def is_back() -> bool:
                with transaction(engine) as session:
                    return session.query(Analysis).one().state == AnalysisState.QUEUED

            wait_for(is_back, what="the analysis")
