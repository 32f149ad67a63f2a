"""What arrives: the bytes that were composed, in the class and transfer syntax that the peer takes."""

import os
import signal
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from db.models import DeliveryState, Output
from db.session import transaction
from db.work import DELIVERIES, take_back
from tests.couriers import (
    ALL,
    LIMITS,
    NOON,
    MakeCourier,
    deliver_in_a_process,
    dimse,
    encoded,
    pacs,
)


def test_a_stored_report_arrives_byte_for_byte(courier: MakeCourier) -> None:
    with pacs() as peer:
        node, (sr,) = courier(peer.port, "sr")
        node.deliver(sr)

    row = node.row(sr)
    assert (row.state, row.attempts, row.reason, row.finished_at) == (DeliveryState.STORED, 1, "", NOON)
    assert [record["status"] for record in row.instances] == ["0x0000"]
    assert [data for _, _, data in peer.stored] == [encoded(node, "sr")]


def test_a_compressed_capture_arrives_byte_for_byte_where_the_peer_takes_it(courier: MakeCourier) -> None:
    with pacs() as peer:
        node, (sc,) = courier(peer.port, "sc")
        node.deliver(sc)

    assert [(syntax, data) for _, syntax, data in peer.stored] == [(RLELossless, encoded(node, "sc"))]


def test_a_compressed_capture_is_decompressed_for_a_peer_that_takes_no_other(courier: MakeCourier) -> None:
    with pacs({SecondaryCaptureImageStorage: (ImplicitVRLittleEndian,)}) as peer:
        node, (sc,) = courier(peer.port, "sc")
        node.deliver(sc)

    uid, syntax, data = peer.stored[0]
    received = dcmread(DicomBytesIO(data), force=True)
    assert (node.row(sc).state, syntax) == (DeliveryState.STORED, ImplicitVRLittleEndian)
    assert received.PixelData == np.arange(16 * 16 * 3, dtype=np.uint16).astype(np.uint8).tobytes()
    assert received.SOPInstanceUID == uid == node.row(sc).instances[0]["sop_instance_uid"]


@pytest.mark.parametrize(
    ("taken", "group"),
    [
        ((EnhancedSRStorage, ComprehensiveSRStorage, Comprehensive3DSRStorage), "sr"),
        ((EnhancedSRStorage, ComprehensiveSRStorage), "sr-comp"),
        ((EnhancedSRStorage,), "sr-enh"),
    ],
)
def test_a_report_goes_in_the_best_class_that_the_peer_takes(
    courier: MakeCourier, taken: tuple[str, ...], group: str
) -> None:
    with pacs(dict.fromkeys(taken, ALL)) as peer:
        node, (sr,) = courier(peer.port, "sr")
        node.deliver(sr)

    assert (node.row(sr).state, node.row(sr).group) == (DeliveryState.STORED, group)
    assert [data for _, _, data in peer.stored] == [encoded(node, group)]


def test_a_destination_says_which_class_of_report_it_prefers(courier: MakeCourier) -> None:
    with pacs() as peer:
        node, (sr,) = courier(dimse(peer.port, report_classes=("enhanced", "comprehensive-3d")), "sr-enh")
        node.deliver(sr)

    assert (node.row(sr).state, node.row(sr).group) == (DeliveryState.STORED, "sr-enh")
    assert [data for _, _, data in peer.stored] == [encoded(node, "sr-enh")]


def test_a_class_that_the_destination_does_not_list_is_not_sent(courier: MakeCourier) -> None:
    with pacs(dict.fromkeys((Comprehensive3DSRStorage,), ALL)) as peer:
        node, (sr,) = courier(dimse(peer.port, report_classes=("comprehensive", "enhanced")), "sr-comp")
        node.deliver(sr)

    assert (node.row(sr).state, peer.stored) == (DeliveryState.REFUSED, [])


@pytest.mark.parametrize(("summary_page", "count"), [(True, 3), (False, 2)])
def test_the_summary_page_goes_where_it_is_wanted(
    courier: MakeCourier, summary_page: bool, count: int
) -> None:
    with pacs() as peer:
        node, (sc,) = courier(dimse(peer.port, summary_page=summary_page), "sc", captures=3)
        with transaction(node.engine) as session:
            page = session.query(Output).filter_by(group="sc").first()
            assert page is not None
            page.is_summary = True
        node.deliver(sc)

    assert (node.row(sc).state, len(peer.stored)) == (DeliveryState.STORED, count)
    assert (page.sop_instance_uid in {uid for uid, _, _ in peer.stored}) == summary_page


def test_the_class_of_a_report_never_changes_once_it_was_sent(courier: MakeCourier) -> None:
    with pacs(dict.fromkeys((ComprehensiveSRStorage,), ALL), "", 0xA700) as poor, pacs() as rich:
        node, (sr,) = courier(poor.port, "sr")
        node.deliver(sr)
        node.destination, node.now = dimse(rich.port), node.row(sr).due_at
        node.deliver(sr)

    assert node.row(sr).state == DeliveryState.STORED
    assert [data for _, _, data in rich.stored] == [encoded(node, "sr-comp")]


def test_the_class_of_a_report_is_in_its_row_before_the_first_byte_and_outlives_a_kill(
    courier: MakeCourier,
) -> None:
    with pacs(dict.fromkeys((EnhancedSRStorage,), ALL)) as poor, pacs() as rich:
        node, (sr,) = courier(poor.port, "sr")
        poor.on_first_data = lambda: os.kill(child.pid, signal.SIGKILL)
        child = deliver_in_a_process(node, sr)
        child.wait(60)
        killed = node.row(sr)
        node.destination, node.now = dimse(rich.port), datetime.now(UTC) + timedelta(hours=1)
        with transaction(node.engine) as session:
            assert take_back(session, DELIVERIES, node.now, LIMITS.max_attempts) == [sr]
        node.deliver(sr)

    assert (child.returncode, killed.state) == (-signal.SIGKILL, DeliveryState.SENDING)
    assert (killed.group, killed.instances) == ("sr-enh", [])
    assert [data for _, _, data in rich.stored] == [encoded(node, "sr-enh")]


def test_a_peer_that_takes_no_class_of_report_has_refused_it(courier: MakeCourier) -> None:
    with pacs({SecondaryCaptureImageStorage: ALL}) as peer:
        node, (sr,) = courier(peer.port, "sr")
        node.deliver(sr)

    assert node.row(sr).state == DeliveryState.REFUSED
    assert "accepts none of: Comprehensive 3D SR Storage" in node.row(sr).reason
