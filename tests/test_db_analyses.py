from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, select

from db.analyses import claim_analysis, queue_analysis
from db.models import Analysis, AnalysisState, Study
from db.session import transaction
from db.work import ANALYSES, due, take_back

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
Sent = Callable[..., str]


@pytest.fixture
def send(engine: Engine) -> Sent:
    """Queues the analysis of a study that a source sent; returns a name for it: A1, A2, B1."""
    counts: dict[str, int] = {}

    def send(source: str, priority: int = 5) -> str:
        counts[source] = counts.get(source, 0) + 1
        name = f"{source}{counts[source]}"
        with transaction(engine) as session:
            study = Study(
                study_instance_uid=name, calling_ae_title=source, created_at=NOON, changed_at=NOON, revision=1
            )
            session.add(study)
            session.flush()
            queue_analysis(session, study, priority, NOON)
        return name

    return send


def take(engine: Engine, count: int = 1, state: str = AnalysisState.DONE) -> list[str]:
    """Claim so many analyses and end them; return whose they were."""
    taken = []
    for _ in range(count):
        with transaction(engine) as session:
            held = claim_analysis(session, NOON, 60)
            assert held
            row = session.get_one(Analysis, held.row_id)
            assert (row.state, row.lease_owner, row.attempts) == (AnalysisState.RUNNING, held.owner, 1)
            row.state = state
            taken.append(row.study.study_instance_uid)
    return taken


def test_a_source_that_sends_very_much_does_not_hold_up_anothers_one(engine: Engine, send: Sent) -> None:
    for _ in range(20):
        send("A")
    assert take(engine, 3) == ["A1", "A2", "A3"]

    send("B")

    assert take(engine, 4) == ["A4", "B1", "A5", "A6"]


def test_sources_that_all_have_studies_waiting_take_turns(engine: Engine, send: Sent) -> None:
    for source in "AAAABBBC":
        send(source)

    assert take(engine, 8) == ["A1", "B1", "C1", "A2", "B2", "A3", "B3", "A4"]


def test_a_source_has_no_claim_to_turns_that_passed_while_it_sent_nothing(engine: Engine, send: Sent) -> None:
    for source in "AAAAAA":
        send(source)
    take(engine, 4)

    for source in "BBB":
        send(source)

    assert take(engine, 5) == ["A5", "B1", "A6", "B2", "B3"]


def test_turns_are_taken_within_a_priority(engine: Engine, send: Sent) -> None:
    for source, priority in (("A", 5), ("A", 1), ("A", 1), ("B", 5), ("C", 1)):
        send(source, priority)

    assert take(engine, 5) == ["A2", "C1", "A3", "A1", "B1"]


def test_a_study_that_keeps_failing_gives_its_turn_to_nobody(engine: Engine, send: Sent) -> None:
    for _ in range(6):
        send("A")
    assert take(engine, state=AnalysisState.FAILED) == ["A1"]
    with transaction(engine) as session:
        session.get_one(Analysis, 1).due_at = NOON + timedelta(hours=1)
    take(engine, 3)

    for _ in range(3):
        send("B")

    assert take(engine, 4) == ["A5", "B1", "A6", "B2"]


def test_an_analysis_waits_for_the_one_of_the_revision_before(engine: Engine, send: Sent) -> None:
    send("A")
    with transaction(engine) as session:
        study = session.scalars(select(Study)).one()
        study.revision = 2
        queue_analysis(session, study, 0, NOON)

    with transaction(engine) as session:
        first, second = claim_analysis(session, NOON, 60), claim_analysis(session, NOON, 60)
        assert first
        session.get_one(Analysis, first.row_id).state = AnalysisState.DONE
        third = claim_analysis(session, NOON, 60)

    assert (first.row_id, second) == (1, None)
    assert third
    assert third.row_id == 2


def test_workers_that_look_at_the_same_time_are_given_different_rows(engine: Engine, send: Sent) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    for source in "ABC":
        send(source)

    with ExitStack() as stack:
        sessions = [stack.enter_context(transaction(engine)) for _ in range(4)]

        held = [claim_analysis(session, NOON, 60) for session in sessions]
        assert [each.row_id if each else None for each in held] == [1, 2, 3, None]


def test_what_looks_for_work_reads_an_index_in_its_order(engine: Engine) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL plans by how many rows there are: benchmarks.scale measures it")
    statements: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, values: object, *_: object) -> None:
        statements.append((statement, values))

    with transaction(engine) as session:
        event.listen(engine, "before_cursor_execute", note)
        claim_analysis(session, NOON, 60)
        due(session, ANALYSES, NOON, 30)
        take_back(session, ANALYSES, NOON, 3)
        event.remove(engine, "before_cursor_execute", note)
        connection = session.connection()
        plans = [
            str(row)
            for statement, values in statements
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            if "FROM analyses" in statement
        ]

    assert [plan for plan in plans if "INDEX ix_analyses_due (state=?)" in plan]
    assert not [plan for plan in plans if "SCAN analyses" in plan]
    # What is first in each state is sorted: a row or two.
    assert len([plan for plan in plans if "TEMP B-TREE" in plan]) == 1
