import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from db.commitments import link_studies, list_requests
from db.models import CommitmentRequest, CommitmentState, Study
from db.session import open_engine, transaction
from lungnode.cli import build
from lungnode.commitment import Reference
from tests.databases import new_sqlite

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
GOOD, GONE = Reference("1.2", "1.2.3.1"), Reference("1.2", "1.2.3.2", failure_reason=0x0112)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with one request of each state, all of them about one study."""
    engine = new_sqlite(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    with transaction(engine) as session:
        session.add(Study(study_instance_uid="1.2.3", created_at=NOON, changed_at=NOON))
        for number, state in enumerate(CommitmentState, start=1):
            row = CommitmentRequest(
                transaction_uid=f"1.9.{number}",
                digest="d",
                source=f"a/{number}",
                association_id="a",
                calling_ae_title="CT[1]",
                called_ae_title="NODE",
                address="127.0.0.1",
                instances=[GOOD.as_record(), GONE.as_record()],
                state=state,
                due_at=NOON,
                requested_at=NOON,
                reason="It [says] so.",
            )
            session.add(row)
            session.flush()
            link_studies(session, row, ["1.2.3"])
    engine.dispose()
    return tmp_path


def run(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(build(), ["--data", str(data), *arguments])


def test_requests_are_listed_with_what_failed_the_newest_first(data: Path) -> None:
    found = json.loads(run(data, "commitments", "list", "--state", "reported", "--json").stdout)

    (record,) = found["commitments"]
    assert (record["calling_ae_title"], record["transaction_uid"], record["state"]) == (
        "CT[1]",
        "1.9.5",
        "reported",
    )
    assert (record["instances"], record["failed"]) == (2, 1)
    assert record["failures"] == [
        {"sop_class_uid": "1.2", "sop_instance_uid": "1.2.3.2", "failure_reason": "0x0112"}
    ]


def test_a_table_shows_peers_words_as_they_are(data: Path) -> None:
    result = run(data, "commitments", "list", "--limit", "1")

    assert result.exit_code == 0
    assert "CT[1]" in result.stdout
    assert "It [says] so." in result.stdout
    assert "1.9.7" in result.stdout
    assert "1.9.6" not in result.stdout


def test_an_unknown_state_is_wrong_use(data: Path) -> None:
    assert run(data, "commitments", "list", "--state", "lost").exit_code == 2


def test_what_ended_badly_is_due_again(data: Path) -> None:
    result = run(data, "commitments", "retry", "--all")

    assert result.stdout == "Due again: 6, 7.\n"
    engine = open_engine(f"sqlite:///{data / 'lungnode.sqlite3'}")
    with transaction(engine) as session:
        states = {row.id: row.state for row in list_requests(session)}
    engine.dispose()
    assert (states[5], states[6], states[7]) == ("reported", "requested", "requested")


def test_what_did_not_end_badly_is_left_alone(data: Path) -> None:
    result = run(data, "commitments", "retry", "5")

    assert result.exit_code == 1
    assert "left alone: 5" in result.stderr
    assert run(data, "commitments", "retry").exit_code == 2


def test_a_study_tells_who_asked_for_its_commitment(data: Path) -> None:
    shown = run(data, "studies", "show", "1.2.3")
    told = json.loads(run(data, "studies", "show", "1.2.3", "--json").stdout)

    assert "CT[1] asked for commitment: reported, 1 of 2 instances failed." in shown.stdout
    assert len(told["commitments"]) == len(CommitmentState)
