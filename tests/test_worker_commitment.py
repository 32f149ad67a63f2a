"""Reports of commitment requests on a new association: who is called, as whom, and what an answer means."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.events import EventHandlerType
from sqlalchemy import Engine

from db import commitments
from db.models import CommitmentRequest, CommitmentState
from db.session import transaction
from lungnode.commitment import PUSH_MODEL, Reference
from lungnode.settings import DeliverySettings, Peer, Settings
from tests.couriers import NOON
from tests.databases import new_sqlite
from tests.dicom_wire import CT_IMAGE_STORAGE, VERIFICATION
from worker.commitment import report_row
from worker.hold import Node

GOOD = Reference(CT_IMAGE_STORAGE, "1.2.3.1")
GONE = Reference(CT_IMAGE_STORAGE, "1.2.3.2", failure_reason=0x0112)


@dataclass
class Scanner:
    """A peer that asked for commitment and takes reports on new associations, in pynetdicom's words."""

    answers: list[int] = field(default_factory=list)
    reports: list[tuple[int | None, Dataset]] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    roles: list[tuple[bool | None, bool | None]] = field(default_factory=list)
    is_silent: bool = False
    port: int = 0
    done: Event = field(default_factory=Event)

    def on_report(self, event: evt.Event) -> tuple[int, None]:
        """Keep a report and answer it."""
        if self.is_silent:
            self.done.wait(60)
        self.reports.append((event.event_type, event.event_information))
        self.callers.append(event.assoc.requestor.ae_title)
        (context,) = event.assoc.accepted_contexts
        self.roles.append((context.as_scu, context.as_scp))
        return (self.answers.pop(0) if self.answers else 0x0000), None


@contextmanager
def listening(scanner: Scanner, abstract_syntax: str = PUSH_MODEL, called: str = "") -> Iterator[Scanner]:
    entity = AE(ae_title="CT1")
    entity.require_calling_aet = [called] if called else []
    # The roles are the requestor's: whoever calls reports, so it must be the SCP.
    entity.add_supported_context(abstract_syntax, scu_role=False, scp_role=True)
    handlers: list[EventHandlerType] = [(evt.EVT_N_EVENT_REPORT, scanner.on_report)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    scanner.port = server.server_address[1]
    try:
        yield scanner
    finally:
        scanner.done.set()
        server.shutdown()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = new_sqlite(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    yield engine
    engine.dispose()


@pytest.fixture
def row_id(engine: Engine) -> int:
    """A verified request with one instance that is whole and one that is missing."""
    row = CommitmentRequest(
        transaction_uid="1.2.3.4.5",
        digest="d",
        source="a/00000001",
        association_id="a",
        calling_ae_title="CT1",
        called_ae_title="NODE",
        address="127.0.0.1",
        instances=[GOOD.as_record(), GONE.as_record()],
        state=CommitmentState.VERIFIED,
        due_at=NOON,
        requested_at=NOON,
    )
    with transaction(engine) as session:
        session.add(row)
        session.flush()
        return row.id


def report(engine: Engine, row_id: int, port: int, now: Any = NOON, **peer: Any) -> CommitmentRequest:
    """Let a courier report once, and return what is written down."""
    known = Peer(
        **{"name": "ct", "ae_title": "CT1", "host": "127.0.0.1", "port": port, "timeout_s": 20.0} | peer
    )
    settings = Settings(peers=(known,), delivery=DeliverySettings(backoff_s=5, max_attempts=3))
    report_row(Node(engine, settings, lambda: False, lambda: now), row_id)
    return read(engine, row_id)


def read(engine: Engine, row_id: int) -> CommitmentRequest:
    with transaction(engine) as session:
        return session.get_one(CommitmentRequest, row_id)


def test_the_report_names_what_failed_and_comes_from_who_was_asked_in_the_scp_role(
    engine: Engine, row_id: int
) -> None:
    with listening(Scanner()) as scanner:
        row = report(engine, row_id, scanner.port)

    ((event_type, told),) = scanner.reports
    (committed,), (failed,) = told.ReferencedSOPSequence, told.FailedSOPSequence
    assert (row.state, row.finished_at, row.reason) == ("reported", NOON, "")
    assert (event_type, told.TransactionUID) == (2, "1.2.3.4.5")
    assert (committed.ReferencedSOPClassUID, committed.ReferencedSOPInstanceUID) == (
        CT_IMAGE_STORAGE,
        "1.2.3.1",
    )
    assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == ("1.2.3.2", 0x0112)
    assert scanner.callers == ["NODE"]
    assert scanner.roles == [(True, False)]  # of the acceptor: it is the SCU


def test_a_report_without_failures_is_of_type_1_and_has_no_failed_sequence(
    engine: Engine, row_id: int
) -> None:
    with transaction(engine) as session:
        session.get_one(CommitmentRequest, row_id).instances = [GOOD.as_record()]
    with listening(Scanner()) as scanner:
        report(engine, row_id, scanner.port)

    ((event_type, told),) = scanner.reports
    assert (event_type, "FailedSOPSequence" in told) == (1, False)


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_a_peer_that_is_away_or_refuses_is_called_again_later_until_the_report_is_dead(
    engine: Engine, row_id: int
) -> None:
    with listening(Scanner(answers=[0x0110])) as scanner:
        refused = report(engine, row_id, scanner.port)
        early = report(engine, row_id, scanner.port)
        assert len(scanner.reports) == 1
    assert (refused.state, refused.due_at) == ("verified", NOON + timedelta(seconds=5))
    assert "status 0x0110" in refused.reason
    assert early.attempts == 1

    away = report(engine, row_id, scanner.port, refused.due_at)
    dead = report(engine, row_id, scanner.port, away.due_at)

    assert "cannot be reached" in away.reason
    assert (away.state, dead.state, dead.attempts) == ("verified", "dead", 3)


def test_a_peer_that_never_answers_is_given_up_and_called_again(engine: Engine, row_id: int) -> None:
    with listening(Scanner(is_silent=True)) as scanner:
        row = report(engine, row_id, scanner.port, timeout_s=3.0)

    assert (row.state, row.attempts) == ("verified", 1)
    assert "no answer" in row.reason


def test_a_warning_is_an_arrival(engine: Engine, row_id: int) -> None:
    with listening(Scanner(answers=[0x0107])) as scanner:
        assert report(engine, row_id, scanner.port).state == "reported"


@pytest.mark.parametrize(
    ("abstract_syntax", "called", "why"),
    [(VERIFICATION, "", "accepts none of: Storage Commitment"), (PUSH_MODEL, "ELSE", "rejected")],
)
def test_a_peer_that_takes_no_reports_of_ours_is_not_called_again(
    engine: Engine, row_id: int, abstract_syntax: str, called: str, why: str
) -> None:
    with listening(Scanner(), abstract_syntax, called) as scanner:
        row = report(engine, row_id, scanner.port)

    assert (row.state, row.finished_at) == ("refused", NOON)
    assert why in row.reason


def test_a_peer_without_an_address_is_named_and_reported_to_once_it_has_one(
    engine: Engine, row_id: int
) -> None:
    row = report(engine, row_id, 1, ae_title="OTHER")
    assert row.state == "refused"
    assert row.reason == "[[peers]] has no entry for AE title CT1 at 127.0.0.1."

    with transaction(engine) as session:
        assert commitments.retry(session, None, NOON) == [row_id]

    assert read(engine, row_id).state == "requested"


def test_our_title_towards_the_peer_may_be_set(engine: Engine, row_id: int) -> None:
    with listening(Scanner()) as scanner:
        report(engine, row_id, scanner.port, calling_ae_title="SET")

    assert scanner.callers == ["SET"]
