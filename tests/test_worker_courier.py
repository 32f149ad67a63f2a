from pydicom.uid import SecondaryCaptureImageStorage

from db.models import AuditEvent, Delivery, DeliveryState
from db.session import transaction
from tests.couriers import MakeCourier, encoded, pacs
from worker.courier import deliver_due


def test_one_association_carries_a_whole_group(courier: MakeCourier) -> None:
    with pacs() as peer:
        node, (sc,) = courier(peer.port, "sc", captures=5)
        node.deliver(sc)

    assert (len(peer.stored), peer.associations) == (5, 1)


def test_heatmaps_wait_for_the_report_and_follow_it_over_the_same_association(courier: MakeCourier) -> None:
    with pacs() as peer:
        node, (sr, sc) = courier(peer.port, "sr", "sc")

        assert (node.deliver(sc), peer.associations) == ([], 0)
        assert (node.deliver(sr), peer.associations) == ([], 1)

    assert [row.state for row in map(node.row, (sr, sc))] == [DeliveryState.STORED, DeliveryState.STORED]
    assert [data for _, _, data in peer.stored] == [encoded(node, "sr"), encoded(node, "sc")]


def test_heatmaps_are_sent_though_the_report_was_refused(courier: MakeCourier) -> None:
    with pacs(None, "", 0x0124) as peer:
        node, (sr, sc) = courier(peer.port, "sr", "sc")

        node.deliver(sr)

    assert [row.state for row in map(node.row, (sr, sc))] == [DeliveryState.REFUSED, DeliveryState.STORED]


def test_what_was_stored_is_not_sent_again(courier: MakeCourier) -> None:
    with pacs(None, "", 0x0000, 0xA700, 0x0000) as peer:
        node, (sc,) = courier(peer.port, "sc", captures=3)
        row = node.deliver_until_it_ends(sc)

    uids = [uid for uid, _, _ in peer.stored]
    assert (row.state, row.attempts, len(uids), len(set(uids))) == (DeliveryState.STORED, 2, 3, 3)


def test_a_delivery_is_one_event_of_the_audit_trail_when_it_has_ended(courier: MakeCourier) -> None:
    with pacs(None, "", 0x0124, 0x0000, 0xA700, 0x0000) as peer:
        node, (sr, sc) = courier(peer.port, "sr", "sc", captures=3)
        node.deliver_until_it_ends(sr)
        node.deliver_until_it_ends(sc)

    with transaction(node.engine) as session:
        told = [(row.details, row.outcome, row.draft or {}) for row in session.query(AuditEvent)]
    where = {"destination": "PACS"}
    assert [(details, outcome) for details, outcome, _ in told] == [
        ({"delivery": sr, "group": "sr", "state": "refused", "instances": 0} | where, 8),
        ({"delivery": sc, "group": "sc", "state": "stored", "instances": 3} | where, 0),
    ]
    assert told[1][2]["things"][0]["sop_classes"] == {SecondaryCaptureImageStorage: 3}
    assert told[1][2]["participants"][1]["ae_titles"] == ["PACS"]


def test_a_destination_that_the_settings_no_longer_name_is_told(courier: MakeCourier) -> None:
    node, (sr,) = courier(1, "sr")
    with transaction(node.engine) as session:
        session.get_one(Delivery, sr).destination = "ARCHIVE"

    node.deliver(sr)

    assert node.row(sr).state == DeliveryState.REFUSED
    assert node.row(sr).reason == "The settings name no destination 'ARCHIVE' any more."


def test_a_delivery_that_another_worker_has_is_left_alone(courier: MakeCourier) -> None:
    with pacs() as peer:
        node, (sr,) = courier(peer.port, "sr")
        with transaction(node.engine) as session:
            session.get_one(Delivery, sr).state = DeliveryState.SENDING
        node.deliver(sr)

    assert peer.associations == 0


def test_a_worker_that_stops_gives_the_delivery_back_without_an_attempt(courier: MakeCourier) -> None:
    with pacs() as peer:
        node, (sc,) = courier(peer.port, "sc", captures=3)
        node.stopping = True
        node.deliver(sc)

    row = node.row(sc)
    assert (row.state, row.attempts, row.lease_owner, peer.stored) == (DeliveryState.PENDING, 0, "", [])


def test_one_message_makes_a_courier_send_all_that_is_due_the_most_urgent_study_first(
    courier: MakeCourier,
) -> None:
    with pacs() as peer:
        node, patient = courier(peer.port, "sr", "sc")
        _, emergency = courier(peer.port, "sr", "sc", study_instance_uid="1.2.4")
        with transaction(node.engine) as session:
            for row_id in emergency:
                session.get_one(Delivery, row_id).priority = 0
        deliver_due(node.node)

    arrived = [uid for uid, _, _ in peer.stored]
    assert arrived == [sent(node.row(row_id)) for row_id in (*emergency, *patient)]


def sent(row: Delivery) -> str:
    """The instance that was sent."""
    (record,) = row.instances
    return str(record["sop_instance_uid"])
