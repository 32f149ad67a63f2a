import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import update

from db import audit
from db.audit_chain import chain
from db.models import AuditEvent
from db.session import open_engine, transaction
from lungnode.audit import events
from lungnode.audit.events import Happening
from lungnode.audit.message import Outcome, Source
from lungnode.settings import Settings
from tests.command_line import CommandLine, Result
from tests.databases import new_sqlite

NOON = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)
Run = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A node whose trail has, an hour apart, a promotion, a login that failed and a deletion."""
    folder = tmp_path / "data"
    engine = new_sqlite(Settings(data=folder).database)
    hours = [NOON + timedelta(hours=number) for number in range(3)]
    with transaction(engine) as session:
        audit.record(session, "model promoted", "ab12", hours[0], name="[bold]best")
        who = events.person("mallory", "10.0.0.66")
        audit.note(session, Happening("sign-in failed", "mallory", hours[1], who, Outcome.MINOR_FAILURE))
        audit.record(session, "study deleted", "1.2.3", hours[2])
        chain(session, Source("LUNGNODE"), hours[2])
    engine.dispose()
    return folder


@pytest.fixture
def lungnode(command_line: CommandLine, data: Path) -> Run:
    return partial(command_line.run, data)


@pytest.mark.parametrize(
    ("options", "subjects"),
    [
        ((), ["1.2.3", "mallory", "ab12"]),
        (("--limit", "1"), ["1.2.3"]),
        (("--action", "study deleted"), ["1.2.3"]),
        (("--actor", "mallory"), ["mallory"]),
        (("--subject", "ab12"), ["ab12"]),
        (("--failed",), ["mallory"]),
        (("--since", "2026-03-05T13:00:00", "--until", "2026-03-05T14:00:00"), ["mallory"]),
        (("--since", "2026-03-05T15:00:00+0200"), ["1.2.3", "mallory"]),
    ],
)
def test_events_are_listed_the_newest_first(
    lungnode: Run, options: tuple[str, ...], subjects: list[str]
) -> None:
    listed = lungnode("audit", "list", "--json", *options).document["events"]

    assert [event["subject"] for event in listed] == subjects


def test_the_table_shows_what_peers_and_users_wrote_as_text(lungnode: Run) -> None:
    shown = lungnode("audit", "list").stdout

    assert "name [bold]best" in shown


def test_reading_the_trail_is_an_event(lungnode: Run) -> None:
    lungnode("audit", "list", "--failed")

    (reading,) = lungnode("audit", "list", "--json", "--limit", "1").document["events"]

    assert reading["action"] == "audit trail read"
    assert reading["details"] == {"filters": {"failed": "True"}, "events": 1}


def test_an_export_has_every_event_with_its_message(lungnode: Run, tmp_path: Path) -> None:
    result = lungnode("audit", "export", tmp_path / "trail.jsonl")

    assert "3 events are in" in result.stdout
    lines = [json.loads(line) for line in (tmp_path / "trail.jsonl").read_text().splitlines()]
    assert [line["subject"] for line in lines] == ["ab12", "mallory", "1.2.3"]
    assert all(line["message"].startswith("<AuditMessage>") for line in lines)
    assert lungnode("audit", "export", tmp_path / "trail.jsonl").returncode == 1  # it is there already


def test_a_whole_trail_is_verified_against_a_head_that_was_noted(lungnode: Run) -> None:
    head = lungnode("audit", "verify", "--json").document["head"]

    result = lungnode("audit", "verify", "--head", head)

    assert result.returncode == 0
    assert "is whole: 3 events in 1 batches, 0 not chained yet. The head that was asked for" in result.stdout


def test_a_trail_that_somebody_wrote_to_fails(lungnode: Run, data: Path) -> None:
    engine = open_engine(Settings(data=data).database)
    with transaction(engine) as session:
        session.execute(update(AuditEvent).where(AuditEvent.id == 2).values(actor="alice"))
    engine.dispose()

    result = lungnode("audit", "verify")

    assert result.returncode == 1
    assert "Event 2 of batch 1 was changed." in result.stderr
    assert "is not whole" in result.stdout
    assert lungnode("audit", "verify", "--json").document["ok"] is False


def test_a_head_that_is_not_in_the_trail_fails(lungnode: Run) -> None:
    result = lungnode("audit", "verify", "--head", "f" * 64)

    assert result.returncode == 1
    assert "the trail was cut or written anew" in result.stderr
