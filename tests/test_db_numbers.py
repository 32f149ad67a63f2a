from datetime import timedelta

from sqlalchemy import Engine

from db.models import Analysis, Delivery, Study
from db.numbers import ended_by_hour, last_contacts, read_numbers
from db.session import reading, transaction
from tests.spooling import NOON


def fill(engine: Engine) -> None:
    """Two analyses an hour apart, a third that waits; one delivery stored, one dead."""
    with transaction(engine) as session:
        study = Study(study_instance_uid="1.2.3", created_at=NOON, changed_at=NOON, state="complete")
        for revision, (state, minutes) in enumerate((("done", 10), ("done", 70), ("queued", None)), 1):
            at = NOON - timedelta(minutes=minutes) if minutes else None
            row = Analysis(revision=revision, state=state, due_at=NOON, created_at=NOON, finished_at=at)
            study.analyses.append(row)
        for group, state in (("sr", "stored"), ("sc", "dead")):
            told = {"destination": "PACS", "group": group, "state": state, "finished_at": NOON}
            study.analyses[0].deliveries.append(Delivery(**told, due_at=NOON, created_at=NOON))
        session.add(study)


def test_what_ended_is_counted_by_the_hour_and_what_is_settled_can_be_left_out(engine: Engine) -> None:
    fill(engine)

    with reading(engine) as session:
        numbers = read_numbers(session, NOON, only_open=True)
        assert ended_by_hour(session, NOON, 3) == [0, 1, 1]
        assert last_contacts(session, NOON - timedelta(days=1)) == {"PACS": NOON}
        assert last_contacts(session, NOON + timedelta(seconds=1)) == {}

    assert numbers.analyses == {"queued": 1}
    assert numbers.deliveries == {("PACS", "dead"): 1}
    assert numbers.studies == {}
