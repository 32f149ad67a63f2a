"""Confirmation of what destinations stored: by storage commitment, in whatever order, else by C-FIND."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from time import sleep

import pytest
from pydicom import Dataset

from daemon.clerk.main import Clerk
from db.models import CommitmentTransaction, Confirmation, Delivery
from db.session import transaction
from lungnode.commitment import PUSH_MODEL, Commitment, Reference
from lungnode.scu.commitment import committing
from lungnode.settings import CommitmentSettings, Settings
from tests.committing import STUDY_ROOT_FIND, Archive, archive
from tests.couriers import LIMITS, NOON, Courier, MakeCourier, dimse
from tests.dicom_wire import CT_IMAGE_STORAGE
from tests.nodes import wait_for
from tests.receiving import RunningReceiver, running_receiver
from worker.confirm import confirm_due, confirm_row
from worker.courier import deliver_row
from worker.hold import Node

ANSWER_S = 600.0


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningReceiver]:
    with running_receiver(tmp_path_factory.mktemp("receiver"), processes=1) as running:
        yield running


@dataclass
class Confirming:
    """A node with one delivery to a PACS, and the receiver to which the PACS reports."""

    courier: Courier
    peer: Archive
    receiver: RunningReceiver
    delivery_id: int
    confirm: str = "auto"
    linger_s: float = 0.0

    def node(self) -> Node:
        """A delivery worker's."""
        settings = Settings(
            data=self.courier.folder,
            destinations=(dimse(self.peer.port, confirm=self.confirm),),
            delivery=LIMITS,
            commitment=CommitmentSettings(linger_s=self.linger_s, answer_s=ANSWER_S),
        )
        return Node(self.courier.engine, settings, lambda: False, lambda: self.courier.now)

    def deliver(self) -> Delivery:
        """Send what is due."""
        deliver_row(self.node(), self.delivery_id)
        return self.courier.row(self.delivery_id)

    def ask(self) -> Confirmation:
        """Let a courier ask once, if that is due."""
        confirm_due(self.node())
        return self.row()

    def later(self, seconds: float) -> Confirmation:
        """Let time pass, and a courier ask."""
        self.courier.now += timedelta(seconds=seconds)
        return self.ask()

    def take(self) -> Confirmation:
        """Wait for a report of the PACS on a new association, and let the clerk take it."""
        wait_for(lambda: list(self.receiver.spool.glob("*/*.event")), what="the report")
        self.clerk().round()
        return self.row()

    def clerk(self) -> Clerk:
        """The clerk of the receiver's host."""
        settings = Settings(data=self.receiver.data, delivery=LIMITS)
        return Clerk(self.courier.engine, settings, Event(), lambda: self.courier.now)

    def row(self) -> Confirmation:
        """The confirmation as it is."""
        with transaction(self.courier.engine) as session:
            return session.query(Confirmation).one()

    def delivery(self) -> Delivery:
        """The delivery as it is."""
        return self.courier.row(self.delivery_id)

    def uids(self) -> list[str]:
        """The instances of the delivery, in the order they were sent."""
        return [record["sop_instance_uid"] for record in self.delivery().instances]


def started(courier: MakeCourier, receiver: RunningReceiver, peer: Archive, **changes: object) -> Confirming:
    """Deliver three heatmaps; the PACS stores them all."""
    node, (delivery_id,) = courier(peer.port, "sc", captures=3, state="complete", revision=1)
    confirming = Confirming(node, peer, receiver, delivery_id, **changes)  # type: ignore[arg-type]
    assert confirming.deliver().state == "stored"
    return confirming


def test_a_report_on_a_new_association_commits_the_delivery(
    courier: MakeCourier, receiver: RunningReceiver
) -> None:
    with archive(reports_to=receiver.port) as peer:
        it = started(courier, receiver, peer)

        it.ask()
        row = it.take()

    (asked,) = peer.asked
    assert [each.ReferencedSOPInstanceUID for each in asked.ReferencedSOPSequence] == it.uids()
    assert (row.state, row.method, row.finished_at) == ("confirmed", "commitment", NOON)
    assert (it.delivery().state, it.delivery().finished_at) == ("committed", NOON)
    assert (wait_for(lambda: peer.answers), peer.queries) == ([0x0000], [])


def test_a_report_on_the_same_association_commits_the_delivery(
    courier: MakeCourier, receiver: RunningReceiver
) -> None:
    with archive(reports_to=0) as peer:
        it = started(courier, receiver, peer, linger_s=60.0)

        row = it.ask()

    assert (row.state, row.method, it.delivery().state) == ("confirmed", "commitment", "committed")
    assert wait_for(lambda: peer.answers) == [0x0000]


def test_the_association_stays_until_the_answer_to_a_report_has_left() -> None:
    told = Event()

    def take(_report: Commitment) -> None:
        told.set()
        sleep(1)  # whoever waits for what is told goes on before the peer has its answer

    with archive(reports_to=0) as peer:
        with committing(dimse(peer.port), "LUNGNODE", take) as scp:
            scp.request(Commitment("2.25.1", (Reference(CT_IMAGE_STORAGE, "2.25.2"),)))
            scp.linger(60.0, told.wait)

        assert wait_for(lambda: peer.answers) == [0x0000]


def test_lingering_for_a_report_ends_when_it_has_come_elsewhere(
    courier: MakeCourier, receiver: RunningReceiver
) -> None:
    with archive(reports_to=receiver.port) as peer:
        it = started(courier, receiver, peer, linger_s=1000.0)
        asking = Thread(target=it.ask)
        asking.start()

        wait_for(lambda: it.row().state == "awaiting", what="the request")
        it.take()

        asking.join(60)
        assert (asking.is_alive(), it.row().state) == (False, "confirmed")


def test_what_the_pacs_does_not_keep_is_sent_again_alone_and_asked_for_again(
    courier: MakeCourier, receiver: RunningReceiver
) -> None:
    with archive(reports_to=receiver.port) as peer:
        it = started(courier, receiver, peer)
        lost = it.uids()[1]
        peer.failures[lost] = 0x0112
        it.ask()

        row = it.take()

        delivery = it.delivery()
        assert (row.state, row.resends) == ("resent", 1)
        assert (delivery.state, delivery.due_at) == ("pending", NOON + timedelta(seconds=5))
        assert delivery.reason == f"The destination does not keep 1 of 3 instances; {lost}: 0x0112."
        peer.failures.clear()
        it.courier.now = delivery.due_at
        assert it.deliver().state == "stored"
        it.ask()
        row = it.take()

    assert (row.state, it.delivery().state, it.delivery().reason) == ("confirmed", "committed", "")
    assert peer.stored == [*it.uids(), lost]
    assert len({ds.TransactionUID for ds in peer.asked}) == 2


def test_what_a_report_does_not_mention_is_not_kept(courier: MakeCourier, receiver: RunningReceiver) -> None:
    with archive(reports_to=receiver.port) as peer:
        it = started(courier, receiver, peer)
        peer.unmentioned.add(it.uids()[2])
        it.ask()

        row = it.take()

    assert (row.state, it.delivery().state) == ("resent", "pending")
    assert row.reason.endswith(f"{it.uids()[2]}: not mentioned.")


def test_what_is_never_kept_is_refused_in_the_end(courier: MakeCourier, receiver: RunningReceiver) -> None:
    with archive(reports_to=receiver.port) as peer:
        it = started(courier, receiver, peer)
        peer.failures[it.uids()[0]] = 0x0110
        states = []
        for _ in range(4):
            it.ask()
            states.append(it.take().state)
            it.courier.now = max(it.courier.now, it.delivery().due_at)
            it.deliver()

    assert states == ["resent", "resent", "resent", "failed"]
    assert (it.delivery().state, it.delivery().advice) == (
        "refused",
        "Ask who runs the peer why it does not keep what it stored.",
    )
    assert len(peer.stored) == 3 + 3


@pytest.mark.parametrize("reason", [0x0119, 0x0122])
def test_a_failure_that_sending_again_cannot_mend_is_refused_at_once(
    courier: MakeCourier, receiver: RunningReceiver, reason: int
) -> None:
    with archive(reports_to=receiver.port) as peer:
        it = started(courier, receiver, peer)
        peer.failures[it.uids()[0]] = reason
        it.ask()

        row = it.take()

    assert (row.state, it.delivery().state, len(peer.stored)) == ("failed", "refused", 3)
    assert f"0x{reason:04X}" in it.delivery().reason


def test_a_request_taken_for_a_duplicate_is_made_again(
    courier: MakeCourier, receiver: RunningReceiver
) -> None:
    with archive(reports_to=receiver.port) as peer:
        it = started(courier, receiver, peer, confirm="commitment")
        peer.failures |= dict.fromkeys(it.uids(), 0x0131)
        it.ask()
        assert it.take().state == "pending"
        peer.failures.clear()
        it.later(60)

        assert it.take().state == "confirmed"

    assert len(peer.stored) == 3


def test_a_report_that_never_comes_is_replaced_by_finding_the_instances(
    courier: MakeCourier, receiver: RunningReceiver
) -> None:
    with archive(reports_to=None) as peer:
        it = started(courier, receiver, peer)
        asked = it.ask()
        assert (asked.state, asked.due_at) == ("awaiting", NOON + timedelta(seconds=ANSWER_S))
        assert it.later(ANSWER_S - 1).state == "awaiting"

        row = it.later(1)

    assert (row.state, row.method, it.delivery().state) == ("confirmed", "query", "committed")
    assert (len(peer.asked), peer.queries) == (1, ["IMAGE"] * len(peer.queries))


def test_a_report_that_comes_late_counts_more_than_finding_the_instances(
    courier: MakeCourier, receiver: RunningReceiver
) -> None:
    with archive(reports_to=None) as peer:
        it = started(courier, receiver, peer)
        it.ask()
        it.later(ANSWER_S)

        peer.report(peer.asked[0], receiver.port)
        row = it.take()

    assert (row.state, row.method) == ("confirmed", "commitment")


def test_what_cannot_be_found_is_looked_for_three_times_and_sent_again(
    courier: MakeCourier, receiver: RunningReceiver
) -> None:
    with archive(PUSH_MODEL) as peer:
        it = started(courier, receiver, peer)
        del peer.held[it.uids()[0]]

        row = it.ask()
        assert (row.state, row.reason) == ("pending", "C-FIND does not find 1 of 3 instances.")
        it.later(60)
        row = it.later(60)

    assert (row.state, it.delivery().state) == ("resent", "pending")
    assert it.delivery().reason.endswith(f"{it.uids()[0]}: 0x0112.")


def test_a_pacs_without_storage_commitment_is_asked_by_c_find(
    courier: MakeCourier, receiver: RunningReceiver
) -> None:
    with archive(PUSH_MODEL) as peer:
        it = started(courier, receiver, peer)
        row = it.ask()

    assert (row.state, row.method, it.delivery().state) == ("confirmed", "query", "committed")


def test_a_pacs_that_knows_no_images_is_asked_how_many_it_has(
    courier: MakeCourier, receiver: RunningReceiver
) -> None:
    with archive(PUSH_MODEL, knows_images=False) as peer:
        it = started(courier, receiver, peer)
        del peer.held[it.uids()[0]]
        assert it.ask().state == "pending"
        it.deliver()
        peer.held[it.uids()[0]] = next(iter(peer.held.values()))

    assert "SERIES" in peer.queries


def test_a_pacs_that_offers_neither_leaves_the_delivery_stored_and_the_row_says_so(
    courier: MakeCourier, receiver: RunningReceiver
) -> None:
    with archive(PUSH_MODEL, STUDY_ROOT_FIND) as peer:
        it = started(courier, receiver, peer)
        row = it.ask()

    assert (row.state, it.delivery().state) == ("unconfirmed", "stored")
    assert "accepts none of: Study Root" in row.reason


def test_a_pacs_that_takes_no_request_is_asked_three_times_and_then_by_c_find(
    courier: MakeCourier, receiver: RunningReceiver
) -> None:
    with archive(action_status=0x0110) as peer:
        it = started(courier, receiver, peer)
        assert "0x0110" in it.ask().reason
        it.later(60)
        row = it.later(60)

    assert (row.state, row.method, len(peer.asked)) == ("confirmed", "query", 3)


def test_with_confirm_commitment_only_a_report_counts(
    courier: MakeCourier, receiver: RunningReceiver
) -> None:
    with archive(reports_to=None) as peer:
        it = started(courier, receiver, peer, confirm="commitment")
        it.ask()
        for _ in range(LIMITS.max_attempts):
            it.later(ANSWER_S)

    assert (it.row().state, it.delivery().state) == ("unconfirmed", "stored")
    assert (len(peer.asked), peer.queries) == (LIMITS.max_attempts, [])


def test_with_confirm_query_nothing_else_is_asked(courier: MakeCourier, receiver: RunningReceiver) -> None:
    with archive() as peer:
        it = started(courier, receiver, peer, confirm="query")
        row = it.ask()

    assert (row.state, row.method, peer.asked) == ("confirmed", "query", [])


def test_with_confirm_none_nobody_is_asked(courier: MakeCourier, receiver: RunningReceiver) -> None:
    with archive() as peer:
        it = started(courier, receiver, peer, confirm="none")

        with transaction(it.courier.engine) as session:
            assert session.query(Confirmation).count() == 0


def test_a_courier_killed_after_its_request_is_known_by_the_report_that_comes(
    courier: MakeCourier, receiver: RunningReceiver
) -> None:
    with archive(reports_to=None) as peer:
        it = started(courier, receiver, peer)
        it.ask()
        with transaction(it.courier.engine) as session:  # as it was a moment before the row was written
            row = session.query(Confirmation).one()
            row.state, row.lease_owner, row.method = "asking", "dead", "commitment"
            row.lease_until = NOON + timedelta(seconds=60)

        peer.report(peer.asked[0], receiver.port)
        row = it.take()

    assert (row.state, row.lease_owner, it.delivery().state) == ("confirmed", "", "committed")


def test_a_report_of_what_we_never_asked_for_is_answered_told_and_forgotten(
    courier: MakeCourier, receiver: RunningReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    with archive(reports_to=None) as peer:
        it = started(courier, receiver, peer)
        it.ask()
        unknown: Dataset = peer.asked[0]
        unknown.TransactionUID = "1.2.3.999"

        peer.report(unknown, receiver.port)
        row = it.take()

    assert (peer.answers, row.state) == ([0x0000], "awaiting")
    assert "transaction 1.2.3.999 reported: it is not ours" in caplog.text
    assert not list(Path(receiver.spool).glob("*/*.event"))


def test_a_report_is_known_before_its_request_is_sent(
    courier: MakeCourier, receiver: RunningReceiver
) -> None:
    seen: list[int] = []

    def look() -> None:
        with transaction(it.courier.engine) as session:
            seen.append(session.query(CommitmentTransaction).count())

    with archive(when_asked=look) as peer:
        it = started(courier, receiver, peer)
        it.ask()

    assert seen == [1]


def test_two_couriers_do_not_ask_about_the_same_delivery(
    courier: MakeCourier, receiver: RunningReceiver
) -> None:
    with archive(reports_to=None) as peer:
        it = started(courier, receiver, peer)
        row_id = it.row().id
        confirm_row(it.node(), row_id)
        confirm_row(it.node(), row_id)

    assert len(peer.asked) == 1
