from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine

from db import inquiries, work
from db.inquiries import HeldInstance, Question
from db.models import Disposition, Inquiry, InquiryKind, InquiryState, Instance, Study, StudyState
from db.session import transaction
from tests.spooling import NOON, STUDY

CT = "1.2.840.10008.5.1.4.1.1.2"
LATER = NOON + timedelta(seconds=5)


@pytest.fixture
def study(engine: Engine) -> int:
    """A study that is being received, with an image, a report, one of ours and a withdrawn image."""
    with transaction(engine) as session:
        row = Study(study_instance_uid=STUDY, created_at=NOON, changed_at=NOON)
        kinds = (
            (CT, Disposition.ARCHIVED),
            ("1.2.840.10008.5.1.4.1.1.88.22", Disposition.ARCHIVED),
            ("1.2.840.10008.5.1.4.1.1.88.34", Disposition.OWN_OUTPUT),
            (CT, Disposition.WITHDRAWN),
        )
        row.instances = [_instance(number, *kind) for number, kind in enumerate(kinds, 1)]
        session.add(row)
        session.flush()
        return row.id


def _instance(number: int, sop_class_uid: str, disposition: Disposition) -> Instance:
    return Instance(
        series_instance_uid=f"{STUDY}.1",
        sop_instance_uid=f"{STUDY}.1.{number}",
        sop_class_uid=sop_class_uid,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        disposition=disposition,
        path=f"{number}.dcm",
        size=1,
        digest=str(number),
        received_at=NOON,
    )


def ask(engine: Engine, study: int, newest: int = 4, due_at: datetime = NOON) -> None:
    with transaction(engine) as session:
        row = inquiries.current_inquiries(session).get((study, InquiryKind.COUNT))
        question = Question(InquiryKind.COUNT, "PACS", newest, due_at)
        inquiries.ask(session, session.get_one(Study, study), row, question, NOON)


def due(engine: Engine, now: datetime = NOON) -> list[int]:
    with transaction(engine) as session:
        return [row.id for row in inquiries.due_inquiries(session, now)]


def the_row(engine: Engine) -> Inquiry:
    with transaction(engine) as session:
        (row,) = session.query(Inquiry).all()
        return row


def claimed(engine: Engine) -> work.Claim:
    held = work.Claim(work.INQUIRIES, the_row(engine).id, work.new_owner())
    with transaction(engine) as session:
        assert work.claim(session, held, NOON, 60)
    return held


def test_what_we_have_is_told_without_our_results(engine: Engine, study: int) -> None:
    with transaction(engine) as session:
        held = inquiries.held_instances(session, study)
        assert inquiries.newest_instance(session, study) == 4

    assert held == [
        HeldInstance(f"{STUDY}.1", f"{STUDY}.1.1", is_ct=True),
        HeldInstance(f"{STUDY}.1", f"{STUDY}.1.2", is_ct=False),
        HeldInstance(f"{STUDY}.1", f"{STUDY}.1.4", is_ct=True, is_withdrawn=True),
    ]


def test_a_question_is_due_at_its_time_and_kept_once(engine: Engine, study: int) -> None:
    ask(engine, study, due_at=LATER)
    ask(engine, study, due_at=LATER)

    assert (due(engine), due(engine, LATER)) == ([], [the_row(engine).id])


def test_a_question_that_is_being_asked_is_left_alone(engine: Engine, study: int) -> None:
    ask(engine, study)
    claimed(engine)
    ask(engine, study, newest=9)

    row = the_row(engine)
    assert (row.state, row.newest, due(engine)) == (InquiryState.ASKING, 4, [])


def test_asking_again_forgets_the_answer_and_what_it_cost(engine: Engine, study: int) -> None:
    ask(engine, study)
    held = claimed(engine)
    with transaction(engine) as session:
        answer = {"state": InquiryState.ANSWERED, "present": 1, "expected": 2, "finished_at": NOON}
        assert work.finish(session, held, answer)
    ask(engine, study, newest=9)

    row = the_row(engine)
    assert (row.state, row.newest, row.attempts) == (InquiryState.PENDING, 9, 0)
    assert (row.present, row.expected, row.finished_at) == (None, None, None)


def test_a_complete_study_is_not_asked_about_any_more(engine: Engine, study: int) -> None:
    ask(engine, study)
    with transaction(engine) as session:
        row = session.get_one(Study, study)
        row.state, row.revision = StudyState.COMPLETE, 1
        assert inquiries.due_inquiries(session, NOON) == []
        assert inquiries.current_inquiries(session) == {}

        inquiries.close(session, row, NOON)

    assert the_row(engine).state == InquiryState.UNANSWERED
    with transaction(engine) as session:
        assert len(inquiries.list_inquiries(session, session.get_one(Study, study))) == 1
