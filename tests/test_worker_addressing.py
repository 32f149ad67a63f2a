"""Results that go back to whoever sent the study."""

import pytest

from db.models import DeliveryState
from lungnode.errors import UnusableError
from lungnode.settings import Peer, SenderDestination, Settings
from tests.couriers import MakeCourier, encoded, pacs
from worker.addressing import return_address

BACK = SenderDestination(name="back", kind="sender", outputs=("sr",), timeout_s=20)


def peer(name: str, ae_title: str, host: str = "127.0.0.1", port: int = 104) -> Peer:
    return Peer(name=name, ae_title=ae_title, host=host, port=port)


def test_a_report_goes_back_to_the_peer_that_sent_the_study(courier: MakeCourier) -> None:
    with pacs() as scanner:
        node, (sr,) = courier(BACK, "sr", calling_ae_title="CT_1", address="127.0.0.1")
        node.peers = (peer("other", "CT_2"), peer("scanner", "CT_1", port=scanner.port))
        node.deliver(sr)

    assert node.row(sr).state == DeliveryState.STORED
    assert [data for _, _, data in scanner.stored] == [encoded(node, "sr")]


def test_a_sender_without_an_address_is_named(courier: MakeCourier) -> None:
    node, (sr,) = courier(BACK, "sr", calling_ae_title="CT_1", address="10.0.0.7")
    node.deliver(sr)

    row = node.row(sr)
    assert (row.state, row.attempts) == (DeliveryState.REFUSED, 1)
    assert row.reason.startswith("Destination back returns results to the sender, and [[peers]] has no entry")
    assert row.reason.endswith("for AE title CT_1 at 10.0.0.7.")


def test_of_senders_with_one_ae_title_the_address_tells_which_it_was() -> None:
    twins = (peer("east", "CT", "10.0.0.1"), peer("west", "CT", "10.0.0.2"))
    settings = Settings(peers=twins)

    assert return_address(settings, BACK, "CT", "10.0.0.2").host == "10.0.0.2"
    with pytest.raises(UnusableError, match=r"no entry for AE title CT at 10\.0\.0\.3"):
        return_address(settings, BACK, "CT", "10.0.0.3")


def test_what_is_set_for_the_destination_and_for_the_peer_both_hold() -> None:
    settings = Settings(peers=(Peer(name="ct", ae_title="CT", host="h", port=1, calling_ae_title="AI"),))

    found = return_address(settings, BACK, "CT", "h")

    assert (found.name, found.outputs, found.timeout_s) == ("back", ("sr",), 20)
    assert (found.ae_title, found.host, found.port, found.calling_ae_title) == ("CT", "h", 1, "AI")
