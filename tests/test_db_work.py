from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from db.models import Analysis, AnalysisState, Delivery, DeliveryState, Study
from db.session import transaction
from db.work import ANALYSES, DELIVERIES, Claim, Retry, claim, due, fail, finish, give_back, renew, take_back

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
RETRY = Retry(max_attempts=3, backoff_s=5, backoff_max_s=60)


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.fixture
def add_analysis(engine: Engine) -> Callable[..., int]:
    def add(**values: object) -> int:
        with transaction(engine) as session:
            number = session.query(Study).count() + 1
            study = Study(study_instance_uid=f"1.2.{number}", created_at=NOON, changed_at=NOON)
            row = Analysis(**{"revision": 1, "created_at": NOON, "due_at": NOON, "study": study, **values})
            session.add(row)
            session.flush()
            return row.id

    return add


@pytest.fixture
def add_delivery(engine: Engine, add_analysis: Callable[..., int]) -> Callable[..., int]:
    def add(**values: object) -> int:
        row = Delivery(
            analysis_id=add_analysis(), created_at=NOON, due_at=NOON, destination="PACS", group="sr"
        )
        for name, value in values.items():
            setattr(row, name, value)
        with transaction(engine) as session:
            session.add(row)
            session.flush()
            return row.id

    return add


def read(engine: Engine, row_id: int) -> Analysis:
    with transaction(engine) as session:
        return session.get_one(Analysis, row_id)


def claimed(engine: Engine, row_id: int, owner: str = "one", at: datetime = NOON) -> Claim:
    held = Claim(ANALYSES, row_id, owner)
    with transaction(engine) as session:
        assert claim(session, held, at, lease_s=60)
    return held


def test_of_many_workers_that_want_one_row_at_once_exactly_one_gets_it(
    engine: Engine, add_analysis: Callable[..., int]
) -> None:
    rows = [add_analysis() for _ in range(10)]

    def want(owner: int) -> list[int]:
        won = []
        for row_id in rows:
            with transaction(engine) as session:
                if claim(session, Claim(ANALYSES, row_id, str(owner)), NOON, 60):
                    won.append(row_id)
        return won

    with ThreadPoolExecutor(8) as pool:
        won = [row_id for wins in pool.map(want, range(8)) for row_id in wins]

    assert sorted(won) == rows
    assert {read(engine, row_id).attempts for row_id in rows} == {1}


def test_a_claim_starts_the_attempt_and_the_lease(engine: Engine, add_analysis: Callable[..., int]) -> None:
    row_id = add_analysis()

    claimed(engine, row_id)

    row = read(engine, row_id)
    assert (row.state, row.attempts, row.lease_owner) == (AnalysisState.RUNNING, 1, "one")
    assert (row.started_at, row.lease_until) == (NOON, later(60))


def test_a_row_is_not_claimed_before_it_is_due(engine: Engine, add_analysis: Callable[..., int]) -> None:
    row_id = add_analysis(due_at=later(1))

    with transaction(engine) as session:
        assert not claim(session, Claim(ANALYSES, row_id, "one"), NOON, 60)


@pytest.mark.parametrize("state", [s for s in AnalysisState if s not in ("queued", "failed")])
def test_a_row_that_is_running_or_has_ended_is_not_claimed(
    engine: Engine, add_analysis: Callable[..., int], state: AnalysisState
) -> None:
    row_id = add_analysis(state=state)

    with transaction(engine) as session:
        assert not claim(session, Claim(ANALYSES, row_id, "one"), NOON, 60)


def test_due_rows_come_by_priority_and_are_not_named_again_until_their_message_must_be_lost(
    engine: Engine, add_analysis: Callable[..., int]
) -> None:
    routine, urgent, tomorrow = add_analysis(), add_analysis(priority=0), add_analysis(due_at=later(86400))

    with transaction(engine) as session:
        assert due(session, ANALYSES, NOON, 30) == [urgent, routine]
        assert due(session, ANALYSES, later(29), 30) == []
        assert due(session, ANALYSES, later(30), 30) == [urgent, routine]
        assert tomorrow in due(session, ANALYSES, later(86400), 30)


def test_no_more_rows_are_woken_than_asked_for(engine: Engine, add_analysis: Callable[..., int]) -> None:
    first, second, third = add_analysis(), add_analysis(), add_analysis()

    with transaction(engine) as session:
        assert due(session, ANALYSES, NOON, 30, limit=2) == [first, second]
        assert due(session, ANALYSES, NOON, 30, limit=2) == [third]


def test_only_the_owner_renews_a_lease(engine: Engine, add_analysis: Callable[..., int]) -> None:
    held = claimed(engine, add_analysis())

    with transaction(engine) as session:
        assert renew(session, held, later(20), 60)
        assert not renew(session, Claim(ANALYSES, held.row_id, "two"), later(20), 60)

    assert read(engine, held.row_id).lease_until == later(80)
    assert read(engine, held.row_id).lease_owner == "one"


def test_work_given_back_costs_no_attempt_and_is_due_at_once(
    engine: Engine, add_analysis: Callable[..., int]
) -> None:
    held = claimed(engine, add_analysis())

    with transaction(engine) as session:
        assert give_back(session, held, later(3))

    row = read(engine, held.row_id)
    assert (row.state, row.attempts, row.due_at, row.lease_owner) == (AnalysisState.QUEUED, 0, later(3), "")


def test_a_failure_waits_twice_as_long_each_time_and_its_last_claim_only_reports(
    engine: Engine, add_analysis: Callable[..., int]
) -> None:
    row_id = add_analysis()
    waits, at = [], NOON
    for _ in range(3):
        held = claimed(engine, row_id, at=at)
        with transaction(engine) as session:
            assert fail(session, held, {"reason": "no memory"}, RETRY, at) == AnalysisState.FAILED
        waits.append((read(engine, row_id).due_at - at).total_seconds())
        at = read(engine, row_id).due_at

    held = claimed(engine, row_id, at=at)
    with transaction(engine) as session:
        assert fail(session, held, {"reason": "still none"}, RETRY, at) == AnalysisState.QUARANTINED

    assert waits == [5, 10, 0]
    row = read(engine, row_id)
    assert (row.reason, row.attempts, row.finished_at) == ("still none", 4, at)


def test_a_delivery_is_dead_after_its_last_attempt(engine: Engine, add_delivery: Callable[..., int]) -> None:
    row_id = add_delivery(attempts=2)
    held = Claim(DELIVERIES, row_id, "one")

    with transaction(engine) as session:
        assert claim(session, held, NOON, 60)
        assert fail(session, held, {"reason": "no answer"}, RETRY, NOON) == DeliveryState.DEAD


def test_the_longest_wait_is_kept_however_often_something_failed() -> None:
    assert RETRY.wait(1_000_000).total_seconds() == 60


def test_a_silent_worker_loses_its_row_and_can_no_longer_change_it(
    engine: Engine, add_analysis: Callable[..., int]
) -> None:
    held = claimed(engine, add_analysis())

    with transaction(engine) as session:
        assert take_back(session, ANALYSES, later(60), 3) == []
        assert take_back(session, ANALYSES, later(61), 3) == [held.row_id]
        assert not finish(session, held, {"state": AnalysisState.DONE})
        assert not renew(session, held, later(61), 60)
        assert fail(session, held, {}, RETRY, later(61)) == ""

    row = read(engine, held.row_id)
    assert (row.state, row.attempts, row.due_at) == (AnalysisState.QUEUED, 1, later(61))
    assert row.reason == "The worker one fell silent during attempt 1."


def test_a_row_that_silences_even_the_worker_that_only_reports_is_quarantined(
    engine: Engine, add_analysis: Callable[..., int]
) -> None:
    row_id = add_analysis(attempts=3)
    claimed(engine, row_id)

    with transaction(engine) as session:
        assert take_back(session, ANALYSES, later(61), 3) == [row_id]

    assert read(engine, row_id).state == AnalysisState.QUARANTINED
