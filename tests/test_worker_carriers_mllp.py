"""HL7 messages on their way: to hl7apy's receiver, and to peers that answer what no good one does."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from sqlalchemy import select

from db.deliveries import next_step, retry
from db.models import Analysis, Delivery, DeliveryState, Study
from db.session import transaction
from db.withdrawals import withdraw_results
from lungnode.rejection import Title
from lungnode.settings import Hl7Destination, PeerTls
from tests.certificates import Authority
from tests.couriers import LIMITS, NOON, Courier, MakeCourier, hostile, output_of
from tests.mllp_peers import acknowledged, mllp_peer
from worker.answers import ASK, Meaning
from worker.carriers.mllp import acknowledgement


def ris(port: int, **values: Any) -> Hl7Destination:
    own = {"name": "PACS", "kind": "hl7", "host": "127.0.0.1", "port": port, "timeout_s": 20.0}
    return Hl7Destination(**(own | values))


def control_id(message: str) -> str:
    return message.split("|")[9]


def test_a_message_arrives_whole_and_in_utf_8(courier: MakeCourier) -> None:
    with mllp_peer() as peer:
        node, (row_id,) = courier(ris(peer.port), "hl7")
        node.deliver(row_id)

    row = node.row(row_id)
    assert (row.state, row.attempts, row.reason) == (DeliveryState.STORED, 1, "")
    assert peer.received == [row.message]
    assert "PID|1||P^^^^PI||Grün^Jérôme^^^^^^A" in row.message
    assert parse_message(row.message, validation_level=VALIDATION_LEVEL.STRICT).validate()
    assert row.instances[0]["message"] == control_id(row.message)


def test_every_attempt_sends_the_same_message_so_that_it_is_known_again(courier: MakeCourier) -> None:
    answers = [("AE", "207"), ("AA", "")]

    with mllp_peer(lambda message: acknowledged(message, *answers.pop(0))) as peer:
        node, (row_id,) = courier(ris(peer.port), "hl7")
        node.deliver(row_id)
        waiting = node.row(row_id)
        node.destination = ris(peer.port, receiving_facility="changed meanwhile")
        node.now = waiting.due_at
        node.deliver(row_id)

    assert (waiting.state, waiting.instances[0]["status"]) == (DeliveryState.PENDING, "AE 207")
    assert node.row(row_id).state == DeliveryState.STORED
    assert peer.received == [waiting.message] * 2


def test_a_refused_message_is_composed_anew_when_the_operator_tries_again(courier: MakeCourier) -> None:
    answers = [("AR", "201"), ("AA", "")]

    with mllp_peer(lambda message: acknowledged(message, *answers.pop(0))) as peer:
        node, (row_id,) = courier(ris(peer.port), "hl7")
        node.deliver(row_id)
        assert node.row(row_id).state == DeliveryState.REFUSED
        with transaction(node.engine) as session:
            retry(session, None, NOON)
        node.destination = ris(peer.port, receiving_facility="HOSP")
        node.deliver(row_id)

    first, second = peer.received
    assert node.row(row_id).state == DeliveryState.STORED
    assert (control_id(first), "|HOSP|" in second) == (control_id(second), True)


def test_the_text_of_a_message_is_in_its_row_before_its_first_byte(courier: MakeCourier) -> None:
    """So what follows an answer that never came is the same message."""
    with mllp_peer() as peer:
        node, (row_id,) = courier(ris(peer.port), "hl7")
        with hostile(lambda _connection: None) as port:
            node.destination = ris(port, timeout_s=0.3)
            node.deliver(row_id)
        sent = node.row(row_id).message
        node.destination, node.now = ris(peer.port), node.row(row_id).due_at
        node.deliver(row_id)

    assert peer.received == [sent]


@pytest.mark.parametrize(
    ("code", "error", "meaning"),
    [
        ("AA", "", Meaning.STORED),
        ("CA", "", Meaning.STORED),
        ("AE", "", Meaning.PUZZLED),
        ("AR", "", Meaning.REFUSED),
        ("CE", "", Meaning.PUZZLED),
        ("CR", "", Meaning.REFUSED),
        ("AE", "101", Meaning.REFUSED),
        ("AE", "207", Meaning.AGAIN),
        ("AR", "207", Meaning.AGAIN),
        ("AR", "206", Meaning.AGAIN),
        ("AE", "204", Meaning.AGAIN),
        ("AR", "205", Meaning.DUPLICATE),
        ("AE", "999", Meaning.PUZZLED),
    ],
)
def test_the_code_of_the_error_decides_where_there_is_one(code: str, error: str, meaning: Meaning) -> None:
    message = "MSH|^~\\&|LUNGNODE||RIS||20260304||ORU^R01^ORU_R01|ID1|P|2.5.1\r"
    framed = acknowledged(message, code, error, "no such patient")

    answer = acknowledgement(framed.strip("\x0b\x1c\r"), "ID1")

    assert answer.meaning is meaning
    assert answer.status == f"{code} {error}".strip()
    assert answer.comment.startswith("no such patient")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "HTTP/1.1 400 Bad Request",
        "MSH|^~\\&|RIS\rMSA|AA|ANOTHER",
        "MSH|^~\\&|RIS\rMSA|ZZ|ID1",
        "MSA|AA|ID1\rMSA|AR|ID1",
        "MSA",
        "MSA|" + "^" * 5000,
    ],
)
def test_what_acknowledges_nothing_of_ours_is_no_success(text: str) -> None:
    answer = acknowledgement(text, "ID1")

    assert (answer.status, answer.meaning) == ("", Meaning.AGAIN)


def test_state_reason_and_next_step_of_a_refusal(courier: MakeCourier) -> None:
    with mllp_peer(lambda message: acknowledged(message, "AE", "103", "bad sex")) as peer:
        node, (row_id,) = courier(ris(peer.port), "hl7")
        node.deliver(row_id)

    row = node.row(row_id)
    assert row.state == DeliveryState.REFUSED
    assert row.reason.startswith("The destination answered AE 103 (bad sex told the user) to message ")
    assert next_step(row, LIMITS.max_attempts) == f"{ASK} Then: lungnode deliveries retry {row_id}"


def say_half(connection: socket.socket) -> None:
    connection.sendall(b"\x0bMSH|^~\\&|RIS")


def babble(connection: socket.socket) -> None:
    for _ in range(100_000):
        connection.sendall(b"x" * 1000)


@pytest.mark.parametrize("behave", [say_half, babble, lambda connection: connection.shutdown(2)])
def test_a_peer_that_never_acknowledges_costs_one_attempt(courier: MakeCourier, behave: Any) -> None:
    with hostile(behave) as port:
        node, (row_id,) = courier(ris(port, timeout_s=0.5), "hl7")
        node.deliver(row_id)

    row = node.row(row_id)
    assert (row.state, row.attempts) == (DeliveryState.PENDING, 1)
    assert row.reason.startswith("No answer came to message ")


@pytest.mark.parametrize(("name", "state"), [("localhost", "stored"), ("elsewhere.example.org", "refused")])
def test_over_tls_the_receiver_s_certificate_has_to_be_good(
    courier: MakeCourier, tmp_path: Path, name: str, state: str
) -> None:
    authority = Authority(tmp_path / "ca")
    with mllp_peer(identity=authority.sign(name)) as peer:
        tls = PeerTls(authorities=authority.file, server_name="localhost")
        node, (row_id,) = courier(ris(peer.port, tls=tls), "hl7")
        node.deliver(row_id)

    assert (node.row(row_id).state, len(peer.received)) == (state, int(state == "stored"))
    assert ("TLS_WRONG_NAME" in node.row(row_id).reason) == (state == "refused")


def test_a_peer_that_is_down_or_speaks_no_tls_is_named(courier: MakeCourier, tmp_path: Path) -> None:
    node, (row_id,) = courier(ris(1), "hl7")
    node.deliver(row_id)
    down = node.row(row_id)
    with mllp_peer() as peer:
        tls = PeerTls(authorities=Authority(tmp_path / "ca").file)
        node.destination, node.now = ris(peer.port, tls=tls, timeout_s=1), down.due_at
        node.deliver(row_id)

    assert "cannot be reached" in down.reason
    assert "No TLS with Destination PACS" in node.row(row_id).reason


def add_revision(node: Courier) -> int:
    """The message of a second revision of the same study."""
    with transaction(node.engine) as session:
        study = session.query(Study).one()
        later = Analysis(study=study, revision=2, created_at=NOON, due_at=NOON)
        later.outputs = [output_of(node.folder, "sr")]
        session.add(later)
        session.flush()
        row = Delivery(analysis=later, destination="PACS", group="hl7", due_at=NOON, created_at=NOON)
        session.add(row)
        session.flush()
        return row.id


def test_the_message_of_an_earlier_revision_never_follows_that_of_a_later_one(courier: MakeCourier) -> None:
    with mllp_peer() as peer:
        node, (first,) = courier(ris(peer.port), "hl7")
        add_revision(node)
        node.deliver(first)

    row = node.row(first)
    assert (row.state, peer.received) == (DeliveryState.WITHDRAWN, [])
    assert row.reason == "Revision 2 of the study took its place before it was sent."


def test_a_later_revision_waits_for_an_earlier_message_that_is_on_its_way(courier: MakeCourier) -> None:
    with mllp_peer() as peer:
        node, (first,) = courier(ris(peer.port), "hl7")
        second = add_revision(node)
        with transaction(node.engine) as session:
            session.get_one(Delivery, first).state = DeliveryState.SENDING
        node.deliver(second)

    assert (node.row(second).state, node.row(second).attempts) == (DeliveryState.PENDING, 0)


def test_a_message_that_was_sent_is_taken_back_when_its_result_does_not_count_any_more(
    courier: MakeCourier,
) -> None:
    with mllp_peer() as peer:
        node, (sent,) = courier(ris(peer.port), "hl7")
        node.deliver(sent)
        (void,) = withdraw(node)
        second = add_revision(node)
        node.deliver(second)
        assert node.row(second).attempts == 0  # what is taken back comes first
        node.deliver(void)
        node.deliver(second)

    first, back, later = (fields(message) for message in peer.received)
    assert [node.row(each).state for each in (sent, void, second)] == ["stored"] * 3
    assert (first["OBR"][25], back["OBR"][25], later["OBR"][25]) == ("P", "X", "P")
    assert (first["OBX"][11], back["OBX"][11], later["OBX"][11]) == ("P", "W", "P")
    assert first["PID"] == back["PID"]
    assert first["OBR"][3] == back["OBR"][3]
    assert len({control_id(message) for message in peer.received}) == 3
    assert "Withdrawn, do not use: Wrong patient." in peer.received[1]


def test_a_message_that_never_went_is_not_taken_back(courier: MakeCourier) -> None:
    node, (waiting,) = courier(ris(1), "hl7")

    assert withdraw(node) == []
    assert node.row(waiting).state == DeliveryState.WITHDRAWN


def withdraw(node: Courier) -> list[int]:
    """Let the results not count any more; return the deliveries that tell so."""
    with transaction(node.engine) as session:
        before = set(session.scalars(select(Delivery.id)))
        study = session.query(Study).one()
        withdraw_results(session, node.node.settings, study, "Wrong patient.", Title.PATIENT_SAFETY, NOON)
        session.flush()
        return sorted(set(session.scalars(select(Delivery.id))) - before)


def fields(message: str) -> dict[str, list[str]]:
    """The fields of the first segment of each kind."""
    found: dict[str, list[str]] = {}
    for line in message.split("\r"):
        found.setdefault(line[:3], line.split("|"))
    return found


def test_a_study_without_a_report_has_no_message(courier: MakeCourier) -> None:
    node, (row_id,) = courier(ris(1), "hl7")
    with transaction(node.engine) as session:
        for output in session.query(Analysis).one().outputs:
            output.group = "pm"
    node.deliver(row_id)

    assert (
        node.row(row_id).reason
        == "The analysis has no report to make a message of, or its files are deleted."
    )
    assert json.dumps(node.row(row_id).instances) == "[]"
