import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from db.deliveries import list_deliveries, retry
from db.models import Analysis, AuditEvent, Confirmation, Delivery, DeliveryState, Study
from db.session import open_engine, transaction
from lungnode.cli import build
from tests.databases import new_sqlite

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
RECORDS = [
    {"sop_instance_uid": "1.1", "status": "0x0000", "meaning": "stored", "comment": "", "tries": 1},
    {"sop_instance_uid": "1.2", "status": "0xB007", "meaning": "stored", "comment": "", "tries": 1},
    {"sop_instance_uid": "1.3", "status": "0xA900", "meaning": "refused", "comment": "[bold]no", "tries": 2},
]


def fill(engine: Engine) -> None:
    """One delivery of each state, numbered from 1 in the order of the states."""
    with transaction(engine) as session:
        study = Study(study_instance_uid="1.2.3", created_at=NOON, changed_at=NOON)
        analysis = Analysis(study=study, revision=1, created_at=NOON, due_at=NOON)
        session.add(analysis)
        for state in DeliveryState:
            row = Delivery(
                analysis=analysis, destination=state.upper(), group="sc", due_at=NOON, created_at=NOON
            )
            row.state, row.attempts, row.reason, row.instances = state, 7, "[bold]no", RECORDS
            row.finished_at = NOON
            session.add(row)
            session.flush()


def states(engine: Engine) -> dict[int, str]:
    with transaction(engine) as session:
        return {row.id: row.state for row in list_deliveries(session)}


def test_what_ended_badly_is_due_again_without_what_the_peer_has(engine: Engine) -> None:
    fill(engine)

    with transaction(engine) as session:
        assert retry(session, None, NOON) == [5, 6]

    with transaction(engine) as session:
        for row in list_deliveries(session, ["pending"])[:2]:
            assert (row.id in (5, 6), row.attempts, row.due_at, row.woken_at) == (True, 0, NOON, None)
            assert [record["sop_instance_uid"] for record in row.instances] == ["1.1", "1.2"]
    assert states(engine) == {
        1: "pending",
        2: "sending",
        3: "stored",
        4: "committed",
        5: "pending",
        6: "pending",
        7: "withdrawn",
    }


@pytest.fixture
def lungnode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Runs a command on a filled SQLite database."""
    monkeypatch.setenv("LUNGNODE_DATA", str(tmp_path))
    engine = new_sqlite(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    fill(engine)
    engine.dispose()
    app = build()

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["deliveries", *arguments], env={"COLUMNS": "200"})

    handlers = logging.root.handlers[:]
    yield run
    # The command started a log on the runner's standard error, which is closed by now.
    logging.root.handlers[:] = handlers
    logging.captureWarnings(False)


def listed(result: Result) -> list[dict[str, Any]]:
    return list(json.loads(result.stdout)["deliveries"])


def test_deliveries_are_listed_the_newest_first_with_every_instances_status(lungnode: Any) -> None:
    found = listed(lungnode("list", "--json"))

    assert [each["id"] for each in found] == list(range(len(DeliveryState), 0, -1))
    assert found[0]["instances"] == RECORDS
    assert (found[0]["study_instance_uid"], found[0]["revision"]) == ("1.2.3", 1)


@pytest.mark.parametrize(
    ("delivery", "confirmation", "told"),
    [
        (3, {"state": "awaiting"}, "has until 2026-01-02 12:00:00 UTC to report."),
        (
            3,
            {"state": "pending", "reason": "It gave no answer."},
            "will be asked whether it keeps it. It g",
        ),
        (
            3,
            {"state": "unconfirmed", "reason": "It refuses."},
            "does not tell whether it keeps it. It r",
        ),
        (4, {"state": "confirmed"}, "Confirmed by storage commitment."),
        (4, {"state": "confirmed", "method": "query"}, "Confirmed by C-FIND."),
    ],
)
def test_a_delivery_tells_how_far_it_is_confirmed(
    lungnode: Any, tmp_path: Path, delivery: int, confirmation: dict[str, str], told: str
) -> None:
    columns: dict[str, Any] = {"method": "commitment", "due_at": NOON, "created_at": NOON, **confirmation}
    engine = open_engine(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    with transaction(engine) as session:
        session.add(Confirmation(delivery_id=delivery, **columns))
    engine.dispose()

    found = {each["id"]: each for each in listed(lungnode("list", "--json"))}

    assert told in found[delivery]["next_step"]
    assert found[delivery]["confirmation"]["state"] == confirmation["state"]
    assert found[1]["confirmation"] is None


def test_the_list_can_be_narrowed(lungnode: Any) -> None:
    assert [each["id"] for each in listed(lungnode("list", "--json", "--state", "dead"))] == [6]
    assert [each["id"] for each in listed(lungnode("list", "--json", "--limit", "2"))] == [7, 6]


def test_without_a_database_the_operator_is_told(
    lungnode: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUNGNODE_DATA", str(tmp_path / "elsewhere"))

    result = lungnode("list")

    assert result.exit_code == 1
    assert "There is no database" in str(result.exception)


def test_the_table_shows_a_peers_words_as_they_are(lungnode: Any) -> None:
    result = lungnode("list")

    assert result.exit_code == 0
    assert "[bold]no" in result.stdout


def test_an_unknown_state_is_wrong_use(lungnode: Any) -> None:
    assert lungnode("list", "--state", "lost").exit_code == 2


@pytest.mark.parametrize("arguments", [[], ["5", "--all"]])
def test_retry_wants_either_numbers_or_all(lungnode: Any, arguments: list[str]) -> None:
    assert lungnode("retry", *arguments).exit_code == 2


def test_retry_says_what_is_due_again_and_what_was_left_alone(lungnode: Any) -> None:
    result = lungnode("retry", "6", "3")

    assert (result.exit_code, result.stdout) == (1, "Due again: 6.\n")
    assert result.stderr == "Not refused or dead, so left alone: 3.\n"
    assert lungnode("retry", "--all").stdout == "Due again: 5.\n"


def test_another_try_is_noted_in_the_audit_trail(engine: Engine) -> None:
    fill(engine)

    with transaction(engine) as session:
        retry(session, [5], NOON)
        (event,) = session.query(AuditEvent).all()

    assert (event.action, event.subject, event.details["delivery"]) == ("delivery retried", "1.2.3", 5)
