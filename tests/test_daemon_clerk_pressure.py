"""From rows that wait to associations that are turned away: database, clerk, spool, receiver."""

import os
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from daemon.clerk.pressure import Pressure
from daemon.receiver.backlog import Backlog
from db.analyses import queue_analysis
from db.models import Analysis, AnalysisState, Study
from db.session import transaction
from lungnode.congestion import FILE, FORGOTTEN_S, is_told, tell
from lungnode.settings import ReceiverSettings, Settings
from tests.databases import new_sqlite
from tests.dicom_wire import associate_request
from tests.receiving import an_instance, running_receiver
from tests.spooling import NOON

REJECTED = (3, bytes((0, 2, 3, 1)))  # A-ASSOCIATE-RJ: transient, presentation related, temporary congestion


def queue(engine: Engine, count: int) -> None:
    with transaction(engine) as session:
        for number in range(count):
            study = Study(study_instance_uid=f"1.2.{number}", created_at=NOON, changed_at=NOON, revision=1)
            session.add(study)
            session.flush()
            queue_analysis(session, study, 5, NOON)


def leave(engine: Engine, count: int) -> None:
    """Let all but so many be done."""
    with transaction(engine) as session:
        session.execute(update(Analysis).where(Analysis.id > count).values(state=AnalysisState.DONE))


def pressure(engine: Engine, data: Path, most: int | None) -> Pressure:
    return Pressure(engine, Settings(data=data, receiver=ReceiverSettings(max_waiting_studies=most)))


def test_senders_are_turned_away_while_too_many_studies_wait_and_who_is_sending_goes_on(
    tmp_path: Path,
) -> None:
    engine = new_sqlite(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    with running_receiver(tmp_path) as receiver, receiver.connect() as sender:
        sender.associate()
        clerk = pressure(engine, receiver.data, 2)
        queue(engine, 3)

        clerk.look()

        with receiver.connect() as another:
            another.send(associate_request())
            assert another.read_pdu() == REJECTED
        assert sender.store(an_instance(1)) == 0
        receiver.wait_for_log("too many studies wait: new associations are turned away for now")

        leave(engine, 1)
        clerk.look()

        with receiver.connect() as another:
            another.associate()
            assert another.store(an_instance(2)) == 0
    engine.dispose()


def test_more_is_taken_again_when_clearly_fewer_wait(engine: Engine, tmp_path: Path) -> None:
    clerk = pressure(engine, tmp_path, 10)
    told = []
    queue(engine, 11)

    for left in (11, 10, 9):
        leave(engine, left)
        clerk.look()
        told.append(is_told(tmp_path / "spool"))

    assert told == [True, True, False]


def test_as_many_as_may_wait_are_not_too_many(engine: Engine, tmp_path: Path) -> None:
    queue(engine, 10)

    pressure(engine, tmp_path, 10).look()

    assert not is_told(tmp_path / "spool")


def test_without_a_limit_what_a_clerk_before_said_is_taken_back(engine: Engine, tmp_path: Path) -> None:
    tell(tmp_path / "spool")

    pressure(engine, tmp_path, None).look()

    assert not is_told(tmp_path / "spool")


@pytest.mark.parametrize(("age_s", "is_congested"), [(FORGOTTEN_S / 2, True), (FORGOTTEN_S + 1, False)])
def test_what_a_clerk_said_that_died_is_forgotten(tmp_path: Path, age_s: float, is_congested: bool) -> None:
    tell(tmp_path)
    said = time.time() - age_s
    os.utime(tmp_path / FILE, (said, said))

    assert Backlog(tmp_path).is_congested() == is_congested
