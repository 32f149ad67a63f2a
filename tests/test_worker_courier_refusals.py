"""What an operator is told of each way in which a PACS takes nothing: state, reason and next step."""

import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import Dataset

from db.deliveries import next_step
from db.models import Delivery, DeliveryState
from tests.couriers import LIMITS, Courier, MakeCourier, dimse, hostile, pacs
from tests.nodes import stop, wait_for
from tests.orthanc import free_port, running_orthanc
from tests.query_peers import dcmtk_pacs
from worker.answers import ASK

AGAIN = "It is tried again at 2026-01-02 12:00:05 UTC, attempt 2 of 4. "
ABORTED = f"{ASK} Some abort where they do not know our AE title."
BUSY = "See what keeps the peer busy, or raise timeout_s."
ONE_CLASS = """
[[TransferSyntaxes]]
[Uncompressed]
TransferSyntax1 = LittleEndianExplicit
[[PresentationContexts]]
[Images]
PresentationContext1 = CTImageStorage\\Uncompressed
[[Profiles]]
[Images]
PresentationContexts = Images
"""


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[int]:
    """Run DCMTK's Storage SCP while the block runs; gives its port."""
    program = shutil.which("storescp")
    if program is None:
        pytest.skip("DCMTK is absent: apt install dcmtk")
    port = free_port()
    process = subprocess.Popen((program, "-od", str(folder), *options, str(port)))
    try:
        wait_for(lambda: _listens(port), what="storescp")
        yield port
    finally:
        stop(process)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def told(node: Courier, row_id: int) -> tuple[str, str, str]:
    """Return state, reason and next step."""
    row: Delivery = node.row(row_id)
    return row.state, row.reason, next_step(row, LIMITS.max_attempts)


def refused(row_id: int, advice: str) -> str:
    return f"{advice} Then: lungnode deliveries retry {row_id}"


def test_a_pacs_that_has_another_ae_title(courier: MakeCourier, tmp_path: Path) -> None:
    with dcmtk_pacs(tmp_path / "pacs") as peer:
        node, (sr,) = courier(dimse(peer.port, ae_title="PASC"), "sr")
        node.deliver(sr)

    state, reason, step = told(node, sr)
    assert state == DeliveryState.REFUSED
    assert (
        "rejected the association: called AE title not recognized (result 1, source 1, reason 7)." in reason
    )
    assert step == refused(sr, "Correct ae_title: the peer does not answer to PASC.")


def test_an_orthanc_that_does_not_know_our_ae_title(courier: MakeCourier, tmp_path: Path) -> None:
    """It accepts the association and aborts it at the first C-STORE."""
    with running_orthanc(tmp_path, DicomAlwaysAllowStore=False) as orthanc:
        node, (sr,) = courier(dimse(orthanc.dicom_port, ae_title="ORTHANC"), "sr")
        node.deliver(sr)

    state, reason, step = told(node, sr)
    assert (state, step) == (DeliveryState.PENDING, AGAIN + ABORTED)
    assert reason.endswith(": the peer aborted the association.")


def test_a_pacs_that_refuses_without_a_reason(courier: MakeCourier, tmp_path: Path) -> None:
    with storescp(tmp_path, "--refuse") as port:
        node, (sr,) = courier(port, "sr")
        node.deliver(sr)

    state, reason, step = told(node, sr)
    assert state == DeliveryState.REFUSED
    assert "rejected the association: no reason given (result 1, source 1, reason 1)." in reason
    assert step == refused(sr, "Ask who runs the peer: its log says why it rejects LUNGNODE.")


def test_a_pacs_that_takes_no_class_of_report(courier: MakeCourier, tmp_path: Path) -> None:
    (tmp_path / "classes.cfg").write_text(ONE_CLASS)
    with storescp(tmp_path, "-xf", str(tmp_path / "classes.cfg"), "Images") as port:
        node, (sr,) = courier(port, "sr")
        node.deliver(sr)

    state, reason, step = told(node, sr)
    assert state == DeliveryState.REFUSED
    assert "accepts none of: Comprehensive 3D SR Storage, Comprehensive SR Storage, Enhanced SR" in reason
    assert step == refused(sr, "Let the peer accept one of them.")


def test_a_pacs_that_cannot_write(courier: MakeCourier, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    with storescp(tmp_path / "gone") as port:
        (tmp_path / "gone").rmdir()
        node, (sr,) = courier(port, "sr")
        node.deliver(sr)

    state, reason, step = told(node, sr)
    assert (state, step) == (DeliveryState.PENDING, AGAIN + "Make room at the peer.")
    assert reason.startswith("The destination answered 0xA700 to instance ")


def test_a_pacs_that_cannot_understand_has_three_tries(courier: MakeCourier) -> None:
    answer = Dataset()
    answer.Status, answer.ErrorComment = 0xC000, "cannot parse"
    with pacs(None, "", *[answer] * 3) as peer:
        node, (sr,) = courier(peer.port, "sr")
        node.deliver(sr)
        first = told(node, sr)
        node.deliver_until_it_ends(sr)

    state, reason, step = told(node, sr)
    assert (first[0], first[2]) == (DeliveryState.PENDING, AGAIN + ASK)
    assert (state, step) == (DeliveryState.REFUSED, refused(sr, ASK))
    assert reason.startswith("The destination answered 0xC000 (cannot parse) to instance ")


@pytest.mark.parametrize("option", ["--abort-during", "--abort-after"])
def test_a_pacs_that_aborts_mid_way(courier: MakeCourier, tmp_path: Path, option: str) -> None:
    with storescp(tmp_path, option) as port:
        node, (sr,) = courier(port, "sr")
        node.deliver(sr)

    state, reason, step = told(node, sr)
    assert (state, step) == (DeliveryState.PENDING, AGAIN + ABORTED)
    assert reason.startswith("No answer came to instance ")
    assert reason.endswith(": the peer aborted the association.")


def test_a_pacs_that_accepts_and_never_answers(courier: MakeCourier, tmp_path: Path) -> None:
    with storescp(tmp_path, "--sleep-during", "60") as port:
        node, (sr,) = courier(dimse(port, timeout_s=3.0), "sr")
        node.deliver(sr)

    state, reason, step = told(node, sr)
    assert (state, step) == (
        DeliveryState.PENDING,
        AGAIN + "See what keeps the peer busy, or raise timeout_s.",
    )
    assert reason.endswith(": nothing came within 3 s.")


def test_a_pacs_that_takes_the_connection_and_says_nothing(courier: MakeCourier) -> None:
    with hostile(lambda _connection: None) as port:
        node, (sr,) = courier(dimse(port, timeout_s=0.5), "sr")
        node.deliver(sr)

    state, reason, step = told(node, sr)
    assert (state, step) == (DeliveryState.PENDING, AGAIN + "See what keeps the peer busy.")
    assert reason.endswith("accepted no association within 0.5 s.")


@pytest.mark.parametrize(
    ("result", "source", "reason", "state", "advice"),
    [
        # Transient by its nature, though the peer says permanent: DCMTK does when it cannot fork.
        (1, 3, 1, DeliveryState.PENDING, "Nothing needs to be done unless it stays so"),
        (2, 3, 2, DeliveryState.PENDING, "Nothing needs to be done unless it stays so"),
        (2, 1, 1, DeliveryState.PENDING, "Ask who runs the peer: its log says why it rejects LUNGNODE."),
        (2, 1, 3, DeliveryState.PENDING, "Let the peer know the AE title LUNGNODE at our address."),
        (1, 1, 3, DeliveryState.REFUSED, "Let the peer know the AE title LUNGNODE at our address."),
        # Permanent by its nature, though the peer says transient.
        (2, 2, 2, DeliveryState.REFUSED, "See that host and port are those of a DICOM application"),
        (2, 1, 2, DeliveryState.REFUSED, "See that host and port are those of a DICOM application"),
    ],
)
def test_a_rejection_is_judged_by_source_and_reason_where_the_result_alone_would_mislead(
    courier: MakeCourier, result: int, source: int, reason: int, state: DeliveryState, advice: str
) -> None:
    with hostile(lambda connection: reject(connection, result, source, reason)) as port:
        node, (sr,) = courier(port, "sr")
        node.deliver(sr)

    found, text, step = told(node, sr)
    assert (found, advice in step) == (state, True)
    assert f"(result {result}, source {source}, reason {reason})." in text


@pytest.mark.parametrize(("source", "reason"), [(3, 7), (1, 9), (9, 9)])
def test_a_rejection_that_the_standard_does_not_know_costs_one_attempt(
    courier: MakeCourier, source: int, reason: int
) -> None:
    with hostile(lambda connection: reject(connection, 2, source, reason)) as port:
        node, (sr,) = courier(port, "sr")
        node.deliver(sr)

    row = node.row(sr)
    assert (row.state, row.attempts) == (DeliveryState.PENDING, 1)
    assert f"does not know (result 2, source {source}, reason {reason})." in row.reason


def reject(connection: socket.socket, result: int, source: int, reason: int) -> None:
    """Send an A-ASSOCIATE-RJ. Source: PS3.8 Table 9-21."""
    head = connection.recv(6, socket.MSG_WAITALL)
    connection.recv(struct.unpack(">L", head[2:])[0], socket.MSG_WAITALL)
    connection.sendall(struct.pack(">BxLxBBB", 3, 4, result, source, reason))
