from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from db.deliveries import next_delivery, next_step, retry
from db.models import Analysis, Delivery, DeliveryState, Study
from db.session import transaction

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
Add = Callable[..., int]


@pytest.fixture
def add(engine: Engine) -> Add:
    """Adds a delivery, to an analysis of its own unless `beside` names another delivery."""

    def add(*, beside: int = 0, **values: object) -> int:
        with transaction(engine) as session:
            number = session.query(Study).count() + 1
            study = Study(study_instance_uid=f"1.2.{number}", created_at=NOON, changed_at=NOON)
            analysis = Analysis(study=study, revision=1, created_at=NOON, due_at=NOON)
            if beside:
                analysis = session.get_one(Delivery, beside).analysis
            own = {"destination": "PACS", "group": "sr", "due_at": NOON, "created_at": NOON}
            row = Delivery(analysis=analysis, **(own | values))
            session.add(row)
            session.flush()
            return row.id

    return add


def chosen(engine: Engine, per_destination: int = 3) -> int | None:
    with transaction(engine) as session:
        return next_delivery(session, NOON, per_destination)


def test_the_most_urgent_delivery_is_next_and_of_equals_the_one_that_is_due_longest(
    engine: Engine, add: Add
) -> None:
    add()
    longest = add(priority=1, due_at=NOON - timedelta(hours=1))
    add(priority=1)
    add(priority=0, due_at=NOON + timedelta(seconds=1))

    assert chosen(engine) == longest


def test_heatmaps_are_not_next_while_their_report_waits_for_its_next_attempt(
    engine: Engine, add: Add
) -> None:
    report = add(due_at=NOON + timedelta(minutes=1))
    add(beside=report, group="sc")

    assert chosen(engine) is None


def test_a_destination_that_is_busy_leaves_couriers_to_the_others(engine: Engine, add: Add) -> None:
    for _ in range(2):
        add(state=DeliveryState.SENDING, lease_until=NOON + timedelta(seconds=60))
    add(priority=0)
    other = add(destination="ARCHIVE")

    assert chosen(engine, per_destination=2) == other


def test_what_a_silent_courier_was_sending_keeps_no_place(engine: Engine, add: Add) -> None:
    add(state=DeliveryState.SENDING, lease_until=NOON - timedelta(seconds=1))
    waiting = add()

    assert chosen(engine, per_destination=1) == waiting


REFUSED = {"sop_instance_uid": "1.1", "status": "0x0122", "meaning": "refused"}
SILENT = {"sop_instance_uid": "1.1", "status": "", "meaning": "again"}
STORED = {"sop_instance_uid": "1.2", "status": "0x0000", "meaning": "stored"}


@pytest.mark.parametrize(
    ("records", "is_open"),
    [([REFUSED], True), ([], False), ([SILENT], False), ([REFUSED, STORED], False)],
)
def test_another_try_may_choose_another_class_where_the_peer_surely_has_nothing(
    engine: Engine, add: Add, records: list[dict[str, str]], is_open: bool
) -> None:
    row_id = add(state=DeliveryState.REFUSED, instances=records, negotiated_at=NOON)

    with transaction(engine) as session:
        retry(session, [row_id], NOON)

    with transaction(engine) as session:
        assert (session.get_one(Delivery, row_id).negotiated_at is None) == is_open


@pytest.mark.parametrize(
    ("state", "values", "step"),
    [
        ("pending", {}, "It waits for a delivery worker, or for the report before it."),
        (
            "pending",
            {"attempts": 2, "advice": "Make room at the peer."},
            "It is tried again at 2026-01-02 12:00:00 UTC, attempt 3 of 20. Make room at the peer.",
        ),
        ("sending", {"attempts": 1}, "It is being sent."),
        ("stored", {"attempts": 1}, ""),
        ("committed", {"attempts": 1}, ""),
        ("refused", {}, "Mend what the reason says. Then: lungnode deliveries retry 1"),
        (
            "dead",
            {"advice": "See that it runs."},
            "See that it runs. Then: lungnode deliveries retry 1",
        ),
    ],
)
def test_the_next_step_says_what_the_node_will_do_or_what_the_operator_must(
    state: str, values: dict[str, object], step: str
) -> None:
    row = Delivery(**({"id": 1, "state": state, "attempts": 0, "due_at": NOON, "advice": ""} | values))

    assert next_step(row, max_attempts=20) == step
