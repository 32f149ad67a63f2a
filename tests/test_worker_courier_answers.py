"""What the answers of a peer make of a delivery: stored, again later, or refused for good."""

from datetime import timedelta

import pytest
from pydicom import Dataset

from db.models import Delivery, DeliveryState
from db.session import transaction
from tests.couriers import NOON, MakeCourier, pacs


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_a_warning_counts_as_stored_and_is_kept(courier: MakeCourier, status: int) -> None:
    with pacs(None, "", status) as peer:
        node, (sr,) = courier(peer.port, "sr")
        node.deliver(sr)

    assert node.row(sr).state == DeliveryState.STORED
    assert node.row(sr).instances[0]["status"] == f"0x{status:04X}"


@pytest.mark.parametrize("status", [0x0117, 0x0122, 0x0124, 0xA900, 0xA9FF])
def test_a_permanent_refusal_ends_the_delivery_with_the_peers_words(
    courier: MakeCourier, status: int
) -> None:
    answer = Dataset()
    answer.Status, answer.ErrorComment = status, "not for this archive"
    with pacs(None, "", answer) as peer:
        node, (sr,) = courier(peer.port, "sr")
        node.deliver(sr)

    row = node.row(sr)
    assert (row.state, row.attempts) == (DeliveryState.REFUSED, 1)
    assert f"0x{status:04X} (not for this archive)" in row.reason
    assert row.instances[0]["comment"] == "not for this archive"


def test_what_went_wrong_is_a_warning_without_the_peers_words(
    courier: MakeCourier, caplog: pytest.LogCaptureFixture
) -> None:
    answer = Dataset()
    answer.Status, answer.ErrorComment = 0x0124, "Roe^Jane is unknown"
    with pacs(None, "", answer) as peer:
        node, (report,) = courier(peer.port, "sr")
        node.deliver(report)

    (record,) = (each for each in caplog.records if each.name == "worker.courier")
    assert (record.levelname, "Roe" in record.message) == ("WARNING", False)
    assert f"delivery {report} of sr to PACS: refused. The destination answered 0x0124" in record.message


@pytest.mark.parametrize("status", [0x0110, 0xA700, 0xA7FF, 0x0210])
def test_a_transient_failure_is_tried_again_later_until_it_is_dead(courier: MakeCourier, status: int) -> None:
    with pacs(None, "", *[status] * 9) as peer:
        node, (sr,) = courier(peer.port, "sr")
        node.deliver(sr)
        first = node.row(sr)
        row = node.deliver_until_it_ends(sr)

    assert (first.state, first.due_at) == (DeliveryState.PENDING, NOON + timedelta(seconds=5))
    assert (row.state, row.attempts) == (DeliveryState.DEAD, 4)
    assert node.now == NOON + timedelta(seconds=5 + 10 + 20)


def test_cannot_understand_is_tried_three_times_and_then_refused(courier: MakeCourier) -> None:
    with pacs(None, "", 0xC000, 0xC123, 0xC000) as peer:
        node, (sr,) = courier(peer.port, "sr")
        row = node.deliver_until_it_ends(sr)

    assert (row.state, row.attempts) == (DeliveryState.REFUSED, 3)


def test_a_duplicate_after_a_courier_that_was_killed_counts_as_stored(courier: MakeCourier) -> None:
    with pacs(None, "", 0x0111) as peer:
        node, (sr,) = courier(peer.port, "sr")
        with transaction(node.engine) as session:
            session.get_one(Delivery, sr).attempts = 1  # its lease ran out; it had written nothing down
        node.deliver(sr)

    assert node.row(sr).state == DeliveryState.STORED


def test_a_duplicate_on_a_second_try_means_that_the_first_had_arrived(courier: MakeCourier) -> None:
    with pacs(None, "", 0xA700, 0x0111) as peer:
        node, (sr,) = courier(peer.port, "sr")
        row = node.deliver_until_it_ends(sr)

    assert (row.state, row.attempts) == (DeliveryState.STORED, 2)


def test_one_refused_instance_refuses_the_group_after_the_others_were_stored(courier: MakeCourier) -> None:
    with pacs(None, "", 0x0000, 0xA900, 0x0000) as peer:
        node, (sc,) = courier(peer.port, "sc", captures=3)
        node.deliver(sc)

    assert node.row(sc).state == DeliveryState.REFUSED
    assert [record["status"] for record in node.row(sc).instances] == ["0x0000", "0xA900", "0x0000"]


def test_a_rejected_association_is_permanent_where_the_peer_says_so(courier: MakeCourier) -> None:
    with pacs(None, "SOMEBODY") as peer:  # result 1, rejected permanent: calling AE title not recognised
        node, (sr,) = courier(peer.port, "sr")
        node.deliver(sr)

    assert node.row(sr).state == DeliveryState.REFUSED
    assert "rejected the association: calling AE title not recognized" in node.row(sr).reason


# pynetdicom 3.0.4 drops the socket of a connection that was refused without closing it.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_a_peer_that_is_down_is_tried_again(courier: MakeCourier, caplog: pytest.LogCaptureFixture) -> None:
    node, (sr,) = courier(1, "sr")
    node.deliver(sr)

    row = node.row(sr)
    assert (row.state, row.attempts, row.lease_owner) == (DeliveryState.PENDING, 1, "")
    assert "cannot be reached" in row.reason
    assert f"delivery {sr} of sr to PACS: pending. {row.reason}" in caplog.messages
