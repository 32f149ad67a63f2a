"""Events of the audit trail: written with the change, chained, and shown when somebody changed them."""

import ast
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import Engine, delete, select, text, update

from db import audit
from db.audit_chain import BEGINNING, chain, verify
from db.models import AuditBatch, AuditEvent, Study
from db.session import transaction
from lungnode.audit import events
from lungnode.audit.events import EVENTS, Happening
from lungnode.audit.message import Outcome, Source
from tests.databases import new_sqlite

NOON = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)
US = Source("LUNGNODE")
ROOT = Path(__file__).resolve().parents[1]


def note(engine: Engine, count: int, action: str = "model promoted") -> None:
    with transaction(engine) as session:
        for number in range(count):
            audit.record(session, action, f"subject {number}", NOON, number=number)


def chain_all(engine: Engine, most: int = 2) -> int:
    """Chain in batches of two; return how many there were."""
    batches = 0
    while True:
        with transaction(engine) as session:
            if chain(session, US, NOON + timedelta(seconds=batches), most) is None:
                return batches
        batches += 1


@pytest.fixture
def trail(engine: Engine) -> Engine:
    """Three batches of two events, numbered 1 to 6."""
    note(engine, 6)
    assert chain_all(engine) == 3
    return engine


@pytest.fixture
def sqlite_trail(tmp_path: Path) -> Iterator[Engine]:
    """The same on SQLite, which is ready at once."""
    engine = new_sqlite(f"sqlite:///{tmp_path / 'trail.sqlite3'}")
    note(engine, 6)
    chain_all(engine)
    yield engine
    engine.dispose()


def test_an_event_is_there_exactly_when_the_change_is(engine: Engine) -> None:
    def fail() -> None:
        with transaction(engine) as session:
            audit.record(session, "model promoted", "ab12", NOON)
            session.flush()
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    with transaction(engine) as session:
        assert not list(session.scalars(select(AuditEvent)))


def test_the_message_of_a_study_names_its_patient_and_the_row_does_not(engine: Engine) -> None:
    with transaction(engine) as session:
        told = {"patient_id": "4711", "patient_name": "Doe^Jane"}
        session.add(Study(study_instance_uid="1.2.3", created_at=NOON, changed_at=NOON, **told))
        audit.record(session, "study deleted", "1.2.3", NOON, labels=2)
    chain_all(engine)

    with transaction(engine) as session:
        event = session.scalars(select(AuditEvent)).one()
        assert 'ParticipantObjectID="4711"' in event.message
        assert "Doe^Jane" not in event.message  # audit.patients is "id"
        assert event.draft is None
        assert (event.action, event.subject, event.details) == ("study deleted", "1.2.3", {"labels": 2})
        # The draft is gone from the database, too.
        raw = session.execute(text("SELECT draft, details FROM audit_events")).one()
        assert "Doe" not in str(raw)


def test_a_failure_says_so_in_row_and_message(engine: Engine) -> None:
    who = events.person("mallory\0\udcff", "10.0.0.66")
    happened = Happening("sign-in failed", "mallory\0", NOON, who, Outcome.MINOR_FAILURE, "Wrong password.")
    with transaction(engine) as session:
        audit.note(session, happened, tries=3)
    chain_all(engine)

    with transaction(engine) as session:
        event = session.scalars(select(AuditEvent)).one()
        assert (event.outcome, event.actor, event.details) == (4, "mallory��", {"tries": 3})
        assert "<EventOutcomeDescription>Wrong password.</EventOutcomeDescription>" in event.message


def test_a_whole_trail_is_found_whole_and_knows_its_heads(trail: Engine) -> None:
    with transaction(trail) as session:
        heads = list(session.scalars(select(AuditBatch.head).order_by(AuditBatch.id)))

    verdict = verify(trail)

    assert (verdict.problems, verdict.batches, verdict.events, verdict.unchained) == ([], 3, 6, 0)
    assert verdict.head == heads[-1]
    assert all(verify(trail, head).is_head_known for head in (*heads, BEGINNING))


def test_the_first_batch_follows_the_beginning_and_each_the_one_before(sqlite_trail: Engine) -> None:
    with transaction(sqlite_trail) as session:
        batches = list(session.scalars(select(AuditBatch).order_by(AuditBatch.id)))

        assert [batch.previous for batch in batches] == [BEGINNING, batches[0].head, batches[1].head]


def change(**values: object) -> Callable[[int], object]:
    return lambda row_id: update(AuditEvent).where(AuditEvent.id == row_id).values(**values)


@pytest.mark.parametrize(
    ("tamper", "problem"),
    [
        (change(actor="nobody")(3), "Event 3 of batch 2 was changed."),
        (change(action="model viewed")(3), "Event 3 of batch 2 was changed."),
        (change(subject="another")(3), "Event 3 of batch 2 was changed."),
        (change(outcome=4)(3), "Event 3 of batch 2 was changed."),
        (change(details={"number": 9})(3), "Event 3 of batch 2 was changed."),
        (change(message="<AuditMessage/>")(3), "Event 3 of batch 2 was changed."),
        (change(at=NOON + timedelta(seconds=1))(3), "Event 3 of batch 2 was changed."),
        (delete(AuditEvent).where(AuditEvent.id == 3), "Event 3 of batch 2 was removed."),
        (change(batch_id=3)(3), "Event 3 was put into batch 3."),
        (update(AuditBatch).where(AuditBatch.id == 2).values(events=[]), "Batch 2 was changed."),
        (
            update(AuditBatch).where(AuditBatch.id == 2).values(head="f" * 64),
            "Batch 3 does not follow the one before it: a batch was removed or changed.",
        ),
        (
            update(AuditBatch).where(AuditBatch.id == 2).values(created_at=NOON),
            "Batch 2 was changed.",
        ),
    ],
)
def test_what_was_changed_removed_or_put_in_is_named(
    sqlite_trail: Engine, tamper: object, problem: str
) -> None:
    with transaction(sqlite_trail) as session:
        session.execute(tamper)  # type: ignore[call-overload]

    assert problem in verify(sqlite_trail).problems


def test_a_batch_that_was_removed_with_its_events_is_missed(sqlite_trail: Engine) -> None:
    with transaction(sqlite_trail) as session:
        session.execute(delete(AuditEvent).where(AuditEvent.batch_id == 2))
        session.execute(delete(AuditBatch).where(AuditBatch.id == 2))

    assert verify(sqlite_trail).problems == [
        "Batch 3 does not follow the one before it: a batch was removed or changed."
    ]


def test_a_trail_that_was_cut_or_written_anew_lacks_the_head_that_was_noted(trail: Engine) -> None:
    noted = verify(trail).head
    with transaction(trail) as session:
        session.execute(delete(AuditEvent).where(AuditEvent.id == 3))
        session.execute(update(AuditEvent).values(batch_id=None))
        session.execute(delete(AuditBatch))
    chain_all(trail)

    assert verify(trail).problems == []  # who rewrites all of it is seen only from outside
    assert verify(trail, noted).problems == [
        f"No batch has the head {noted}: the trail was cut or written anew."
    ]


def test_clerks_that_chain_at_once_make_one_chain(engine: Engine) -> None:
    note(engine, 40)
    barrier = Barrier(4)

    def work(_: int) -> int:
        barrier.wait()
        return chain_all(engine, most=3)

    with ThreadPoolExecutor(4) as pool:
        batches = sum(pool.map(work, range(4)))

    verdict = verify(engine)
    assert (verdict.problems, verdict.events, verdict.batches) == ([], 40, batches)


def recorded_actions() -> Iterator[tuple[str, str]]:
    """Every action that the programs name, and where."""
    for folder in ("daemon", "db", "lungnode", "trainer", "worker"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                named = _action_of(node)
                if named:
                    yield named, str(file.relative_to(ROOT))


def _action_of(node: ast.AST) -> str:
    """The action in `record(session, "…", …)`, the web's `note` or `Happening("…", …)`."""
    if not isinstance(node, ast.Call):
        return ""
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    position = {"record": 1, "_note": 1, "note": 2, "Happening": 0}.get(name)
    if position is None or len(node.args) <= position:
        return ""
    value = node.args[position]
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def test_every_action_that_is_recorded_is_explained_to_the_operator() -> None:
    page = (ROOT / "docs/audit.md").read_text()
    actions = {action for action, _ in recorded_actions()} | EVENTS.keys()

    missing = [action for action in sorted(actions) if not re.search(rf"^\| `{action}` \|", page, re.M)]

    assert len(actions) > 20
    assert not missing
