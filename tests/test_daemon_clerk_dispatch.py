import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import Engine, update

from daemon.clerk.dispatch import MOST_MESSAGES, RESEND_AFTER_S, Dispatcher
from db.models import (
    Analysis,
    AnalysisState,
    CommitmentRequest,
    Confirmation,
    Delivery,
    DeliveryState,
    Study,
)
from db.session import open_engine, transaction
from lungnode.broker import broker_command, ping, prepare_socket
from lungnode.errors import UnavailableError
from lungnode.queue import open_queue
from lungnode.settings import AnalysisSettings, DeliverySettings, Settings
from tests.spooling import NOON


class Broker:
    """A real Valkey that can be stopped and started again."""

    def __init__(self, socket: Path) -> None:
        self.url = f"redis+socket://{socket}"
        self._socket = socket
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Serve."""
        prepare_socket(self._socket)
        self._process = subprocess.Popen(broker_command(self._socket))
        while True:
            try:
                return ping(self.url)
            except UnavailableError:
                continue

    def stop(self) -> None:
        """Die, and forget every message."""
        if self._process:
            self._process.kill()
            self._process.wait()
        self._process = None

    def add_messages(self, queue: str, count: int) -> None:
        """Put messages into a queue."""
        with Redis(unix_socket_path=str(self._socket)) as client:
            client.lpush(queue, *range(count))

    def messages(self, queue: str) -> int:
        """Return how many messages wait in a queue."""
        with Redis(unix_socket_path=str(self._socket)) as client:
            return int(str(client.llen(queue)))


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A running broker; its socket's path is short, for the kernel takes 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="lungnode-"))
    broker = Broker(folder / "broker/valkey.sock")
    broker.start()
    yield broker
    broker.stop()
    shutil.rmtree(folder)


@pytest.fixture
def dispatcher(engine: Engine, broker: Broker) -> Iterator[Dispatcher]:
    """A dispatcher over an empty database."""
    settings = Settings(broker_url=broker.url)
    with open_queue(settings) as app:
        yield Dispatcher(engine, settings, app)


def add(engine: Engine, **columns: object) -> None:
    with transaction(engine) as session:
        study = Study(study_instance_uid="1.2.3", created_at=NOON, changed_at=NOON)
        analysis = Analysis(study=study, revision=1, **{"created_at": NOON, "due_at": NOON} | columns)
        session.add(analysis)
        session.flush()
        common = {"analysis_id": analysis.id, "group": "sr", "created_at": NOON}
        session.add(Delivery(destination="pacs", due_at=NOON, **common))
        session.add(Delivery(destination="later", due_at=NOON + timedelta(hours=1), **common))


def one(engine: Engine) -> Analysis:
    with transaction(engine) as session:
        return session.get_one(Analysis, 1)


def test_a_worker_is_woken_for_each_due_row(engine: Engine, dispatcher: Dispatcher, broker: Broker) -> None:
    add(engine)

    dispatcher.sweep(NOON)

    assert (broker.messages("analysis"), broker.messages("delivery")) == (1, 1)


def test_a_courier_is_woken_to_report_and_to_ask_and_what_one_left_is_taken_back(
    engine: Engine, dispatcher: Dispatcher, broker: Broker
) -> None:
    dead = {"lease_owner": "dead", "lease_until": NOON, "attempts": 1}
    add(engine, state="done")
    with transaction(engine) as session:
        session.execute(update(Delivery).values(state="stored"))
        session.add(
            Confirmation(delivery_id=1, state="awaiting", method="query", due_at=NOON, created_at=NOON)
        )
        lost = Confirmation(delivery_id=2, state="asking", method="commitment", due_at=NOON, created_at=NOON)
        request = CommitmentRequest(
            transaction_uid="1.2",
            digest="d",
            source="a/1",
            association_id="a",
            calling_ae_title="CT",
            called_ae_title="LUNGNODE",
            address="",
            instances=[],
            state="reporting",
            due_at=NOON,
            requested_at=NOON,
        )
        for row in (lost, request):
            for name, value in dead.items():
                setattr(row, name, value)
            session.add(row)

    dispatcher.sweep(NOON + timedelta(seconds=1))

    assert broker.messages("delivery") == 3
    with transaction(engine) as session:
        assert [row.state for row in session.query(Confirmation)] == ["awaiting", "pending"]
        assert session.query(CommitmentRequest).one().state == "verified"


def test_a_row_is_told_again_only_when_its_message_seems_lost(
    engine: Engine, dispatcher: Dispatcher, broker: Broker
) -> None:
    add(engine)

    for seconds in (0, 5, RESEND_AFTER_S - 1):
        dispatcher.sweep(NOON + timedelta(seconds=seconds))
    assert broker.messages("analysis") == 1

    dispatcher.sweep(NOON + timedelta(seconds=RESEND_AFTER_S))
    assert broker.messages("analysis") == 2


def test_a_backlog_does_not_pile_messages_up(engine: Engine, dispatcher: Dispatcher, broker: Broker) -> None:
    add(engine)
    broker.add_messages("analysis", MOST_MESSAGES)

    dispatcher.sweep(NOON)

    assert broker.messages("analysis") == MOST_MESSAGES
    assert one(engine).woken_at is None


def test_where_a_lease_is_shorter_a_message_seems_lost_when_it_has_run_out(
    engine: Engine, broker: Broker
) -> None:
    add(engine)
    analysis, delivery = AnalysisSettings(lease_s=6), DeliverySettings(lease_s=9)
    settings = Settings(broker_url=broker.url, analysis=analysis, delivery=delivery)

    with open_queue(settings) as app:
        dispatcher = Dispatcher(engine, settings, app)
        for seconds in (0, 5, 6, 8, 9):
            dispatcher.sweep(NOON + timedelta(seconds=seconds))

    assert (broker.messages("analysis"), broker.messages("delivery")) == (2, 2)


def test_a_new_clerk_repeats_what_one_before_it_marked_and_maybe_never_sent(
    engine: Engine, dispatcher: Dispatcher, broker: Broker
) -> None:
    add(engine, woken_at=NOON)

    dispatcher.sweep(NOON)
    dispatcher.sweep(NOON + timedelta(seconds=1))

    assert broker.messages("analysis") == 1


def test_a_broker_that_dies_and_returns_gets_every_wake_up_at_the_next_sweep(
    engine: Engine, dispatcher: Dispatcher, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    add(engine)
    broker.stop()

    for seconds in range(3):
        dispatcher.sweep(NOON + timedelta(seconds=seconds))

    assert len([each for each in caplog.records if "work waits in the database" in each.message]) == 1
    broker.start()
    dispatcher.sweep(NOON + timedelta(seconds=4))
    assert (broker.messages("analysis"), broker.messages("delivery")) == (1, 1)
    assert one(engine).state == AnalysisState.QUEUED


def test_the_work_of_a_worker_that_fell_silent_is_taken_back_and_sent_again(
    engine: Engine, dispatcher: Dispatcher, broker: Broker
) -> None:
    lease = {"lease_owner": "w", "lease_until": NOON, "attempts": 1, "woken_at": NOON}
    add(engine, state=AnalysisState.RUNNING, **lease)

    dispatcher.sweep(NOON)
    assert one(engine).state == AnalysisState.RUNNING
    dispatcher.sweep(NOON + timedelta(seconds=1))

    assert one(engine).state == AnalysisState.QUEUED
    assert broker.messages("analysis") == 1


def test_a_sweep_without_a_database_says_so(tmp_path: Path, broker: Broker) -> None:
    settings = Settings(broker_url=broker.url)
    engine = open_engine(f"postgresql://lungnode@/lungnode?host={tmp_path}")
    with open_queue(settings) as app, pytest.raises(UnavailableError, match="unavailable"):
        Dispatcher(engine, settings, app).sweep(NOON)


def test_what_was_delivered_is_not_woken(engine: Engine, dispatcher: Dispatcher, broker: Broker) -> None:
    add(engine, state=AnalysisState.DONE)
    with transaction(engine) as session:
        for row in session.query(Delivery):
            row.state = DeliveryState.STORED

    dispatcher.sweep(NOON)

    assert (broker.messages("analysis"), broker.messages("delivery")) == (0, 0)
