"""Results by STOW-RS: to Orthanc, and to servers that answer what no good one does."""

import json
import socket
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from db.deliveries import next_step
from db.models import Delivery, DeliveryState, Output
from db.session import transaction
from lungnode.settings import StowDestination
from tests.couriers import LIMITS, MakeCourier, hostile
from tests.orthanc import Orthanc, running_orthanc
from tests.web_peers import Reply, Request, Script, web_peer

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def stow(url: str, **values: Any) -> StowDestination:
    return StowDestination(**({"name": "PACS", "kind": "stow", "url": url, "timeout_s": 20.0} | values))


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if not PLUGIN.exists():
        pytest.skip("Orthanc's DICOMweb plug-in is absent: apt install orthanc-dicomweb")
    web = {"Enable": True, "Root": "/dicom-web/"}
    with running_orthanc(tmp_path_factory.mktemp("orthanc"), Plugins=[str(PLUGIN)], DicomWeb=web) as running:
        yield running


def test_orthanc_holds_the_composed_files_byte_for_byte_however_often_they_are_sent(
    courier: MakeCourier, orthanc: Orthanc, tmp_path: Path
) -> None:
    node, (sr, sc) = courier(stow(f"http://127.0.0.1:{orthanc.http_port}/dicom-web"), "sr", "sc", captures=2)
    node.deliver(sr)
    with transaction(node.engine) as session:  # as after a courier that was killed behind the answers
        row = session.get_one(Delivery, sc)
        row.state, row.instances = DeliveryState.PENDING, []
    node.deliver(sc)

    assert [node.row(each).state for each in (sr, sc)] == [DeliveryState.STORED, DeliveryState.STORED]
    held = sorted(orthanc.file(each) for each in orthanc.get("instances"))
    with transaction(node.engine) as session:
        sent = session.query(Output).filter(Output.group.in_(["sr", "sc"]))
        assert held == sorted((tmp_path / "outputs" / output.path).read_bytes() for output in sent)


def instance_in(request: Request) -> Dataset:
    """The data set that a request brings, found by the standard library. Source: PS3.18 8.7.3."""
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    _, part = message_from_bytes(head + request.body).walk()
    content = part.get_payload(decode=True)
    assert part.get_content_type() == "application/dicom"
    assert isinstance(content, bytes)
    return dcmread(DicomBytesIO(content))


def told(request: Request, code: int = 200, *, failure: int = 0, warning: int = 0) -> Reply:
    """The answer of a server to one instance. Source: PS3.18 Annex I, PS3.18 F for the form."""
    instance = instance_in(request)
    item: dict[str, Any] = {
        "00081150": {"vr": "UI", "Value": [str(instance.SOPClassUID)]},
        "00081155": {"vr": "UI", "Value": [str(instance.SOPInstanceUID)]},
    }
    if failure:
        item["00081197"] = {"vr": "US", "Value": [failure]}
    if warning:
        item["00081196"] = {"vr": "US", "Value": [warning]}
    sequence = "00081198" if failure else "00081199"
    body = json.dumps({sequence: {"vr": "SQ", "Value": [item]}}).encode()
    return Reply(code, body, {"Content-Type": "application/dicom+json"})


def outcome(courier: MakeCourier, script: Script) -> Delivery:
    """Send a report to a server that follows a script; return the row."""
    with web_peer(script) as server:
        node, (sr,) = courier(stow(server.url("/dicom-web")), "sr")
        node.deliver(sr)
    return node.row(sr)


@pytest.mark.parametrize(
    ("code", "failure", "warning", "state", "status"),
    [
        (200, 0, 0, "stored", "0x0000"),
        (202, 0, 0xB000, "stored", "0xB000"),
        (202, 0xA700, 0, "pending", "0xA700"),
        (409, 0xA700, 0, "pending", "0xA700"),
        (409, 0xA900, 0, "refused", "0xA900"),
        (409, 0x0122, 0, "refused", "0x0122"),
        (409, 0xC000, 0, "pending", "0xC000"),
        (409, 0x0110, 0, "pending", "0x0110"),
    ],
)
def test_the_answer_says_of_each_instance_what_became_of_it(
    courier: MakeCourier, code: int, failure: int, warning: int, state: str, status: str
) -> None:
    def script(request: Request) -> Reply:
        return told(request, code, failure=failure, warning=warning)

    row = outcome(courier, script)

    assert (row.state, row.instances[0]["status"]) == (state, status)


def test_one_instance_that_is_refused_leaves_the_others_their_way(courier: MakeCourier) -> None:
    seen: list[str] = []

    def script(request: Request) -> Reply:
        seen.append(str(instance_in(request).SOPInstanceUID))
        return told(request, 409, failure=0xA900) if len(seen) == 2 else told(request)

    with web_peer(script) as server:
        node, (sc,) = courier(stow(server.url()), "sc", captures=3)
        node.deliver(sc)

    row = node.row(sc)
    assert (row.state, len(set(seen))) == (DeliveryState.REFUSED, 3)
    assert [record["status"] for record in row.instances] == ["0x0000", "0xA900", "0x0000"]


def test_a_server_that_does_not_take_the_transfer_syntax_gets_the_pixels_decompressed(
    courier: MakeCourier,
) -> None:
    syntaxes: list[str] = []

    def script(request: Request) -> Reply:
        syntaxes.append(instance_in(request).file_meta.TransferSyntaxUID)
        return told(request, 409, failure=0xC122) if syntaxes[-1] == RLELossless else told(request)

    with web_peer(script) as server:
        node, (sc,) = courier(stow(server.url()), "sc")
        node.deliver(sc)

    assert node.row(sc).state == DeliveryState.STORED
    assert syntaxes == [RLELossless, ExplicitVRLittleEndian]


PAGE = Reply(200, b"<html>Please sign in</html>", {"Content-Type": "text/html"})


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200),
        PAGE,
        Reply(200, b"{", {"Content-Type": "application/dicom+json"}),
        Reply(200, b'{"00081199": 7}', {"Content-Type": "application/dicom+json"}),
        Reply(200, b"{}", {"Content-Type": "application/dicom+json"}),
        Reply(200, bytes(5_000_000), {"Content-Type": "application/dicom+json"}),
    ],
)
def test_a_success_that_names_no_instance_is_none(courier: MakeCourier, reply: Reply) -> None:
    row = outcome(courier, lambda _request: reply)

    assert (row.state, row.attempts) == (DeliveryState.PENDING, 1)


@pytest.mark.parametrize(
    ("reply", "state", "said", "advice"),
    [
        (Reply(401), "pending", "answered HTTP 401", "Renew the token or the password"),
        (Reply(403), "refused", "answered HTTP 403", "Let the peer allow this account to store."),
        (Reply(404), "refused", "answered HTTP 404", "Correct the url"),
        (Reply(301, headers={"Location": "/"}), "refused", "answered HTTP 301", "Correct the url"),
        (Reply(400, b"no"), "refused", "HTTP 400 (no)", "Ask who runs the peer"),
        (Reply(409, b"no"), "refused", "HTTP 409 (no)", "Ask who runs the peer"),
        (Reply(415), "refused", "HTTP 415", "Ask who runs the peer"),
        (Reply(429), "pending", "answered HTTP 429", "See what keeps the peer busy"),
        (Reply(500, b"oops"), "pending", "HTTP 500 (oops)", "Ask who runs the peer"),
        (Reply(503), "pending", "answered HTTP 503", "See what keeps the peer busy"),
    ],
)
def test_an_error_of_http_is_transient_or_for_good_and_comes_with_advice(
    courier: MakeCourier, reply: Reply, state: str, said: str, advice: str
) -> None:
    row = outcome(courier, lambda _request: reply)

    step = next_step(row, LIMITS.max_attempts)
    assert (row.state, said in row.reason, advice in step) == (state, True, True)


def test_what_was_stored_before_the_server_went_away_is_not_sent_again(courier: MakeCourier) -> None:
    seen: list[Request] = []

    def script(request: Request) -> Reply:
        seen.append(request)
        return Reply(503) if len(seen) == 3 else told(request)

    with web_peer(script) as server:
        node, (sc,) = courier(stow(server.url()), "sc", captures=3)
        row = node.deliver_until_it_ends(sc)

    sent = [instance_in(request).SOPInstanceUID for request in seen]
    assert (row.state, row.attempts) == (DeliveryState.STORED, 2)
    assert (len(sent), len(set(sent))) == (4, 3)


def drip(connection: socket.socket) -> None:
    """Answer byte by byte, for ever."""
    for _ in range(1000):
        connection.sendall(b"H")
        sleep(0.05)


@pytest.mark.parametrize("behave", [drip, lambda _connection: None])
def test_a_server_that_never_finishes_costs_one_attempt(courier: MakeCourier, behave: Any) -> None:
    with hostile(behave) as port:
        node, (sr,) = courier(stow(f"http://127.0.0.1:{port}", timeout_s=0.5), "sr")
        node.deliver(sr)

    row = node.row(sr)
    assert (row.state, row.attempts) == (DeliveryState.PENDING, 1)
    assert ("took longer than" in row.reason) or ("gave no answer in time" in row.reason)


def test_a_server_that_is_down_is_tried_again(courier: MakeCourier) -> None:
    node, (sr,) = courier(stow("http://127.0.0.1:1"), "sr")
    node.deliver(sr)

    assert (node.row(sr).state, node.row(sr).attempts) == (DeliveryState.PENDING, 1)
    assert "cannot be reached" in node.row(sr).reason
